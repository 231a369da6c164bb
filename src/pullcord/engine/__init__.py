"""The server's side of running: worker processes, dispatch, the journal of what workers report."""

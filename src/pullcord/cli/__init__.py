"""The command line: thin commands that speak to the API, or run the same app in-process when no server is up."""

"""What keeps a queued run from starting besides slots and room: its flow is paused, or its time to start is over."""

from __future__ import annotations

from pullcord.store.transaction import Transaction

_GOES_ON = " AND flow NOT IN (SELECT flow FROM pauses)"
_IN_TIME = " AND (expires_at IS NULL OR started_at IS NOT NULL OR expires_at > :now)"


def startable(tx: Transaction, statement: str) -> str:
    """Return a statement that looks for queued runs, with the conditions put in for its `{also}`.

    What nobody uses costs nothing: there are none where no flow is paused and no run may expire.
    """
    also = (_GOES_ON if tx.hints.paused else "") + (_IN_TIME if tx.hints.expires else "")
    return statement.format(also=also)

"""A flow behind a webhook."""

from __future__ import annotations

import pullcord as pc


@pc.flow(triggers=[pc.webhook("orders", secret="env:PULLCORD_TEST_HOOK")], concurrency=None)
async def ship(order: int) -> int:
    return order

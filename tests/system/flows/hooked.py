"""A flow behind a webhook."""

import pullcord as pc


@pc.flow(triggers=[pc.webhook("orders", secret="env:ORDERS_SECRET")], concurrency=None)
async def order(number: int) -> int:
    return number

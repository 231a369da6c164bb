"""All items of a list, page after page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from pullcord.client.calls import Page


def pages(fetch: Callable[..., Page], filters: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what a `list` shows under these filters, 200 items a page unless they have a `limit`."""
    cursor = filters.pop("cursor", None)
    limit = filters.pop("limit", 200)
    while True:
        page = fetch(**filters, limit=limit, cursor=cursor)
        yield from page
        if page.next is None:
            return
        cursor = page.next


async def pages_async(fetch: Callable[..., Awaitable[Page]], filters: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Yield the same of an async `list`."""
    cursor = filters.pop("cursor", None)
    limit = filters.pop("limit", 200)
    while True:
        page = await fetch(**filters, limit=limit, cursor=cursor)
        for item in page:
            yield item
        if page.next is None:
            return
        cursor = page.next

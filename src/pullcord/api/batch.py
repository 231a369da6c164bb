"""`POST /v1/runs/batch`: many intents in one call, each decided on by itself."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import Any, Final

from fastapi import Request
from uuid_utils import uuid7

from pullcord.api.admission import InvalidBodyError, parse, read_body, refuse, source_of
from pullcord.api.models import BatchRequest, RunRequest
from pullcord.api.problems import unexpected
from pullcord.app import App
from pullcord.core.errors import PullcordError, UsageError
from pullcord.core.states import Outcome
from pullcord.gate.request import Invoker, Receipt

SLICE: Final = 100
"""How many requests of a batch are taken up at once."""

_BEGIN: Final = re.compile(rb'\s*\{\s*"requests"\s*:\s*\[')
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[][{},]', re.DOTALL)
_END: Final = re.compile(rb"\s*\}\s*\Z")


async def submit_batch(app: App, request: Request, invoker: Invoker) -> list[Receipt]:
    """Submit the requests of a batch and return their receipts in order.

    Raises:
        PullcordError: the batch as a whole cannot be read, or nothing of it could be written.
    """
    source = source_of(request.scope)
    failures: list[Exception] = []

    async def submit(item: Any) -> Receipt:
        try:
            wanted = parse(RunRequest, item).trigger_request(invoker, source, None)
        except (InvalidBodyError, UsageError) as error:
            return await guarded(refuse(app, invoker, source, error), None, "")
        return await guarded(app.gate.submit(wanted), wanted.request_id, wanted.flow)

    async def guarded(work: Coroutine[Any, Any, Receipt], request_id: str | None, flow: str) -> Receipt:
        """Keep what goes wrong with one request from its neighbours."""
        try:
            return await work
        except PullcordError as error:
            failures.append(error)
            return Receipt(request_id or str(uuid7()), Outcome.ERRORED, error.message, error.code, flow)
        except Exception as error:
            failures.append(error)
            request_id = request_id or str(uuid7())
            _, reason = unexpected(error, "a request of a batch failed", request_id=request_id, flow=flow)
            return Receipt(request_id, Outcome.ERRORED, reason, "internal_error", flow)

    items = await _items(await read_body(request.scope, request.receive))
    tasks: list[asyncio.Task[Receipt]] = []
    for start in range(0, len(items), SLICE):
        tasks += [asyncio.create_task(submit(item)) for item in items[start : start + SLICE]]
        # Let the slice go on its way: its inputs are validated in another process while the next one is read.
        await asyncio.sleep(0)
    receipts = list(await asyncio.gather(*tasks))
    if len(failures) == len(receipts):
        raise failures[0]
    return receipts


async def _items(body: bytes) -> list[Any]:
    """Return the requests of a batch, read; or, where not all of them can be read, each as its own JSON text.

    A lone surrogate, a number of 5,000 digits or a hundred thousand brackets in one request makes the whole body
    unreadable, and is no fault of its neighbours.
    """
    try:
        return parse(BatchRequest, body).requests
    except InvalidBodyError:
        texts = await asyncio.to_thread(cut, body)
        if texts is None:
            raise
        return parse(BatchRequest, {"requests": texts}).requests


def cut(body: bytes) -> list[bytes] | None:
    """Cut `{"requests": […]}` into its items without reading them; None when it is not that."""
    begin = _BEGIN.match(body)
    if begin is None:
        return None
    items: list[bytes] = []
    start, depth = begin.end(), 0
    for token in _TOKEN.finditer(body, start):
        mark = token[0]
        if mark in b"[{":
            depth += 1
        elif mark in b"]}":
            depth -= 1
        if depth < 0 or (depth == 0 and mark == b","):
            items.append(body[start : token.start()].strip())
            start = token.end()
        if depth < 0:
            return items if mark == b"]" and all(items) and _END.match(body, start) else None
    return None

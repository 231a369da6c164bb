"""What triggers enqueue into: the gate, from any thread."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from pullcord.core.errors import PullcordRuntimeError
from pullcord.gate.gate import Gate
from pullcord.gate.request import MANUAL, OWNER, Invoker, Receipt, RefusedError, TriggerRef, TriggerRequest


class Scheduler:
    """Hands requests to the gate of a running app.

    Args:
        gate: the gate.
        loop: the app's event loop; the caller is on its thread.
    """

    def __init__(self, gate: Gate, loop: asyncio.AbstractEventLoop) -> None:
        self._gate = gate
        self._loop = loop
        self._thread = threading.get_ident()

    def enqueue(
        self,
        flow: str,
        params: dict[str, Any] | None = None,
        idempotency_key: str | None = None,
        *,
        trigger: TriggerRef = MANUAL,
        invoker: Invoker = OWNER,
    ) -> Receipt:
        """Ask for a run and block until the answer is durable. For threads other than the event loop's own.

        Raises:
            PullcordRuntimeError: called on the event loop's own thread, or the app has stopped.
            RefusedError: nothing was admitted.
        """
        if threading.get_ident() == self._thread:
            raise PullcordRuntimeError(
                "enqueue blocks, and this is the event loop's own thread; use `await app.run(...)`"
            )
        if self._loop.is_closed():
            raise PullcordRuntimeError("the app has stopped")
        request = TriggerRequest(
            flow=flow,
            inputs={} if params is None else params,
            invoker=invoker,
            source="python",
            trigger=trigger,
            idempotency_key=idempotency_key,
        )
        receipt = asyncio.run_coroutine_threadsafe(self._gate.submit(request), self._loop).result()
        if receipt.refused:
            raise RefusedError(receipt)
        return receipt

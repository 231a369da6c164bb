"""The manual trigger: a program that pulls the cord itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pullcord.core.errors import PullcordRuntimeError
from pullcord.triggers.scheduler import Scheduler


class ManualTrigger:
    """The trigger of explicit callers. It waits for nothing and serves no routes; `enqueue` is all it does."""

    kind = "manual"

    def __init__(self) -> None:
        self._scheduler: Scheduler | None = None

    def init(self, deps: Mapping[str, Any]) -> None:
        """Take the scheduler from `deps["scheduler"]` (an `App`'s `scheduler`).

        Raises:
            PullcordRuntimeError: there is none.
        """
        scheduler = deps.get("scheduler")
        if scheduler is None:
            raise PullcordRuntimeError('ManualTrigger needs deps["scheduler"]; pass {"scheduler": app.scheduler}')
        self._scheduler = scheduler

    def start(self) -> None:
        """Nothing to begin: callers come by themselves."""

    def stop(self) -> None:
        """Nothing to end."""

    def routes(self) -> list[Any]:
        """Return no routes."""
        return []

    def enqueue(self, flow: str, params: dict[str, Any] | None = None, idempotency_key: str | None = None) -> str:
        """Ask for a run; return its id when it is durable.

        Raises:
            PullcordRuntimeError: before `init`, or on the event loop's own thread.
            RefusedError: nothing was admitted; `code` and `receipt` say why.
        """
        if self._scheduler is None:
            raise PullcordRuntimeError("call init() before enqueue()")
        receipt = self._scheduler.enqueue(flow, params, idempotency_key)
        if receipt.run_id is None:
            raise PullcordRuntimeError(f"the request was {receipt.outcome} without a run")
        return receipt.run_id

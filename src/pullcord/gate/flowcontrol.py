"""What people do with flows at run time: pause them, and let them go on."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from pullcord.clock import Clock, microseconds
from pullcord.core.errors import ForbiddenError, UnavailableError, UsageError
from pullcord.engine.engine import Engine
from pullcord.engine.pauses import Pauses
from pullcord.failpoints import hit
from pullcord.gate.policy import Policy
from pullcord.gate.request import OWNER, Invoker
from pullcord.store.commands.pauses import PauseFlow, ResumeFlow
from pullcord.store.store import Store

LONGEST_REASON = 1000
"""No reason has more characters."""


class FlowControl:
    """Pauses flows and resumes them, for callers with permissions.

    Args:
        store: where that is written.
        engine: knows the flows.
        pauses: what the server knows of pauses.
        policy: knows who may.
        clock: the time.
    """

    def __init__(self, store: Store, engine: Engine, pauses: Pauses, policy: Policy, clock: Clock) -> None:
        self._store = store
        self._engine = engine
        self._pauses = pauses
        self._policy = policy
        self._clock = clock

    def paused(self, flow: str) -> dict[str, Any] | None:
        """Return the pause of a flow, `{"by", "at", "reason", "until"}`, or None."""
        return self._pauses.shown(flow)

    async def pause(
        self, flow: str, reason: str, until: datetime | int | None = None, invoker: Invoker = OWNER
    ) -> dict[str, Any] | None:
        """Pause a flow; return the pause. A flow that is paused is paused anew, with this reason and end.

        From when this returns on, requests for the flow are refused with `flow_paused`, and what waits of it does not
        start. What runs goes on.

        Args:
            flow: the flow's name.
            reason: why; everybody who is refused reads it.
            until: when the pause ends by itself, an aware datetime or microseconds; never unless given.
            invoker: who pauses it.

        Raises:
            NotFoundError: there is no such flow.
            UsageError: there is no reason, or the end has passed.
            ForbiddenError: the invoker may not.
        """
        await self._check(flow, invoker)
        reason = " ".join(reason.replace("\0", " ").split())
        if not reason or len(reason) > LONGEST_REASON:
            raise UsageError(f"say why {flow} is paused, in 1 to {LONGEST_REASON} characters")
        if isinstance(until, datetime):
            if until.tzinfo is None:
                raise UsageError(f"the time {until} has no zone; use an aware datetime, such as datetime.now(UTC)")
            until = microseconds(until)
        if until is not None and until <= self._clock.now():
            raise UsageError("until has passed already; give a time to come, or none for a pause without an end")
        await self._write(lambda done: PauseFlow(flow, invoker.id, reason, until, done))
        self._engine.deadlines.expect(until)
        return self.paused(flow)

    async def resume(self, flow: str, invoker: Invoker = OWNER) -> bool:
        """Let a flow go on; say whether it was paused.

        Raises:
            NotFoundError: there is no such flow.
            ForbiddenError: the invoker may not.
        """
        await self._check(flow, invoker)
        return bool(await self._write(lambda done: ResumeFlow(flow, invoker.id, done)))

    async def _write(self, command: Callable[[Callable[[Any], None]], Any]) -> Any:
        hit("pause.before_write")
        result = await self._store.write(command)
        hit("pause.after_write")
        await self._pauses.load()
        return result

    async def _check(self, flow: str, invoker: Invoker) -> None:
        if not self._policy.may(invoker, "pause", flow):
            raise ForbiddenError(f"{invoker.id} may not pause {flow}, or let it go on")
        try:
            await self._engine.catalog.resolve(flow)
        except UnavailableError:
            return  # its file is broken just now, which may well be why it is to be paused

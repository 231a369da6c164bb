"""Pauses of flows: a flow that is paused admits nothing, and what waits of it does not start.

Whether a flow is paused is decided from the rows of `pauses` alone, in the transaction that admits or claims. Its runs
keep their slots and their places; only those without a limit leave their lane, so that a claim need not walk past them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from pydantic_core import from_json

from pullcord.clock import rfc3339
from pullcord.core.errors import NotFoundError, StoreError
from pullcord.core.manifest import ISOLATED, PAUSED, FlowSpec, lane
from pullcord.store.commands.attempts import RETRY_TEXT
from pullcord.store.statement import dump
from pullcord.store.transaction import Transaction

SYSTEM: Final = "system"
"""Who does what nobody asked for: suspends a flow, ends a pause whose time is over, lets a run expire."""

_PAUSE = """
INSERT INTO pauses (flow, at, until, invoker, reason) VALUES (:flow, :now, :until, :invoker, :reason)
ON CONFLICT (flow) DO UPDATE SET at = excluded.at, until = excluded.until, invoker = excluded.invoker,
    reason = excluded.reason"""
_AUDIT = """
INSERT INTO audit (id, at, invoker, action, detail) VALUES (:id, :now, :invoker, :action, :detail)"""
_RETRIES = f"state = 'scheduled' AND waiting_for LIKE '{RETRY_TEXT}%'"
_PAUSES = "SELECT EACH[flow, at, until, invoker, reason] FROM pauses"
# What waits for its next attempt waits for that first, and says so also when the pause has ended.
_ASIDE = f"""
UPDATE runs INDEXED BY runs_state SET waiting_for = CASE WHEN {_RETRIES} THEN waiting_for ELSE :why END,
    lane = CASE WHEN slot IS NULL AND state = 'queued' THEN :lane ELSE lane END
WHERE state IN ('scheduled', 'queued') AND flow = :flow AND lane NOT LIKE '%#removed'"""
_BACK = f"""
UPDATE runs INDEXED BY runs_state SET waiting_for = CASE WHEN {_RETRIES} THEN waiting_for END,
    lane = CASE WHEN lane <> :paused THEN lane WHEN losses > 0 THEN :isolated ELSE :lane END
WHERE state IN ('scheduled', 'queued') AND flow = :flow AND lane NOT LIKE '%#removed'"""
_SLOTS = """
SELECT EACH[lane, slot, priority] FROM (SELECT lane, slot, max(priority) AS priority FROM runs INDEXED BY runs_state
    WHERE state = 'queued' AND flow = :flow AND slot IS NOT NULL GROUP BY lane, slot ORDER BY min(id)) AS found"""


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause of a flow.

    Attributes:
        flow: the flow's name.
        at: since when, microseconds.
        until: when it ends by itself, microseconds; None for never.
        invoker: who paused it.
        reason: why, in that one's words.
    """

    flow: str
    at: int
    until: int | None
    invoker: str
    reason: str

    def explain(self) -> str:
        """Say in words that the flow is paused, by whom and why."""
        until = "" if self.until is None else f" until {rfc3339(self.until)}"
        return f"{self.flow} is paused by {self.invoker}{until}: {self.reason}"

    def as_json(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {"by": self.invoker, "at": rfc3339(self.at), "reason": self.reason, "until": rfc3339(self.until)}


def pauses(tx: Transaction) -> dict[str, Pause]:
    """Return all pauses by flow; without a look at the rows where it is known that there are none."""
    return {row[0]: Pause(*row) for row in tx.array(_PAUSES, {})} if tx.hints.paused else {}


@dataclass(slots=True)
class PauseFlow:
    """Pause a flow, or pause it anew with another end and reason.

    Attributes:
        flow: its name.
        invoker: who asks.
        reason: why.
        until: when the pause ends by itself, microseconds; None for never.

    The result is None, or a `NotFoundError`.
    """

    keep_trying: ClassVar[bool] = False

    flow: str
    invoker: str
    reason: str
    until: int | None
    done: Callable[[Any], None]

    def split(self) -> Sequence[PauseFlow]:
        """One flow is as small as it gets."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[PauseFlow]) -> list[NotFoundError | None]:
        """Pause one flow after the other."""
        return [_pause(tx, command) for command in commands]


def _pause(tx: Transaction, command: PauseFlow) -> NotFoundError | None:
    if not tx.value("SELECT count(*) FROM flows WHERE name = :flow", {"flow": command.flow}):
        return NotFoundError(f"there is no flow {command.flow[:100]!r}; `pullcord flows list` shows all")
    begin_pause(tx, Pause(command.flow, tx.now, command.until, command.invoker, command.reason), "flow.pause")
    return None


@dataclass(slots=True)
class ResumeFlow:
    """Let a flow go on; one that is not paused does already.

    Attributes:
        flow: its name.
        invoker: who asks.

    The result says whether it was paused.
    """

    keep_trying: ClassVar[bool] = False

    flow: str
    invoker: str
    done: Callable[[Any], None]

    def split(self) -> Sequence[ResumeFlow]:
        """One flow is as small as it gets."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[ResumeFlow]) -> list[bool]:
        """Resume one flow after the other. Failures are counted anew from here."""
        results = []
        for command in commands:
            tx.execute("UPDATE failures SET in_a_row = 0 WHERE flow = :flow", {"flow": command.flow})
            results.append(end_pause(tx, command.flow, command.invoker))
        return results


def begin_pause(tx: Transaction, pause: Pause, action: str) -> None:
    """Pause a flow in this transaction, whoever asks for it; nothing of it starts from here on."""
    tx.execute(
        _PAUSE,
        {
            "flow": pause.flow,
            "now": pause.at,
            "until": pause.until,
            "invoker": pause.invoker,
            "reason": pause.reason,
        },
    )
    tx.hints.paused = tx.hints.pauses_changed = True
    _audit(tx, pause.invoker, action, {"flow": pause.flow, **pause.as_json()})
    set_aside(tx, [pause])


def end_pause(tx: Transaction, flow: str, invoker: str) -> bool:
    """Let a flow go on in this transaction; say whether it was paused."""
    if not tx.execute("DELETE FROM pauses WHERE flow = :flow", {"flow": flow}):
        return False
    tx.hints.pauses_changed = True
    tx.hints.paused = bool(tx.value("SELECT count(*) FROM pauses", {}))
    _audit(tx, invoker, "flow.resume", {"flow": flow})
    spec = _spec(tx, flow)
    tx.execute(
        _BACK,
        {
            "flow": flow,
            "lane": spec.lane,
            "isolated": lane(spec.location, ISOLATED),
            "paused": lane(spec.location, PAUSED),
        },
    )
    tx.hints.lanes |= {spec.lane, lane(spec.location, ISOLATED)}
    for name, slot, priority in tx.array(_SLOTS, {"flow": flow}):
        tx.hints.queued(name, slot, priority)
    return True


def set_aside(tx: Transaction, which: Sequence[Pause]) -> None:
    """Say of the waiting runs of paused flows what they wait for, and take those without a limit from their lane."""
    for pause in which:
        why = dump({"kind": "pause", "text": f"waits to be resumed: {pause.explain()}"})
        location = _spec(tx, pause.flow).location
        tx.execute(_ASIDE, {"flow": pause.flow, "why": why, "lane": lane(location, PAUSED)})


def end_due_pauses(tx: Transaction, at: int) -> int | None:
    """End the pauses whose time is over; return when the next one ends, microseconds, or None."""
    if not tx.hints.paused:
        return None
    following: list[int] = []
    for pause in pauses(tx).values():
        if pause.until is not None and pause.until <= at:
            end_pause(tx, pause.flow, SYSTEM)
        elif pause.until is not None:
            following.append(pause.until)
    return min(following, default=None)


def _spec(tx: Transaction, flow: str) -> FlowSpec:
    spec: FlowSpec = FlowSpec(**from_json(tx.value("SELECT spec FROM flows WHERE name = :flow", {"flow": flow})))
    return spec


def _audit(tx: Transaction, invoker: str, action: str, detail: dict[str, Any]) -> None:
    values = {"id": tx.next_id("audit"), "now": tx.now, "invoker": invoker, "action": action, "detail": dump(detail)}
    tx.execute(_AUDIT, values)

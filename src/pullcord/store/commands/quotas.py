"""What a flow, or an invoker, has too much of: decided in the transaction that admits, from the rows alone.

Only what comes from outside is refused: a run that a flow calls is part of one that was admitted already.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from pullcord.core.quotas import DELAY, INVOKER, Quotas, Rate
from pullcord.core.states import Outcome
from pullcord.store.commands.overlap import Refused, capacity_of, waiting_in
from pullcord.store.commands.pauses import Pause, pauses, set_aside
from pullcord.store.commands.rates import counted_uses, write_uses
from pullcord.store.transaction import Transaction

if TYPE_CHECKING:
    from pullcord.store.commands.admit import Admit, NewRun
    from pullcord.store.commands.ledger import LedgerEntry

FLOW_PAUSED: Final = "flow_paused"
RATE_LIMITED: Final = "rate_limited"
QUEUE_FULL: Final = "queue_full"
PASSING: Final = frozenset({FLOW_PAUSED, RATE_LIMITED, QUEUE_FULL})
"""Codes of refusals that pass: what was refused is worth asking for again."""

MEND: Final = "; ask for fewer at once, or let it take more"
"""What to do about that."""

ENOUGH: Final = 10_000
"""So many queued runs beyond the limit are counted at most, for those that free slots will take."""

Instant = tuple[int, int | None]
"""What stands for requests that are asked for as one: those of a poll, or of a tick of a schedule."""

LAST: Final = 253_402_300_799_999_999
"""The last moment of the calendar, microseconds."""


@dataclass(slots=True)
class Allowance:
    """What is left for the requests of one transaction.

    Attributes:
        paused: pauses by flow.
        uses: when requests were admitted that still count, by rate key, in order.
    """

    tx: Transaction
    paused: Mapping[str, Pause]
    uses: dict[str, list[int]]
    _used: list[list[Any]] = field(default_factory=list)
    _queued: Counter[str] = field(default_factory=Counter)
    _aside: set[str] = field(default_factory=set)
    _later: dict[str, int] = field(default_factory=dict)
    _together: Counter[tuple[Instant, str]] = field(default_factory=Counter)

    @classmethod
    def of(cls, tx: Transaction, commands: Iterable[Admit]) -> Allowance:
        """Read what the requests need; nothing where nothing limits them."""
        spans: dict[str, int] = {}
        for command in commands:
            for key, rate in _rates(command.entry, command.run):
                spans[key] = max(rate.span, spans.get(key, 0))
        return cls(tx, pauses(tx), counted_uses(tx, spans) if spans else {})

    def paused_by(self, entry: LedgerEntry, run: NewRun) -> Refused | None:
        """Say that a request's flow is paused, or nothing."""
        pause = None if run.parent_id is not None else self.paused.get(entry.flow or "")
        if pause is None or (pause.until is not None and pause.until <= self.tx.now):
            return None  # one that is over does not refuse while it waits for being taken away
        return _rejected(FLOW_PAUSED, pause.explain(), pause.until)

    def refusal(self, entry: LedgerEntry, run: NewRun, instant: Instant | None = None) -> Refused | None:
        """Say why a request is too much, or nothing.

        Args:
            entry: its ledger row.
            run: the run that it would become.
            instant: what it belongs to, where it is only admitted together with others.
        """
        if run.parent_id is not None:
            return None
        most = None if run.quotas is None else run.quotas.max_queued
        no_room = _rejected(QUEUE_FULL, f"as many runs of {entry.flow} wait as may (max_queued={most})")
        never = f"more is asked for at once than {entry.flow} ever lets wait (max_queued={most}){MEND}"
        if most is not None and run.slot is not None and self._waiting(run, run.slot, most) >= most:
            capacity = min(capacity_of(self.tx, key) for key in (run.slot, run.shared) if key is not None)
            over = self._over(instant, f"slot:{run.slot}", capacity + most)
            return _final(QUEUE_FULL, never) if over else no_room
        for key, rate in _rates(entry, run):
            free = self._free(key, rate)
            if free <= self.tx.now:
                continue
            if rate.on_limit == DELAY:
                if most is not None and sum(at > self.tx.now for at in self.uses[key]) >= most:
                    return _final(QUEUE_FULL, never) if self._over(instant, key, rate.limit + most) else no_room
                if run.expires_in is not None and self.tx.now + run.expires_in <= free:
                    late = f"the rate of {entry.flow} ({rate}) lets it start only after its end (expires_in)"
                    return _rejected(RATE_LIMITED, late, free)
                continue
            who = entry.invoker if key.startswith("invoker:") or rate.by == INVOKER else "everybody together"
            what = "any flow" if key.startswith("invoker:") else entry.flow
            if self._over(instant, key, rate.limit):
                return _final(
                    RATE_LIMITED,
                    f"more is asked for at once than the rate of {what} ever admits: {rate} for {who}{MEND}",
                )
            reason = f"the rate of {what} is used up: {rate} for {who}"
            return _rejected(RATE_LIMITED, reason, free)
        return None

    def start(self, entry: LedgerEntry, run: NewRun) -> NewRun:
        """Return a run as it may start: later, where its flow's rate delays it."""
        if run.parent_id is not None or run.quotas is None or run.quotas.rate is None:
            return run
        rate = run.quotas.rate
        at = self._free(_key(entry, rate), rate)
        if at <= self.tx.now or rate.on_limit != DELAY:
            return run
        return replace(run, not_before=max(at, run.not_before or 0))

    def take(self, number: int, entry: LedgerEntry, run: NewRun, instant: Instant | None = None) -> None:
        """Note an admitted request."""
        if run.slot is not None and run.quotas is not None and run.quotas.max_queued is not None:
            self._queued[run.slot] += run.not_before is None
            if instant is not None:
                self._together[instant, f"slot:{run.slot}"] += 1
        if run.parent_id is not None:
            if entry.flow in self.paused:
                self._aside.add(entry.flow or "")
            return
        for key, rate in _rates(entry, run):
            at = max(self.tx.now, self._free(key, rate)) if rate.on_limit == DELAY else self.tx.now
            insort(self.uses[key], at)
            if instant is not None:
                self._together[instant, key] += 1
            self._used.append([key, at, number])
            if at > self.tx.now:
                self._later[key] = at + rate.span

    def write(self) -> None:
        """Write what was admitted, and set aside what a paused flow is called for."""
        if self._used:
            write_uses(self.tx, self._used, self._later)
        if self._aside:
            set_aside(self.tx, [self.paused[flow] for flow in sorted(self._aside)])

    def _free(self, key: str, rate: Rate) -> int:
        """Return from when on the rate admits one more, microseconds; in the past when it does now."""
        uses = self.uses[key]
        return 0 if len(uses) < rate.limit else uses[-rate.limit] + rate.span

    def _over(self, instant: Instant | None, key: str, most: int) -> bool:
        """Say whether what belongs together has taken as much by itself as anybody ever may."""
        return instant is not None and self._together[instant, key] >= max(1, most)

    def _waiting(self, run: NewRun, slot: str, most: int) -> int:
        """Return how many runs of a slot would wait before a new one; less than nothing where it would not wait."""
        free, queued = waiting_in(self.tx, slot, run.shared, most + ENOUGH)
        queued += self._queued[slot]
        return -1 if queued < free else queued - free


def _rejected(code: str, reason: str, retry_at: int | None = None) -> Refused:
    return Refused(Outcome.REJECTED, code, reason, retry_at=retry_at)


def _final(code: str, reason: str) -> Refused:
    return Refused(Outcome.REJECTED, code, reason, final=True)


def expiry(run: NewRun, now: int) -> int | None:
    """Return when a run that has not started by then ends by itself, microseconds, or None."""
    ends = [] if run.expires_in is None else [now + run.expires_in]
    if run.quotas is not None and run.quotas.queue_ttl is not None:
        ends.append(max(now, run.not_before or 0) + round(run.quotas.queue_ttl * 1_000_000))
    return min((*ends, LAST)) if ends else None


def _rates(entry: LedgerEntry, run: NewRun) -> list[tuple[str, Rate]]:
    """Return the rates that a request counts against, and their keys. The flow's comes last: it may delay."""
    if run.parent_id is not None:
        return []
    found = [] if run.invoker_rate is None else [(f"invoker:{entry.invoker}", run.invoker_rate)]
    quotas: Quotas | None = run.quotas
    if quotas is not None and quotas.rate is not None:
        found.append((_key(entry, quotas.rate), quotas.rate))
    return found


def _key(entry: LedgerEntry, rate: Rate) -> str:
    return f"flow:{entry.flow}:{entry.invoker}" if rate.by == INVOKER else f"flow:{entry.flow}"

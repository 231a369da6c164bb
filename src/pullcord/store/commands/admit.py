"""Admission: the only statements that insert a run (design rule 2)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pullcord.clock import rfc3339
from pullcord.core.canonical import fingerprint
from pullcord.core.concurrency import OnConflict
from pullcord.core.errors import StoreError
from pullcord.core.quotas import Quotas, Rate
from pullcord.core.states import ENDED, Outcome, RunState
from pullcord.core.trigger import EVENT
from pullcord.store.commands.artifacts import copy_artifacts
from pullcord.store.commands.attempts import keep_records
from pullcord.store.commands.journal import Ended
from pullcord.store.commands.keys import Claimant, Identity, Original, claim_keys, known_original, release_keys
from pullcord.store.commands.ledger import LedgerEntry, insert_requests
from pullcord.store.commands.overlap import DEADLOCK, Overlap, Refused, full, place, supersede
from pullcord.store.commands.quotas import PASSING, Allowance, Instant, expiry
from pullcord.store.statement import dump, names, rows
from pullcord.store.transaction import Transaction

_RUN_COLUMNS = (
    "id:int uuid flow flow_version state inputs trigger_kind invoker lane slot shared priority:int test:int "
    "parent_id:int rerun_of:int resumed_from:int recorded_version epoch:int not_before:int scheduled_for:int "
    "dedup expires_at:int"
)
_INSERT_RUNS = f"""
INSERT INTO runs ({names(_RUN_COLUMNS)}, token, attempt, takeovers, losses, queued_at)
SELECT {names(_RUN_COLUMNS)}, 0, 1, 0, 0, CASE WHEN state = 'queued' THEN :now END
FROM {rows(_RUN_COLUMNS)} AS s"""
_INSERT_AUDIT = f"""
INSERT INTO audit (id, at, invoker, action, subject_id)
SELECT :base + rank, :now, invoker, 'run.admit', subject_id FROM {rows("rank:int invoker subject_id:int")} AS s"""
_DUPLICATES = """
SELECT EACH[dedup, id, uuid, state] FROM runs WHERE dedup IN VALUES[wanted]
AND state IN ('scheduled', 'queued', 'running', 'waiting', 'cancelling')"""
_PARENTS = "SELECT EACH[id, state] FROM runs WHERE id IN VALUES[ids:int]"


@dataclass(slots=True)
class NewRun:
    """The run that a request becomes when it is admitted.

    Attributes:
        uuid: the run's id (UUIDv7).
        flow_version: version of the code that validated the inputs.
        inputs: as validated, JSON.
        lane: where it is dispatched.
        slot: the flow and the value of its concurrency key, or None without a limit.
        shared: the group that its flow is in, or None.
        on_conflict: what becomes of it while all slots are taken.
        priority: higher goes first.
        test: marked as a test.
        parent_id: number of the parent run.
        rerun_of: number of the run this one repeats.
        resumed_from: number of the run whose recorded results it keeps.
        recorded_version: version of the code that these were recorded with, where it is another one.
        epoch: the epoch that these are of; None is the first.
        not_before: microseconds; it stays `scheduled` until then.
        scheduled_for: the time a schedule meant, microseconds.
        dedup: no other run with the same one exists that has not ended (design rule 5).
        quotas: what its flow takes at most.
        invoker_rate: how many requests its invoker may make, of all flows together.
        expires_in: how long it may wait to start, microseconds.
        floor: runs with this number or a lower one are executed by nobody here; 0 where all are.
    """

    uuid: str
    flow_version: str
    inputs: str
    lane: str
    slot: str | None
    shared: str | None = None
    on_conflict: OnConflict = OnConflict.QUEUE
    priority: int = 0
    test: bool = False
    parent_id: int | None = None
    rerun_of: int | None = None
    resumed_from: int | None = None
    recorded_version: str | None = None
    epoch: int | None = None
    not_before: int | None = None
    scheduled_for: int | None = None
    dedup: str | None = None
    quotas: Quotas | None = None
    invoker_rate: Rate | None = None
    expires_in: int | None = None
    floor: int = 0

    @property
    def first_state(self) -> RunState:
        """The state it is admitted in."""
        return RunState.QUEUED if self.not_before is None else RunState.SCHEDULED


@dataclass(slots=True)
class Decision:
    """What the transaction decided.

    Attributes:
        outcome: `admitted`, `replayed`, `deduplicated`, `skipped` or `rejected`.
        code: why it was rejected, for programs.
        reason: the same for people.
        request_uuid: the request's id; the original's when replayed or in conflict.
        run_uuid: the run's id; the original's when replayed or in conflict.
        state: the run's state when the transaction ended.
        position: how many runs wait before it, plus one; None when it does not wait or more than 1000 do.
        reached: the slot, or the group as `group:NAME`, whose limit it waits for; None when it waits for none.
        id: number of the run.
        superseded: runs that are cancelled for it, `(id, Ended)`.
        retry_at: when asking again makes sense, microseconds, where that is known of a refusal.
        final: it was refused for what passes, but is too much at once and would be whenever it is asked for again.
        room: of a refusal that holds a group back, how many requests of the group come before it.
    """

    outcome: Outcome
    request_uuid: str
    run_uuid: str | None
    state: str | None
    code: str | None = None
    reason: str | None = None
    position: int | None = None
    reached: str | None = None
    id: int = 0
    superseded: list[tuple[str, Ended]] = field(default_factory=list)
    retry_at: int | None = None
    final: bool = False
    room: int = 0


@dataclass(slots=True)
class Admit:
    """Admit a validated request, unless its id or key is known already.

    Attributes:
        entry: the ledger row.
        run: the run to make.
        identities: request id and idempotency key, where given.
        dry_run: decide, and write the ledger row alone.
    """

    keep_trying: ClassVar[bool] = False

    entry: LedgerEntry
    run: NewRun
    done: Callable[[Any], None]
    identities: tuple[Identity, ...] = ()
    dry_run: bool = False

    def split(self) -> Sequence[Admit]:
        """One request is as small as it gets."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[Admit]) -> list[Decision]:
        """Insert requests, runs and audit entries, or find out why not."""
        return _decide(tx, commands).write(tx)


@dataclass(slots=True)
class _Decided:
    """What a transaction decided about requests, before any of it but their keys is written."""

    commands: Sequence[Admit]
    allowance: Allowance
    claimants: dict[int, Claimant]
    stuck: set[int] = field(default_factory=set)
    decisions: list[Decision] = field(default_factory=list)
    entries: list[tuple[int, LedgerEntry]] = field(default_factory=list)
    runs: list[list[Any]] = field(default_factory=list)
    audit: list[list[Any]] = field(default_factory=list)
    queued: list[NewRun] = field(default_factory=list)
    kept: list[tuple[int, int]] = field(default_factory=list)

    def write(self, tx: Transaction) -> list[Decision]:
        """Write it, and return the decisions."""
        if self.stuck:
            release_keys(tx, list(self.stuck))
        insert_requests(tx, self.entries)
        if self.runs:
            tx.execute(_INSERT_RUNS, {"rows": dump(self.runs), "now": tx.now})
            keep_records(tx, self.kept)
            for number, origin in self.kept:
                copy_artifacts(tx, origin, number)
            tx.execute(_INSERT_AUDIT, {"rows": dump(self.audit), "now": tx.now, "base": tx.next_id("audit")})
            for run in self.queued:
                tx.hints.queued(run.lane, run.slot, run.priority)
            _supersede(tx, list(zip(self.commands, self.decisions, strict=True)), self.allowance.paused)
        self.allowance.write()
        return self.decisions

    def withdraw(self, tx: Transaction) -> None:
        """Write nothing of it, and give the keys back."""
        release_keys(tx, list(self.claimants))


def admit_together(tx: Transaction, groups: Sequence[Sequence[Admit]]) -> list[list[Decision] | Decision]:
    """Admit groups of requests, each whole or not at all.

    What is asked for of one instant (a poll, or a tick of a schedule) and is more than its flow ever takes at once is
    refused for good beyond that: it would hold the rest of its group back for ever.

    Returns:
        For each group its decisions; or the first one that a request of it was refused with for what passes, and then
        nothing of the group was written.
    """
    held: dict[int, Decision] = {}
    while True:
        asked = [(index, admit) for index, group in enumerate(groups) if index not in held for admit in group]
        decided = _decide(
            tx, [admit for _, admit in asked], [(index, admit.run.scheduled_for) for index, admit in asked]
        )
        passing: dict[int, Decision] = {}
        before = Counter[int]()
        for (index, _), decision in zip(asked, decided.decisions, strict=True):
            if decision.code in PASSING and not decision.final and index not in passing:
                decision.room = before[index]
                passing[index] = decision
            before[index] += 1
        if not passing:
            break
        decided.withdraw(tx)
        held |= passing
    decisions = iter(decided.write(tx))
    return [held[index] if index in held else [next(decisions) for _ in group] for index, group in enumerate(groups)]


def _decide(tx: Transaction, commands: Sequence[Admit], instants: Sequence[Instant | None] | None = None) -> _Decided:
    base = tx.next_id("requests")
    numbered = [(base + offset, command) for offset, command in enumerate(commands)]
    claimants = {
        number: Claimant(number, command.entry.uuid, command.run.uuid, command.identities, command.run.first_state)
        for number, command in numbered
        if command.identities and not command.dry_run
    }
    losers = claim_keys(tx, list(claimants.values()))
    holders = _holders(tx, [run.dedup for command in commands if (run := command.run).dedup is not None])
    stopped = _stopped(tx, {run.parent_id for command in commands if (run := command.run).parent_id is not None})
    refusals: defaultdict[int, Refused] = defaultdict(lambda: DEADLOCK)
    overlap = Overlap(tx, [command.run for command in commands])
    decided = _Decided(commands, allowance := Allowance.of(tx, commands), claimants)
    for (number, command), instant in zip(numbered, instants or [None] * len(numbered), strict=True):
        entry, run = command.entry, command.run
        original = losers.get(number)
        if command.dry_run and command.identities:
            original = known_original(tx, command.identities, claimants)
        if original is not None and original.id not in decided.stuck:
            entry, decision = _late(entry.become(entry.outcome, uuid=run.uuid), original)
        elif run.parent_id in stopped:
            decided.stuck.add(number)
            entry, decision = _orphan(entry, stopped[run.parent_id])
        elif run.dedup is not None and run.dedup in holders:
            decided.stuck.add(number)
            entry, decision = _duplicate(entry, holders[run.dedup])
        elif (
            refusal := _refusal(allowance, overlap, entry, run, instant) if original is None else refusals[original.id]
        ) is not None:
            decided.stuck.add(number)
            refusals[number] = refusal
            entry, decision = _refused(entry, refusal)
        elif command.dry_run:
            run = allowance.start(entry, run)
            decision = _foresee(tx, entry, run)
            if run is not command.run:
                decision.reason = _delayed(entry, run)
        else:
            run = allowance.start(entry, run)
            allowance.take(number, entry, run, instant)
            state = run.first_state
            decision = Decision(Outcome.ADMITTED, entry.uuid, run.uuid, state, id=number)
            if run is not command.run:
                decision.reason = _delayed(entry, run)
                entry = entry.become(Outcome.ADMITTED, reason=decision.reason)
            expires_at = expiry(run, tx.now)
            tx.hints.expires = tx.hints.expires or expires_at is not None
            decided.runs.append(_row(number, entry, run, state, expires_at))
            if run.resumed_from is not None:
                decided.kept.append((number, run.resumed_from))
            if run.dedup is not None:
                holders[run.dedup] = (number, run.uuid, state)
            decided.audit.append([len(decided.audit), entry.invoker, number])
            overlap.admitted(run)
            if state is RunState.QUEUED:
                decided.queued.append(run)
        decided.entries.append((number, entry))
        decided.decisions.append(decision)
    return decided


def _refusal(
    allowance: Allowance, overlap: Overlap, entry: LedgerEntry, run: NewRun, instant: Instant | None
) -> Refused | None:
    """Say why a run cannot be made. An overlap goes before a rate: it does not pass by itself."""
    return allowance.paused_by(entry, run) or overlap.refusal(run) or allowance.refusal(entry, run, instant)


def _row(number: int, entry: LedgerEntry, run: NewRun, state: RunState, expires_at: int | None) -> list[Any]:
    return [
        number,
        run.uuid,
        entry.flow,
        run.flow_version,
        str(state),  # JSON of a member of an enumeration takes a microsecond
        run.inputs,
        entry.trigger_kind,
        entry.invoker,
        run.lane,
        run.slot,
        run.shared,
        run.priority,
        int(run.test),
        run.parent_id,
        run.rerun_of,
        run.resumed_from,
        run.recorded_version,
        run.epoch,
        run.not_before,
        run.scheduled_for,
        run.dedup,
        expires_at,
    ]


def _holders(tx: Transaction, wanted: list[str]) -> dict[str, tuple[int, str, str]]:
    """Return number, id and state of the run that holds each of these contexts."""
    if not wanted:
        return {}
    return {row[0]: (row[1], row[2], row[3]) for row in tx.array(_DUPLICATES, {"wanted": dump(wanted)})}


def _stopped(tx: Transaction, parents: set[int]) -> dict[int | None, str]:
    """Return the states of those of these runs that start nothing more."""
    found = tx.array(_PARENTS, {"ids": dump(sorted(parents))}) if parents else []
    return {number: state for number, state in found if state in ENDED or state == RunState.CANCELLING}


def _orphan(entry: LedgerEntry, state: str) -> tuple[LedgerEntry, Decision]:
    """Return the ledger row and the decision for a child whose parent was cancelled, or ended, in the meantime."""
    reason = f"the run that called this flow is {state}: it starts nothing more"
    entry = entry.become(Outcome.REJECTED, code="parent_stopped", reason=reason)
    return entry, Decision(Outcome.REJECTED, entry.uuid, None, None, code="parent_stopped", reason=reason)


def _duplicate(entry: LedgerEntry, holder: tuple[int, str, str]) -> tuple[LedgerEntry, Decision]:
    """Return the ledger row and the decision for a fire whose context a run holds."""
    number, run_uuid, state = holder
    reason = f"run {run_uuid} has the same context and has not ended"
    key = f"dedup:{number}"
    entry = entry.become(Outcome.DEDUPLICATED, reason=reason, original_id=number, repeat_key=key)
    return entry, Decision(Outcome.DEDUPLICATED, entry.uuid, run_uuid, state, reason=reason, id=number)


def _refused(entry: LedgerEntry, refusal: Refused) -> tuple[LedgerEntry, Decision]:
    """Return the ledger row and the decision for a request that finds all slots taken."""
    # A machine that asks every second is told once, until what is in its way has ended; of a full group each hour.
    repeat_key = None
    if entry.trigger_kind == EVENT and refusal.final:
        repeat_key = f"over:{entry.trigger_name}:{entry.flow}:{refusal.code}:{fingerprint(entry.inputs or '')[:32]}"
    elif entry.trigger_kind == EVENT and refusal.mark is not None:
        repeat_key = f"overlap:{entry.trigger_name}:{entry.flow}:{refusal.mark}"
    entry = entry.become(refusal.outcome, code=refusal.code, reason=refusal.reason, repeat_key=repeat_key)
    decision = Decision(refusal.outcome, entry.uuid, None, None, code=refusal.code, reason=refusal.reason)
    decision.retry_at, decision.final = refusal.retry_at, refusal.final
    return entry, decision


def _supersede(tx: Transaction, decided: list[tuple[Admit, Decision]], paused: Collection[str]) -> None:
    """Cancel what new runs take the place of. A run that cannot start, as its flow is paused, takes no place."""
    made = [
        (command, decision)
        for command, decision in decided
        if decision.outcome is Outcome.ADMITTED
        and command.run.on_conflict is OnConflict.CANCEL_RUNNING
        and decision.state == RunState.QUEUED
        and not command.dry_run
        and command.entry.flow not in paused
    ]
    states = {decision.run_uuid: decision for _, decision in made}
    for command, decision in made:
        decision.superseded = supersede(tx, command.run.slot or "", command.run.uuid, command.entry.invoker)
        for uuid, ended in decision.superseded:
            if uuid in states:  # asked for at the same instant as the one that takes its place
                states[uuid].state = ended.state


def _late(entry: LedgerEntry, original: Original) -> tuple[LedgerEntry, Decision]:
    """Return the ledger row and the decision for a request whose id or key was used before."""
    if original.matches:
        row = entry.become(Outcome.REPLAYED, original_id=original.id, repeat_key=f"replay:{original.id}")
        decision = Decision(Outcome.REPLAYED, original.request_uuid, original.run_uuid, original.state, id=original.id)
        return row, decision
    code, reason = original.conflict, original.explain()
    row = entry.become(Outcome.REJECTED, code=code, reason=reason, original_id=original.id)
    return row, Decision(Outcome.REJECTED, row.uuid, original.run_uuid, original.state, code=code, reason=reason)


def _delayed(entry: LedgerEntry, run: NewRun) -> str:
    return f"delayed by the rate of {entry.flow} until {rfc3339(run.not_before)}"


def _foresee(tx: Transaction, entry: LedgerEntry, run: NewRun) -> Decision:
    """Say what would happen to a dry run."""
    state, position, reached = RunState.RUNNING, None, None
    if run.not_before is not None:
        state = RunState.SCHEDULED
    elif run.slot is not None and full(tx, run.slot, run.shared):
        state = RunState.QUEUED
        position, reached = place(tx, 2**62, run.slot, run.shared, run.priority)
    return Decision(Outcome.ADMITTED, entry.uuid, None, state, position=position, reached=reached)

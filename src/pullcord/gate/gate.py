"""The gate: authorised? asked before? valid? admitted. In this order (design rule 4), on every path alike."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pydantic_core import to_json
from uuid_utils import uuid7

from pullcord.clock import Clock, rfc3339
from pullcord.core.canonical import canonical_json, fingerprint, parse_json
from pullcord.core.concurrency import group_key
from pullcord.core.errors import (
    FieldError,
    HeldBackError,
    InvalidInputsError,
    NotResumableError,
    PullcordError,
    UnavailableError,
    UsageError,
)
from pullcord.core.quotas import Rate
from pullcord.core.states import Outcome, RunState
from pullcord.core.trigger import EVENT
from pullcord.engine.engine import Engine
from pullcord.engine.pauses import Pauses
from pullcord.failpoints import hit
from pullcord.gate.policy import Policy
from pullcord.gate.request import Invoker, Receipt, TriggerRequest
from pullcord.store.commands.admit import Admit, Decision, NewRun
from pullcord.store.commands.keys import DELIVERY, REQUEST_ID, Identity, Original
from pullcord.store.commands.ledger import LedgerEntry, Note
from pullcord.store.commands.quotas import FLOW_PAUSED, PASSING, expiry
from pullcord.store.commands.triggers import Fired, FireTrigger
from pullcord.store.gather import Gather
from pullcord.store.queries.requests import find_originals
from pullcord.store.store import Store
from pullcord.store.transaction import ignore

log = logging.getLogger(__name__)

MAX_INPUTS: Final = 1024 * 1024
"""No inputs are longer as JSON, in bytes; larger data belongs into a file that the inputs name."""


TRANSIENT: Final = PASSING | {UnavailableError.code}
"""Codes of refusals that pass: what was refused is worth asking for again."""


@dataclass(slots=True)
class Refusal:
    """Why a request becomes no run.

    Attributes:
        code: for programs.
        reason: for people.
        errors: what is wrong with the inputs.
        entry: the ledger row that says so.
    """

    code: str
    reason: str
    errors: list[FieldError] = field(default_factory=list)
    entry: LedgerEntry | None = None

    @property
    def transient(self) -> bool:
        """Whether asking again later makes sense."""
        return self.code in TRANSIENT


class Gate:
    """Turns requests into runs.

    Args:
        store: where they are written.
        engine: knows the flows and validates inputs.
        policy: knows who may.
        clock: the time.
        pauses: which flows are paused.
        invoker_rate: how many requests each invoker may make, of all flows together; None is no limit.

    Attributes:
        decided: how many requests were decided on, by outcome, code and trigger kind, without dry runs.
    """

    def __init__(
        self,
        store: Store,
        engine: Engine,
        policy: Policy,
        clock: Clock,
        pauses: Pauses,
        invoker_rate: Rate | None = None,
    ) -> None:
        self._store = store
        self._engine = engine
        self._policy = policy
        self._clock = clock
        self._pauses = pauses
        self._invoker_rate = invoker_rate
        self.decided: Counter[tuple[str, str | None, str]] = Counter()
        self._originals = Gather[Identity, Original](
            store, lambda connection, wanted: find_originals(connection, wanted, clock.now())
        )

    async def submit(self, request: TriggerRequest) -> Receipt:
        """Decide on a request. A refusal is a receipt too; it is in the ledger when this returns.

        Raises:
            StoreError: nothing could be written, and nothing was.
        """
        entry = self._entry(request)
        sent = self._sent(request, entry)
        if isinstance(sent, Refusal):
            return await self.refuse(entry, sent.code, sent.reason, sent.errors)
        identities = _identities(request, sent)
        original = await self._original(identities) if identities else None
        if original is not None and original.matches:
            return await self._replay(entry, original)
        run = (None if original is not None else self._paused(request)) or await self._validated(request, sent)
        if isinstance(run, Refusal):
            if original is not None and run.code == InvalidInputsError.code:
                return await self._conflict(entry, original)
            receipt = await self.refuse(entry, run.code, run.reason, run.errors)
            if request.origin is not None and run.code == NotResumableError.code:
                receipt.state = request.origin.state
            return receipt
        identities = tuple(_seal(identity, request, run.inputs) for identity in identities)
        hit("gate.before_write")
        decision: Decision = await self._store.write(lambda done: Admit(entry, run, done, identities, request.dry_run))
        hit("gate.after_write")
        if decision.superseded:
            await self._engine.cancelled(decision.superseded, force=False)
        return self._decided(request, entry, run, decision)

    async def prepare(self, request: TriggerRequest) -> Admit | Refusal:
        """Decide on all of a trigger's request but what the store decides, and write nothing.

        What was prepared is written together with how far the trigger has come (`write`).
        """
        entry = self._entry(request)
        sent = self._sent(request, entry)
        run = sent if isinstance(sent, Refusal) else self._paused(request) or await self._validated(request, sent)
        if isinstance(run, Refusal):
            errors = to_json(run.errors).decode() if run.errors else None
            run.entry = entry.become(
                Outcome.REJECTED,
                code=run.code,
                reason=_storable(run.reason),
                errors=errors,
                repeat_key=_repeated(request, run) if request.trigger.kind == EVENT else None,
            )
            return run
        identities = tuple(_seal(identity, request, run.inputs) for identity in _identities(request, entry.inputs))
        return Admit(entry, run, ignore, identities)

    async def write(self, command: FireTrigger) -> Fired | None:
        """Write what a trigger has seen, and return what was decided.

        Returns:
            None when the trigger was changed meanwhile; then nothing was written.

        Raises:
            HeldBackError: a request was refused for what passes, so nothing was written but that in the ledger.
            StoreError: nothing could be written, and nothing was.
        """

        def answered(done: Callable[[Any], None]) -> FireTrigger:
            command.done = done
            self._go_by_today(command.admits)
            return command

        hit("fire.before_write")
        fired: Fired | None = await self._store.write(answered)
        hit("fire.after_write")
        if fired is None:
            return None
        if fired.held is not None:
            first = command.admits[0].entry
            self._count(first, fired.held.outcome, fired.held.code)
            raise HeldBackError(fired.held.code or "", fired.held.reason or "", fired.held.room)
        for note in command.notes:
            self._count(note, note.outcome, note.code, note.times)
        for admit, decision in fired.admitted:
            self._count(admit.entry, decision.outcome, decision.code)
            if decision.superseded:
                await self._engine.cancelled(decision.superseded, force=False)
            self._expect(admit.run, decision)
        return fired

    async def hold(self, refusal: Refusal, name: str) -> None:
        """Note a refusal that passes, of a request that will be made again; those of an hour share a row.

        Args:
            refusal: what `prepare` returned.
            name: what the request is known by.
        """
        if refusal.entry is not None:
            hour = self._clock.now() // 3_600_000_000
            refusal.entry.repeat_key = f"waits:{name}:{refusal.entry.flow}:{refusal.code}:{hour}"
            entry = refusal.entry
            await self._store.write(lambda done: Note(entry, done))

    def note(self, request: TriggerRequest, outcome: Outcome, reason: str, times: int = 1) -> LedgerEntry:
        """Return the ledger row of a request that becomes no run, for `write`."""
        entry = self._entry(request)
        entry.inputs = canonical_json(request.inputs)
        return entry.become(outcome, reason=reason, times=times)

    def _sent(self, request: TriggerRequest, entry: LedgerEntry) -> str | Refusal:
        """Return the inputs as sent, canonical, and note them in the ledger row."""
        if not self._policy.may(request.invoker, "run", request.flow):
            return Refusal("forbidden", f"{request.invoker.id} may not run {request.flow}")
        try:
            sent = _text_of_inputs(request.inputs)
        except InvalidInputsError as error:
            return Refusal(error.code, error.message, error.errors)
        size = len(sent) if sent.isascii() else len(sent.encode())
        if size > MAX_INPUTS:
            reason = f"the inputs are {size:,} bytes of JSON, over the limit of {MAX_INPUTS:,}; pass a path instead"
            return Refusal("too_large", reason)
        entry.inputs = sent
        return sent

    def _paused(self, request: TriggerRequest) -> Refusal | None:
        """Spare the work where the flow is known to be paused. A run that a flow calls waits in the queue."""
        pause = None if request.parent_id is not None else self._pauses.get(request.flow)
        if pause is None:
            return None
        return Refusal(FLOW_PAUSED, pause.explain())

    async def _validated(self, request: TriggerRequest, sent: str) -> NewRun | Refusal:
        """Return the run that valid inputs make."""
        origin = request.origin
        try:
            request.check_times(self._clock.now())
            if origin is not None:
                origin.check_state()
            spec = await self._engine.catalog.resolve(request.flow)
            if origin is not None:
                origin.check_code(spec)
            inputs = await self._engine.fleets[spec.location].validator.validate(request.flow, sent)
            # Code may have been loaded anew meanwhile. What is written now goes by what is registered now (design rule
            # 8).
            spec = self._engine.catalog.get(request.flow) or spec
            if origin is not None:
                origin.check_code(spec)
        except PullcordError as error:
            errors = error.errors if isinstance(error, InvalidInputsError) else []
            return Refusal(error.code, error.message, errors)
        return NewRun(
            uuid=str(uuid7()),
            flow_version=spec.version,
            inputs=inputs,
            lane=spec.lane,
            slot=spec.concurrency.slot(spec.name, inputs, spec.name in self._engine.catalog.limited),
            shared=spec.concurrency.shared,
            on_conflict=spec.concurrency.on_conflict,
            priority=request.priority,
            test=request.test,
            parent_id=request.parent_id,
            rerun_of=origin.number if origin is not None and not origin.resume else None,
            resumed_from=origin.number if origin is not None and origin.resume else None,
            recorded_version=None if origin is None else origin.version_kept(spec),
            epoch=origin.epoch if origin is not None and origin.resume else None,
            not_before=request.not_before,
            scheduled_for=request.scheduled_for,
            dedup=_dedup(request),
            quotas=spec.quotas,
            invoker_rate=self._invoker_rate,
            expires_in=request.expires_in,
            floor=self._engine.room.floor,
        )

    def _go_by_today(self, admits: Sequence[Admit]) -> None:
        """Count runs that were prepared by the limits that hold now: they may have changed since (design rule 8)."""
        catalog = self._engine.catalog
        for flow in {admit.entry.flow for admit in admits}:
            spec = catalog.get(flow or "")
            if spec is None:
                continue
            rule, limited = spec.concurrency, spec.name in catalog.limited
            for run in [admit.run for admit in admits if admit.entry.flow == flow]:
                run.lane, run.quotas, run.on_conflict = spec.lane, spec.quotas, rule.on_conflict
                run.slot, run.shared = rule.slot(spec.name, run.inputs, limited), rule.shared

    def _expect(self, run: NewRun, decision: Decision) -> None:
        """Have the times looked at that an admitted run brings along."""
        if decision.outcome is Outcome.ADMITTED and decision.run_uuid is not None:
            if decision.state == RunState.SCHEDULED:
                self._engine.due.look()
            self._engine.deadlines.expect(expiry(run, self._clock.now()))

    def _decided(self, request: TriggerRequest, entry: LedgerEntry, run: NewRun, decision: Decision) -> Receipt:
        self._expect(run, decision)
        self._count(entry, decision.outcome, decision.code)
        receipt = _receipt(decision, request)
        if decision.retry_at is not None:
            receipt.retry_after = max(1, -(-(decision.retry_at - self._clock.now()) // 1_000_000))
        return receipt

    async def refuse_malformed(
        self, invoker: Invoker, source: str, code: str, reason: str, errors: list[FieldError] | None = None
    ) -> Receipt:
        """Note a call that is no readable request. Equal ones of one invoker share a row."""
        entry = LedgerEntry(
            uuid=str(uuid7()),
            flow=None,
            inputs=None,
            trigger_kind="manual",
            trigger_name=None,
            invoker=invoker.id,
            invoker_kind=invoker.kind,
            source=source,
            repeat_key=f"malformed:{invoker.id}:{source}:{code}:{fingerprint(reason)[:32]}",
        )
        return await self.refuse(entry, code, reason, errors)

    async def known_delivery(self, request: TriggerRequest) -> Receipt | None:
        """Return the receipt of a delivery that came before, or of its conflict with that one; None when it is new."""
        for identity in _identities(request, None):
            original = await self._originals.get(identity)
            if original is not None:
                answer = self._replay if original.matches else self._conflict
                return await answer(self._entry(request), original)
        return None

    async def refuse_delivery(self, request: TriggerRequest, error: PullcordError) -> Receipt:
        """Note a delivery that cannot be taken; those of one webhook that are refused for one cause share a row."""
        entry = self._entry(request)
        entry.repeat_key = f"hook:{request.trigger.name}:{request.flow}:{error.code}"
        errors = error.errors if isinstance(error, InvalidInputsError) else []
        return await self.refuse(entry, error.code, error.message, errors)

    async def skip(self, request: TriggerRequest, reason: str) -> Receipt:
        """Note a delivery that asks for nothing, and return its receipt."""
        entry = self.note(request, Outcome.SKIPPED, _storable(reason))
        await self._store.write(lambda done: Note(entry, done))
        self._count(entry, Outcome.SKIPPED, None)
        return Receipt(entry.uuid, Outcome.SKIPPED, entry.reason or "", None, entry.flow or "")

    async def refuse(
        self, entry: LedgerEntry, code: str, reason: str, errors: list[FieldError] | None = None
    ) -> Receipt:
        """Write a rejection to the ledger and return its receipt."""
        errors_json = to_json(errors).decode() if errors else None
        reason = _storable(reason)
        # The id of a request in conflict names the original's row; this row gets one of its own.
        uuid = str(uuid7()) if code.endswith("_conflict") else entry.uuid
        row = entry.become(Outcome.REJECTED, code=code, reason=reason, errors=errors_json, uuid=uuid)
        uuid = await self._store.write(lambda done: Note(row, done))
        self._count(entry, Outcome.REJECTED, code)
        if log.isEnabledFor(logging.DEBUG):
            fields = {
                "request_id": uuid,
                "flow": entry.flow,
                "code": code,
                "invoker": entry.invoker,
                "source": entry.source,
            }
            log.debug("request %s is refused: %s", uuid, reason, extra=fields)
        return Receipt(uuid, Outcome.REJECTED, reason, code, entry.flow or "", errors=errors or [])

    def _count(self, entry: LedgerEntry, outcome: Outcome, code: str | None, times: int = 1) -> None:
        if not entry.dry_run:
            self.decided[outcome, code, entry.trigger_kind] += times

    async def _original(self, identities: tuple[Identity, ...]) -> Original | None:
        for identity in identities:
            original = await self._originals.get(identity)
            if original is not None:
                return original
        return None

    async def _replay(self, entry: LedgerEntry, original: Original) -> Receipt:
        row = entry.become(
            Outcome.REPLAYED, uuid=str(uuid7()), original_id=original.id, repeat_key=f"replay:{original.id}"
        )
        await self._store.write(lambda done: Note(row, done))
        self._count(entry, Outcome.REPLAYED, None)
        decision = Decision(Outcome.REPLAYED, original.request_uuid, original.run_uuid, original.state)
        return _receipt_of(decision, entry.flow or "")

    async def _conflict(self, entry: LedgerEntry, original: Original) -> Receipt:
        receipt = await self.refuse(
            entry.become(entry.outcome, original_id=original.id), original.conflict, original.explain()
        )
        receipt.run_id, receipt.state = original.run_uuid, original.state
        return receipt

    def _entry(self, request: TriggerRequest) -> LedgerEntry:
        invoker = request.invoker
        return LedgerEntry(
            uuid=request.request_id or str(uuid7()),
            flow=request.flow,
            inputs=None,
            trigger_kind=request.trigger.kind,
            trigger_name=request.trigger.name,
            invoker=invoker.id,
            invoker_kind=invoker.kind,
            source=request.source,
            on_behalf_of=json.dumps(invoker.on_behalf_of) if invoker.on_behalf_of else None,
            note=request.note,
            idempotency_key=request.idempotency_key,
            dry_run=int(request.dry_run),
            test=request.test,
            scheduled_for=request.scheduled_for,
            origin=None if request.origin is None else to_json(request.origin.as_json()).decode(),
        )


def _storable(reason: str) -> str:
    """Return a reason without NULs: it may repeat a name that the caller made up, and a database ends a text there."""
    return reason.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _text_of_inputs(inputs: object) -> str:
    if not isinstance(inputs, dict):
        message = f"inputs must be a JSON object, not {type(inputs).__name__}"
        raise InvalidInputsError(message, [{"loc": ["inputs"], "msg": "must be a JSON object", "type": "dict_type"}])
    try:
        return canonical_json(inputs)
    except UsageError as error:
        raise InvalidInputsError(
            f"the inputs are not valid: {error.message}",
            [{"loc": ["inputs"], "msg": error.message, "type": "json_invalid"}],
        ) from None


def _identities(request: TriggerRequest, sent: str | None) -> tuple[Identity, ...]:
    found: list[Identity] = []
    if request.delivery is not None:
        key, body = request.delivery
        found.append(Identity(f"{DELIVERY}{request.trigger.name}:{request.flow}", "", key, body))
    if request.request_id is None and request.idempotency_key is None:
        return tuple(found)
    again = _again(request)
    mark = fingerprint(f"{request.flow}\n{sent}{again}")
    if request.request_id is not None:
        found.append(Identity(REQUEST_ID, request.invoker.id, request.request_id, mark, again=again != ""))
    if request.idempotency_key is not None:
        found.append(Identity(request.flow, request.invoker.id, request.idempotency_key, mark, again=again != ""))
    return tuple(found)


def _again(request: TriggerRequest) -> str:
    """Return what tells the wish for a run again from the wish for one with the same inputs."""
    origin = request.origin
    # The request id of a child run follows from the call: what is asked for under it is always the same.
    return (
        ""
        if origin is None or request.parent_id is not None
        else f"\n{'resume' if origin.resume else 'rerun'} {origin.id}"
    )


def _seal(identity: Identity, request: TriggerRequest, inputs: str) -> Identity:
    """Add the fingerprint of the validated inputs. A delivery is known by its body alone."""
    if identity.scope.startswith(DELIVERY):
        return identity
    mark = f"{request.flow}\n{canonical_json(parse_json(inputs))}{_again(request)}"
    return replace(identity, validated=fingerprint(mark))


def _dedup(request: TriggerRequest) -> str | None:
    """Return what a fire's run is known by: trigger, flow and key (design rule 5)."""
    if request.dedup is None:
        return None
    return f"{request.trigger.name}:{request.flow}:{fingerprint(request.dedup)}"


def _repeated(request: TriggerRequest, refusal: Refusal) -> str:
    """Return what equal refusals of an event's fires share a row under: it may fire the same again at every poll."""
    mark = fingerprint(f"{refusal.reason}\n{request.dedup}")[:32]
    return f"event:{request.trigger.name}:{request.flow}:{refusal.code}:{mark}"


def _receipt(decision: Decision, request: TriggerRequest) -> Receipt:
    receipt = _receipt_of(decision, request.flow)
    if decision.state == RunState.SCHEDULED and decision.reason is None and not receipt.replayed:
        receipt.reason = f"scheduled for {rfc3339(request.not_before)}"
    if request.dry_run and decision.outcome is Outcome.ADMITTED:
        receipt.reason = f"dry run: it would be admitted ({receipt.reason})"
    return receipt


def _receipt_of(decision: Decision, flow: str) -> Receipt:
    if decision.outcome is Outcome.REPLAYED:
        reason = f"asked before: this is the receipt of request {decision.request_uuid}"
    elif decision.reason is not None:
        reason = decision.reason
    elif decision.reached is not None:
        at = "beyond the first 1,000" if decision.position is None else f"at position {decision.position}"
        shared = decision.reached.startswith(group_key(""))
        limit = (
            f"the limit of {decision.reached}, which other flows share," if shared else "the flow's concurrency limit"
        )
        reason = f"queued {at}: {limit} is reached"
    elif decision.state == RunState.QUEUED:
        reason = "queued until a worker is free"
    else:
        reason = "started"
    return Receipt(
        decision.request_uuid,
        decision.outcome,
        reason,
        decision.code,
        flow,
        decision.run_uuid,
        decision.state,
        decision.outcome is Outcome.REPLAYED,
        decision.position,
    )

"""The gate: authorised? asked before? valid? admitted. In this order (design rule 4), on every path alike."""

from __future__ import annotations

import json
import logging
from collections import Counter
from typing import Final

from pydantic_core import to_json
from uuid_utils import uuid7

from pullcord.clock import Clock, rfc3339
from pullcord.core.canonical import canonical_json, fingerprint, parse_json
from pullcord.core.errors import FieldError, InvalidInputsError, PullcordError, UsageError
from pullcord.core.states import Outcome, RunState
from pullcord.engine.engine import Engine
from pullcord.failpoints import hit
from pullcord.gate.policy import Policy
from pullcord.gate.request import Invoker, Receipt, TriggerRequest
from pullcord.store.commands.admit import Admit, Decision, NewRun
from pullcord.store.commands.keys import REQUEST_ID, Identity, Original
from pullcord.store.commands.ledger import LedgerEntry, Note
from pullcord.store.gather import Gather
from pullcord.store.queries.requests import find_originals
from pullcord.store.store import Store

log = logging.getLogger(__name__)

MAX_INPUTS: Final = 1024 * 1024
"""No inputs are longer as JSON, in bytes; larger data belongs into a file that the inputs name."""


class Gate:
    """Turns requests into runs.

    Args:
        store: where they are written.
        engine: knows the flows and validates inputs.
        policy: knows who may.
        clock: the time.

    Attributes:
        decided: how many requests were decided on, by outcome, code and trigger kind, without dry runs.
    """

    def __init__(self, store: Store, engine: Engine, policy: Policy, clock: Clock) -> None:
        self._store = store
        self._engine = engine
        self._policy = policy
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
        if not self._policy.may(request.invoker, "run", request.flow):
            return await self.refuse(entry, "forbidden", f"{request.invoker.id} may not run {request.flow}")
        try:
            sent = _text_of_inputs(request.inputs)
        except InvalidInputsError as error:
            return await self.refuse(entry, error.code, error.message, error.errors)
        size = len(sent) if sent.isascii() else len(sent.encode())
        if size > MAX_INPUTS:
            reason = f"the inputs are {size:,} bytes of JSON, over the limit of {MAX_INPUTS:,}; pass a path instead"
            return await self.refuse(entry, "too_large", reason)
        entry.inputs = sent
        identities = _identities(request, sent)
        original = await self._original(identities) if identities else None
        if original is not None and original.matches:
            return await self._replay(entry, original)
        try:
            spec = await self._engine.catalog.resolve(request.flow)
            inputs = await self._engine.fleets[spec.location].validator.validate(request.flow, sent)
        except PullcordError as error:
            if original is not None and isinstance(error, InvalidInputsError):
                return await self._conflict(entry, original)
            errors = error.errors if isinstance(error, InvalidInputsError) else []
            return await self.refuse(entry, error.code, error.message, errors)
        # Code may have been loaded anew meanwhile. What is written now goes by what is registered now (design rule 8).
        spec = self._engine.catalog.get(request.flow) or spec
        if identities:
            validated = fingerprint(f"{request.flow}\n{canonical_json(parse_json(inputs))}")
            identities = tuple(Identity(i.scope, i.invoker, i.key, i.sent, validated) for i in identities)
        run = NewRun(
            uuid=str(uuid7()),
            flow_version=spec.version,
            inputs=inputs,
            lane=spec.lane,
            slot=spec.slot,
            priority=request.priority,
            test=request.test,
            parent_id=request.parent_id,
            rerun_of=request.rerun_of,
            not_before=request.not_before,
        )
        hit("gate.before_write")
        decision: Decision = await self._store.write(lambda done: Admit(entry, run, done, identities, request.dry_run))
        hit("gate.after_write")
        if decision.state == RunState.SCHEDULED and decision.outcome is Outcome.ADMITTED:
            self._engine.due.look()
        self._count(entry, decision.outcome, decision.code)
        return _receipt(decision, request)

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

    async def refuse(
        self, entry: LedgerEntry, code: str, reason: str, errors: list[FieldError] | None = None
    ) -> Receipt:
        """Write a rejection to the ledger and return its receipt."""
        errors_json = to_json(errors).decode() if errors else None
        # A reason may repeat the name of a field that the caller made up, and the database ends a text at a NUL.
        reason = reason.replace("\0", "\N{REPLACEMENT CHARACTER}")
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

    def _count(self, entry: LedgerEntry, outcome: Outcome, code: str | None) -> None:
        if not entry.dry_run:
            self.decided[outcome, code, entry.trigger_kind] += 1

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
        )


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


def _identities(request: TriggerRequest, sent: str) -> tuple[Identity, ...]:
    if request.request_id is None and request.idempotency_key is None:
        return ()
    mark = fingerprint(f"{request.flow}\n{sent}")
    found: list[Identity] = []
    if request.request_id is not None:
        found.append(Identity(REQUEST_ID, request.invoker.id, request.request_id, mark))
    if request.idempotency_key is not None:
        found.append(Identity(request.flow, request.invoker.id, request.idempotency_key, mark))
    return tuple(found)


def _receipt(decision: Decision, request: TriggerRequest) -> Receipt:
    receipt = _receipt_of(decision, request.flow)
    if request.dry_run and decision.outcome is Outcome.ADMITTED:
        receipt.reason = f"dry run: it would be admitted ({receipt.reason})"
    elif decision.state == RunState.SCHEDULED and request.not_before is not None and not receipt.replayed:
        receipt.reason = f"scheduled for {rfc3339(request.not_before)}"
    return receipt


def _receipt_of(decision: Decision, flow: str) -> Receipt:
    if decision.outcome is Outcome.REPLAYED:
        reason = f"asked before: this is the receipt of request {decision.request_uuid}"
    elif decision.reason is not None:
        reason = decision.reason
    elif decision.position is not None:
        reason = f"queued at position {decision.position}: the flow's concurrency limit is reached"
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

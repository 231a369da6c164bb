"""Webhooks: a delivery is verified, mapped, and goes through the gate; its id is used up only when it is admitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

from pydantic_core import from_json

from pullcord.clock import Clock
from pullcord.core.canonical import canonical_json, parse_json
from pullcord.core.errors import (
    DisabledError,
    InvalidInputsError,
    InvalidSignatureError,
    MappingError,
    NotFoundError,
    PullcordError,
    SecretError,
    TooLargeError,
    UnreadableError,
    UsageError,
)
from pullcord.core.signatures import SCHEMES
from pullcord.core.states import Outcome
from pullcord.core.trigger import WEBHOOK
from pullcord.engine.engine import Engine
from pullcord.gate.gate import Gate
from pullcord.gate.request import Receipt, TriggerRequest
from pullcord.secrets import resolve
from pullcord.store.commands.triggers import DEDUPLICATED, FIRED, REFUSED
from pullcord.triggers.history import History
from pullcord.triggers.record import TriggerRecord
from pullcord.triggers.registry import Registry

_SHOWN = {
    Outcome.ADMITTED: FIRED,
    Outcome.REPLAYED: "replayed",
    Outcome.DEDUPLICATED: DEDUPLICATED,
    Outcome.SKIPPED: "skipped",
}


class Webhooks:
    """Takes deliveries; a `Trigger`."""

    kind = WEBHOOK

    def init(self, deps: Mapping[str, Any]) -> None:
        """Take the gate, the engine, the registry and the clock."""
        self._gate: Gate = deps["gate"]
        self._engine: Engine = deps["engine"]
        self._registry: Registry = deps["registry"]
        self._clock: Clock = deps["clock"]
        self._registry.kinds[WEBHOOK] = self
        self._records: dict[str, TriggerRecord] = {}
        self._history = History(self._gate, self._registry, self._clock)

    def start(self) -> None:
        """Nothing to begin: senders come by themselves."""

    async def stop(self) -> None:
        """Wait for what is being written."""
        await self._history.close()

    def routes(self) -> list[Any]:
        """Return no routes: the API serves `/v1/hooks/{name}` itself."""
        return []

    # --- what the registry says ----------------------------------------------------------------------

    def begin(self, record: TriggerRecord, anew: bool) -> tuple[list[str | None] | None, int | None]:
        """Return nothing: it waits for senders."""
        return None, None

    async def settle(self, record: TriggerRecord) -> None:
        """Do nothing: nothing is due."""

    def check(self, record: TriggerRecord) -> None:
        """Check changed settings.

        Raises:
            UsageError: how a hook is signed is changed in the code.
        """
        if record.settings() != from_json(record.spec.settings):
            raise UsageError("the settings of a webhook are changed in the code; parameters and enabled can be here")

    def adopt(self, record: TriggerRecord) -> None:
        """Take its deliveries from now on."""
        self._records[record.name] = record

    def drop(self, record: TriggerRecord) -> None:
        """Take its deliveries no longer."""
        self._records.pop(record.name, None)

    # --- deliveries ----------------------------------------------------------------------------------

    def limit(self, name: str) -> int:
        """Return how long a body may be, in bytes.

        Raises:
            NotFoundError: there is no such webhook.
        """
        most: int = self._find(name).settings()["max_body"]
        return most

    async def receive(self, name: str, headers: Mapping[str, str], body: bytes) -> list[Receipt]:
        """Take a delivery; return the receipt for each flow of the webhook.

        Each flow takes or refuses it by itself. When it comes again, only those that refused it are asked again.

        Args:
            name: the webhook's.
            headers: with lower-case names.
            body: as it was received.

        Raises:
            NotFoundError: there is no such webhook.
            PullcordError: it was refused; that is in the ledger.
        """
        record = self._find(name)
        try:
            identity = self._verify(record, headers, body)
            requests = [
                replace(self._request(record, flow, {}), delivery=(identity, sha256(body).hexdigest()))
                for flow in record.spec.flows
            ]
            # What was taken once is answered again, whatever has become of the code meanwhile (design rule 4).
            known = [await self._gate.known_delivery(request) for request in requests]
            fires = None if all(known) else await self._fires(record, headers, body)
        except PullcordError as error:
            await self.refuse(name, error)
            raise
        if isinstance(fires, str):
            return await self._skip(record, identity, fires)
        receipts: list[Receipt] = []
        for request, receipt in zip(requests, known, strict=True):
            if receipt is None and fires is not None:
                inputs, key = fires
                receipt = await self._gate.submit(
                    replace(request, inputs=inputs, dedup=None if key is None else f"key:{key}")
                )
            if receipt is not None:
                receipts.append(receipt)
                outcome = _SHOWN.get(receipt.outcome, REFUSED)
                what = f"delivery {identity}"
                self._history.add(record, outcome, what if outcome == FIRED else f"{what}: {receipt.reason}")
        return receipts

    async def refuse(self, name: str, error: PullcordError) -> None:
        """Note that a delivery was refused; equal causes share a row in the ledger and a line in the history."""
        record = self._find(name)
        for flow in record.spec.flows:
            await self._gate.refuse_delivery(self._request(record, flow, {}), error)
        self._history.add(record, REFUSED, error.code)

    def _verify(self, record: TriggerRecord, headers: Mapping[str, str], body: bytes) -> str:
        settings, now = record.settings(), self._clock.now()
        if len(body) > settings["max_body"]:
            raise TooLargeError(f"the body is over this webhook's limit of {settings['max_body']:,} bytes")
        secrets: list[str] = []
        missing: SecretError | None = None
        for reference in settings["secrets"]:
            try:
                secrets.append(resolve(reference))
            except SecretError as error:
                missing = error
        try:
            return SCHEMES[settings["scheme"]](headers, body, secrets, now // 1_000_000)
        except InvalidSignatureError:
            # During a rotation one secret may be gone already; whoever signed with the other one is let in.
            if missing is not None:
                raise missing from None
            raise

    async def _fires(
        self, record: TriggerRecord, headers: Mapping[str, str], body: bytes
    ) -> tuple[dict[str, Any], str | None] | str:
        """Return inputs and key of what a delivery asks for, or why it is skipped."""
        if not record.enabled(self._clock.now()):
            raise DisabledError(f"the webhook {record.name} takes nothing now: {record.why_off()}")
        try:
            content = parse_json(body)
        except UsageError as error:
            raise UnreadableError(f"the body is not valid JSON: {error.message}") from None
        fixed: dict[str, Any] = from_json(record.parameters)
        if not record.settings()["mapped"]:
            if not isinstance(content, dict):
                raise InvalidInputsError(
                    "the body must be a JSON object, which is the inputs; or map it with inputs=",
                    [{"loc": ["inputs"], "msg": "must be a JSON object", "type": "dict_type"}],
                )
            return fixed | content, None
        payload = canonical_json({"body": content, "headers": dict(headers)})
        seen = await self._engine.fleets[record.spec.location].polls.map(record.name, payload)
        if seen.outcome == "skip":
            return seen.detail or "its function skipped it"
        if seen.outcome == "failed":
            trouble = f"{seen.detail['type']}: {seen.detail['message']}"
            raise MappingError(f"the function that makes inputs failed: {trouble}")
        if len(seen.detail) != 1:
            raise MappingError(f"the function that makes inputs made {len(seen.detail)} fires; a delivery makes one")
        context, key = seen.detail[0]
        return fixed | from_json(context), key

    async def _skip(self, record: TriggerRecord, identity: str, reason: str) -> list[Receipt]:
        receipts = [await self._gate.skip(self._request(record, flow, {}), reason) for flow in record.spec.flows]
        self._history.add(record, "skipped", f"delivery {identity}: {receipts[0].reason}")
        return receipts

    def _request(self, record: TriggerRecord, flow: str, inputs: dict[str, Any]) -> TriggerRequest:
        return TriggerRequest(flow=flow, inputs=inputs, invoker=record.invoker, source="http", trigger=record.ref)

    def _find(self, name: str) -> TriggerRecord:
        record = self._records.get(name)
        if record is None:
            raise NotFoundError(f"there is no webhook {name[:100]!r}; `pullcord triggers list` shows all triggers")
        return record

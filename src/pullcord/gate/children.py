"""Flows called inside flows: a child run goes through the same gate as any other."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from pydantic_core import from_json, to_json

from pullcord.core.errors import CodeChangedError
from pullcord.core.identity import child_request
from pullcord.core.states import RunState
from pullcord.engine.watch import Watch
from pullcord.failpoints import hit
from pullcord.gate.again import facts
from pullcord.gate.gate import Gate
from pullcord.gate.origin import RESUMABLE, Origin
from pullcord.gate.request import Invoker, Receipt, TriggerRef, TriggerRequest
from pullcord.store.commands.claim import Claimed
from pullcord.store.queries.origins import OriginRow, inherited_child, last_child
from pullcord.store.store import Store


class ChildRuns:
    """Submits child runs and waits for their ends.

    Args:
        gate: where they are admitted.
        watch: sees them end.
        store: knows those of earlier attempts.
    """

    def __init__(self, gate: Gate, watch: Watch, store: Store) -> None:
        self._gate = gate
        self._store = store
        self._watch = watch

    async def run(self, parent: Claimed, flow: str, inputs: str, identity: str) -> dict[str, Any]:
        """Run a flow for a parent.

        The request id follows from the parent and the call's identity, so that a parent that goes on in another
        worker finds the child it had started. A child that failed goes on from its recorded steps when its parent has
        another attempt or is resumed, as the parent does; one that succeeded is not run again.

        Returns:
            `{"run_id", "state", "result", "error", "reason"}`, results and errors as JSON text.
        """
        chain = () if parent.on_behalf_of is None else tuple(json.loads(parent.on_behalf_of))
        request = TriggerRequest(
            flow=flow,
            inputs=from_json(inputs),
            invoker=Invoker(parent.invoker, parent.invoker_kind, chain),
            source="flow",
            trigger=TriggerRef("flow", parent.flow),
            request_id=child_request(parent.uuid, identity, 1),
            parent_id=parent.id,
            test=bool(parent.test),
        )
        if parent.resumed_from is not None:
            inherited = await self._store.read(inherited_child, parent.resumed_from, identity)
            if inherited is not None and inherited.state not in RESUMABLE:
                # It has succeeded, or it goes on although its parent did not.
                answer = await self._await(inherited.id)
                if answer["state"] == RunState.SUCCEEDED:
                    return answer
                inherited = await self._store.read(inherited_child, parent.resumed_from, identity)
            request.origin = _resumable(inherited)
        hit("gate.before_child")
        receipt = await self._submit(request)
        hit("gate.after_child")
        if receipt.replayed and parent.attempt > 1 and receipt.state in RESUMABLE:
            # A new attempt of the parent tries the child again, once, whatever happens to its worker.
            arguments = (parent.id, parent.uuid, identity, parent.attempt - 1)
            earlier = await self._store.read(last_child, *arguments)
            if earlier is not None and earlier.state not in RESUMABLE:
                # The attempt before tried it again, and failed for something else.
                answer = await self._await(earlier.id)
                if answer["state"] == RunState.SUCCEEDED:
                    return answer
                earlier = await self._store.read(last_child, *arguments)
            request.request_id = child_request(parent.uuid, identity, parent.attempt)
            request.origin = _resumable(earlier)
            receipt = await self._submit(request)
        if receipt.run_id is None:
            return {"run_id": None, "state": "refused", "result": None, "error": None, "reason": receipt.reason}
        return await self._await(receipt.run_id)

    async def _submit(self, request: TriggerRequest) -> Receipt:
        """Ask for a child; one whose code has changed since begins from the beginning."""
        receipt = await self._gate.submit(request)
        if receipt.code == CodeChangedError.code and request.origin is not None:
            request.origin = None
            receipt = await self._gate.submit(request)
        return receipt

    async def _await(self, run_id: str) -> dict[str, Any]:
        item, ended = await self._watch.until(run_id, "ended", None)
        if not ended:
            # The server stops. The parent's call has no answer yet: it asks again when it goes on with the next server.
            await asyncio.Future()
        return {
            "run_id": run_id,
            "state": item["state"],
            "result": to_json(item["result"]).decode() if item["state"] == RunState.SUCCEEDED else None,
            "error": None if item["error"] is None else to_json(item["error"]).decode(),
            "reason": None,
        }


def _resumable(row: OriginRow | None) -> Origin | None:
    """Return a child as what its successor goes on with, where it can be."""
    return None if row is None or row.state not in RESUMABLE else Origin(*facts(row), resume=True)

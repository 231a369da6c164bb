"""Flows called inside flows: a child run goes through the same gate as any other."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID, uuid5

from pydantic_core import from_json, to_json

from pullcord.core.states import RunState
from pullcord.engine.watch import Watch
from pullcord.failpoints import hit
from pullcord.gate.gate import Gate
from pullcord.gate.request import Invoker, TriggerRef, TriggerRequest
from pullcord.store.commands.claim import Claimed


class ChildRuns:
    """Submits child runs and waits for their ends.

    Args:
        gate: where they are admitted.
        watch: sees them end.
    """

    def __init__(self, gate: Gate, watch: Watch) -> None:
        self._gate = gate
        self._watch = watch

    async def run(self, parent: Claimed, flow: str, inputs: str, identity: str) -> dict[str, Any]:
        """Run a flow for a parent.

        The request id follows from the parent and the call's identity, so that a parent that goes on in another
        worker finds the child it had started.

        Returns:
            `{"run_id", "state", "result", "error", "reason"}`, results and errors as JSON text.
        """
        behalf = parent.invoker["on_behalf_of"]
        chain = tuple(json.loads(behalf)) if isinstance(behalf, str) else tuple(behalf or ())
        request = TriggerRequest(
            flow=flow,
            inputs=from_json(inputs),
            invoker=Invoker(parent.invoker["id"], parent.invoker["kind"], chain),
            source="flow",
            trigger=TriggerRef("flow", parent.flow),
            request_id=str(uuid5(UUID(parent.uuid), identity)),
            parent_id=parent.id,
            test=parent.test,
        )
        hit("gate.before_child")
        receipt = await self._gate.submit(request)
        hit("gate.after_child")
        if receipt.replayed and parent.attempt > 1 and receipt.state in (RunState.FAILED, RunState.CANCELLED):
            # A new attempt of the parent tries the child anew, once, whatever happens to its worker.
            request.request_id = str(uuid5(UUID(parent.uuid), f"{identity}/{parent.attempt}"))
            receipt = await self._gate.submit(request)
        if receipt.run_id is None:
            return {"run_id": None, "state": "refused", "result": None, "error": None, "reason": receipt.reason}
        item, ended = await self._watch.until(receipt.run_id, "ended", None)
        if not ended:
            # The server stops. The parent's call has no answer yet: it asks again when it goes on with the next server.
            await asyncio.Future()
        return {
            "run_id": receipt.run_id,
            "state": item["state"],
            "result": to_json(item["result"]).decode() if item["state"] == RunState.SUCCEEDED else None,
            "error": None if item["error"] is None else to_json(item["error"]).decode(),
            "reason": None,
        }

"""Runs that are wanted again, resumed where they failed or from the beginning: each is a request like any other."""

from __future__ import annotations

from typing import Any

from pullcord.core.errors import NotFoundError
from pullcord.gate.gate import Gate
from pullcord.gate.origin import Origin
from pullcord.gate.request import Invoker, Receipt, TriggerRequest
from pullcord.store.queries.origins import OriginRow, find_origin
from pullcord.store.store import Store


class Again:
    """Asks for runs again.

    Args:
        store: where the runs are.
        gate: where the requests are decided on.
    """

    def __init__(self, store: Store, gate: Gate) -> None:
        self._store = store
        self._gate = gate

    async def resume(
        self, run_id: str, invoker: Invoker, source: str, *, force: bool = False, **options: Any
    ) -> Receipt:
        """Ask for a new run that keeps what this one recorded, and does what it has left.

        Args:
            run_id: a run that failed or was cancelled.
            invoker: who asks.
            source: where the call came in.
            force: keep the results although the code has changed since.
            options: `note`, `idempotency_key`, `request_id` and `dry_run` of the request.

        Raises:
            NotFoundError: there is no such run.
        """
        row = await self._find(run_id)
        origin = Origin(*facts(row), resume=True, force=force)
        return await self._gate.submit(_request(row, row.inputs, origin, invoker, source, options))

    async def rerun(
        self, run_id: str, given: dict[str, Any] | None, invoker: Invoker, source: str, **options: Any
    ) -> Receipt:
        """Ask for a new run from the beginning, with the inputs of this one, those given changed.

        Args:
            run_id: a run in any state.
            given: inputs that are to differ.
            invoker: who asks.
            source: where the call came in.
            options: `note`, `idempotency_key`, `request_id` and `dry_run` of the request.

        Raises:
            NotFoundError: there is no such run.
        """
        row = await self._find(run_id)
        changes = {
            name: ({"before": row.inputs[name]} if name in row.inputs else {}) | {"after": value}
            for name, value in (given or {}).items()
            if name not in row.inputs or row.inputs[name] != value
        }
        origin = Origin(*facts(row), resume=False, changes=changes)
        return await self._gate.submit(_request(row, row.inputs | (given or {}), origin, invoker, source, options))

    async def _find(self, run_id: str) -> OriginRow:
        row = await self._store.read(find_origin, run_id)
        if row is None:
            raise NotFoundError(f"no run has the id {run_id}; `pullcord runs list` shows the latest")
        return row


def facts(row: OriginRow) -> tuple[int, str, str, str, int | None, str]:
    """Return what an `Origin` begins with."""
    return row.number, row.id, row.flow_version, row.recorded_version, row.epoch, row.state


def _request(
    row: OriginRow, inputs: dict[str, Any], origin: Origin, invoker: Invoker, source: str, options: dict[str, Any]
) -> TriggerRequest:
    return TriggerRequest(
        flow=row.flow,
        inputs=inputs,
        invoker=invoker,
        source=source,
        priority=row.priority,
        test=row.test,
        scheduled_for=row.scheduled_for,
        origin=origin,
        **options,
    )

"""Asking for runs again: what `client.runs` can besides, sync and async."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from pullcord.client import calls
from pullcord.client.aconnection import AsyncConnection
from pullcord.client.calls import Call, Moment
from pullcord.client.connection import Connection
from pullcord.gate.request import Receipt


class Again:
    """`client.runs.resume`, `rerun` and `retry_failed`."""

    _connection: Connection

    def resume(
        self,
        run_id: str,
        *,
        force: bool = False,
        reason: str | None = None,
        idempotency_key: str | None = None,
        raise_on_refusal: bool = True,
    ) -> Receipt:
        """Ask for a new run that keeps the recorded steps of one that failed or was cancelled, and does the rest.

        Args:
            run_id: that run.
            force: keep them although the code has changed; where it asks for other steps, the run fails and says so.
            reason: why, kept with the run.
            idempotency_key: asked again with the same key, the answer is the same run.
            raise_on_refusal: False returns the receipt of a refusal instead of raising it.

        Raises:
            NotFoundError: there is no such run.
            RefusedError: nothing was admitted; its `code` is `not_resumable`, `code_changed` or any of the gate's.
        """
        call = resume(run_id, {"force": force, "reason": reason, "idempotency_key": idempotency_key})
        return calls.admitted(self._connection.send(call), raise_on_refusal)

    def rerun(
        self,
        run_id: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        reason: str | None = None,
        idempotency_key: str | None = None,
        raise_on_refusal: bool = True,
    ) -> Receipt:
        """Ask for a new run from the beginning, with the same inputs, those given changed.

        Args:
            run_id: a run in any state.
            inputs: those that are to differ.
            reason: why, kept with the run.
            idempotency_key: asked again with the same key, the answer is the same run.
            raise_on_refusal: False returns the receipt of a refusal instead of raising it.

        Raises:
            NotFoundError: there is no such run.
            RefusedError: nothing was admitted.
        """
        call = rerun(run_id, inputs, {"reason": reason, "idempotency_key": idempotency_key})
        return calls.admitted(self._connection.send(call), raise_on_refusal)

    def retry_failed(self, since: Moment, *, dry_run: bool = True, **options: Any) -> dict[str, Any]:
        """Say which failed runs would be asked for again and which not, or ask for them; twice is no more than once.

        Args:
            since: they ended at or after this time.
            dry_run: only say it; `runs` of the answer then names them.
            options: `until`, `flow`, `error` (a type), `from_beginning`, `force`, `limit` (of one call, at most 1000)
                and `reason`.

        Raises:
            NotFoundError: there is no such flow, and there never was a run of it.
            UsageError: the time ends before it begins.
        """
        return self._connection.send(retry_failed(since, dry_run, options))


class AsyncAgain:
    """The same for `AsyncClient`."""

    _connection: AsyncConnection

    async def resume(
        self,
        run_id: str,
        *,
        force: bool = False,
        reason: str | None = None,
        idempotency_key: str | None = None,
        raise_on_refusal: bool = True,
    ) -> Receipt:
        """Ask for a new run that keeps the recorded steps of one that failed or was cancelled, and does the rest.

        Args:
            run_id: that run.
            force: keep them although the code has changed; where it asks for other steps, the run fails and says so.
            reason: why, kept with the run.
            idempotency_key: asked again with the same key, the answer is the same run.
            raise_on_refusal: False returns the receipt of a refusal instead of raising it.

        Raises:
            NotFoundError: there is no such run.
            RefusedError: nothing was admitted; its `code` is `not_resumable`, `code_changed` or any of the gate's.
        """
        call = resume(run_id, {"force": force, "reason": reason, "idempotency_key": idempotency_key})
        return calls.admitted(await self._connection.send(call), raise_on_refusal)

    async def rerun(
        self,
        run_id: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        reason: str | None = None,
        idempotency_key: str | None = None,
        raise_on_refusal: bool = True,
    ) -> Receipt:
        """Ask for a new run from the beginning, with the same inputs, those given changed.

        Args:
            run_id: a run in any state.
            inputs: those that are to differ.
            reason: why, kept with the run.
            idempotency_key: asked again with the same key, the answer is the same run.
            raise_on_refusal: False returns the receipt of a refusal instead of raising it.

        Raises:
            NotFoundError: there is no such run.
            RefusedError: nothing was admitted.
        """
        call = rerun(run_id, inputs, {"reason": reason, "idempotency_key": idempotency_key})
        return calls.admitted(await self._connection.send(call), raise_on_refusal)

    async def retry_failed(self, since: Moment, *, dry_run: bool = True, **options: Any) -> dict[str, Any]:
        """Say which failed runs would be asked for again and which not, or ask for them; twice is no more than once.

        Args:
            since: they ended at or after this time.
            dry_run: only say it; `runs` of the answer then names them.
            options: `until`, `flow`, `error` (a type), `from_beginning`, `force`, `limit` (of one call, at most 1000)
                and `reason`.

        Raises:
            NotFoundError: there is no such flow, and there never was a run of it.
            UsageError: the time ends before it begins.
        """
        return await self._connection.send(retry_failed(since, dry_run, options))


def resume(run_id: str, options: Mapping[str, Any]) -> Call[Receipt]:
    """`POST /v1/runs/{id}/resume`, with a request id, so that it can be sent again."""
    return _ask(run_id, "resume", options)


def rerun(run_id: str, inputs: Mapping[str, Any] | None, options: Mapping[str, Any]) -> Call[Receipt]:
    """`POST /v1/runs/{id}/rerun`, with a request id, so that it can be sent again."""
    return _ask(run_id, "rerun", {"inputs": dict(inputs or {}), **options})


def _ask(run_id: str, what: str, options: Mapping[str, Any]) -> Call[Receipt]:
    body = {"request_id": str(uuid4())} | {name: value for name, value in options.items() if value is not None}
    path = f"/v1/runs/{calls.segment(run_id)}/{what}"
    return Call("POST", path, calls.receipt_of, body=calls.encode(body), repeatable=True, accepts="outcome")


def retry_failed(since: Moment, dry_run: bool, options: Mapping[str, Any]) -> Call[dict[str, Any]]:
    """`POST /v1/runs/retry-failed`, which may be sent again, for each run is asked for under a key of its own."""
    given = {"since": since, "dry_run": dry_run} | {name: value for name, value in options.items() if value is not None}
    body = {name: calls.moment(value) if name in ("since", "until") else value for name, value in given.items()}
    path = "/v1/runs/retry-failed"
    return Call("POST", path, calls.item_of, body=calls.encode(body), repeatable=True, patience=120.0)

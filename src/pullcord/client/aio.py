"""The asynchronous client: `sync.py` with awaits."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self

from pullcord.client import calls, downloads
from pullcord.client.aconnection import AsyncConnection
from pullcord.client.again import AsyncAgain
from pullcord.client.calls import Moment, Page, Wait, Wanted
from pullcord.client.channels import AsyncChannels
from pullcord.client.discovery import checked_url, find_server
from pullcord.client.downloads import Told
from pullcord.client.events import Event, Following, shows
from pullcord.client.flows import AsyncFlowPauses
from pullcord.client.limits import AsyncLimits
from pullcord.client.notifications import AsyncNotifications
from pullcord.client.paging import pages_async
from pullcord.client.questions import AsyncQuestions
from pullcord.client.retention import AsyncRetention
from pullcord.core.durations import Duration, seconds
from pullcord.core.until import check_until, reached
from pullcord.gate.request import Receipt

Lines = list[dict[str, Any]]


class AsyncRuns(AsyncAgain):
    """Runs: `client.runs`."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def list(
        self,
        *,
        flow: str | None = None,
        state: str | None = None,
        trigger: str | None = None,
        invoker: str | None = None,
        tag: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Return a page of runs, newest first, without steps and results."""
        call = calls.get(
            "/v1/runs", calls.page_of, flow=flow, state=state, trigger=trigger, invoker=invoker, tag=tag,
            since=since, until=until, limit=limit, cursor=cursor,
        )  # fmt: skip
        return await self._connection.send(call)

    def iter(self, **filters: Any) -> AsyncIterator[dict[str, Any]]:
        """Yield all runs that `list` would show, page after page."""
        return pages_async(self.list, filters)

    async def get(self, run_id: str) -> dict[str, Any]:
        """Return a run.

        Raises:
            NotFoundError: there is no such run.
        """
        return await self._connection.send(calls.get_run(run_id))

    async def cancel(self, run_id: str, *, force: bool = False, reason: str | None = None) -> dict[str, Any]:
        """Cancel a run and its children; return the run.

        Raises:
            NotFoundError: there is no such run.
            NotCancellableError: it has ended.
        """
        return await self._connection.send(calls.cancel(run_id, force, reason))

    async def logs(self, run_id: str) -> Lines:
        """Return the log lines there are now: `{"at", "level", "logger", "text"}`."""
        return await self._connection.send(calls.logs(run_id))

    async def artifacts(self, run_id: str) -> Lines:
        """Return the artifacts of a run by name: `{"name", "size", "sha256", "media_type", "step", "at"}`, and more.

        Raises:
            NotFoundError: there is no such run.
        """
        return await self._connection.send(downloads.list_artifacts(run_id))

    async def download(
        self, run_id: str, name: str, target: str | Path | None = None, told: Told | None = None
    ) -> Path:
        """Download an artifact into a file, and return that; it appears when all of it is there and checked.

        Args:
            run_id: the run.
            name: the artifact's name.
            target: the file, replaced when it is there; the artifact's name in the current folder unless given.
            told: is told how many bytes are there, and how many there will be.

        Raises:
            NotFoundError: there is no such run or artifact.
            DownloadError: it did not arrive whole.
            UsageError: the file cannot be written, or what is there is no regular file.
        """
        path = downloads.target_of(target, name)
        await self._connection.download(downloads.artifact_path(run_id, name), path, told)
        return path

    async def events(self, run_id: str, *, after: str | None = None) -> AsyncGenerator[Event]:
        """Yield what happens to a run, from the beginning to its end; goes on after a lost connection.

        Args:
            run_id: the run.
            after: the id of an event to go on after.
        """
        path = f"/v1/runs/{calls.segment(run_id)}/events"
        async with aclosing(self._connection.follow(path, Following(after))) as events:
            async for event in events:
                if event is not None:
                    yield event

    async def wait(self, run_id: str, timeout: Duration | None = None, *, until: str = "ended") -> dict[str, Any]:
        """Wait for a run; return it, also when the time is over and it is not as far.

        Args:
            run_id: the run.
            timeout: how long to wait; for ever unless given.
            until: `ended`, `started` or `step:NAME`.
        """
        path, what = f"/v1/runs/{calls.segment(run_id)}/events", check_until(until)
        state = Following(timeout=None if timeout is None else seconds(timeout))
        async with aclosing(self._connection.follow(path, state)) as events:
            async for event in events:
                if shows(event, what):
                    break
        return await self.get(run_id)


class AsyncFlows(AsyncFlowPauses):
    """Flows: `client.flows`."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def list(self, *, removed: bool = False, limit: int = 50, cursor: str | None = None) -> Page:
        """Return a page of flows by name; `more["failures"]` says what could not be loaded.

        Args:
            removed: show the flows that have left their location instead.
        """
        return await self._connection.send(
            calls.get("/v1/flows", calls.page_of, removed=removed or None, limit=limit, cursor=cursor)
        )

    def iter(self, *, removed: bool = False) -> AsyncIterator[dict[str, Any]]:
        """Yield all flows, or all that have left their location."""
        return pages_async(self.list, {"removed": removed})

    async def diff(self) -> dict[str, Any]:
        """Return for each location how the code on the disk differs from what is served: `{"locations"}`."""
        return await self._connection.send(calls.get("/v1/code/diff", calls.item_of))

    async def get(self, name: str) -> dict[str, Any]:
        """Return a flow.

        Raises:
            NotFoundError: there is no such flow.
        """
        return await self._connection.send(calls.get_flow(name))

    async def stats(self, name: str, window: str | None = None) -> dict[str, Any]:
        """Return the figures of a flow: how its runs ended, how long they took and waited.

        Args:
            name: the flow.
            window: such as `7d`, or several with commas; `24h,7d,30d` unless given.

        Raises:
            NotFoundError: there is no such flow.
        """
        return await self._connection.send(calls.flow_stats(name, window))

    async def all_stats(self, window: str | None = None, *, limit: int = 50, cursor: str | None = None) -> Page:
        """Return a page of flows by name, each with its figures of one window; `7d` unless given."""
        return await self._connection.send(calls.stats(window, limit, cursor))

    async def validate(self, name: str, inputs: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Look at inputs without asking for a run: `{"valid", "inputs", "errors"}`."""
        return await self._connection.send(calls.validate(name, inputs))


class AsyncRequests:
    """The ledger: `client.requests`."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def list(
        self,
        *,
        flow: str | None = None,
        outcome: str | None = None,
        trigger: str | None = None,
        invoker: str | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Return a page of requests, newest first.

        A repeat that makes no run, such as an equal call that is refused again, shares the row of the first, which
        has `count` and `last_at`. `since`, `until` and the order go by `at`, the time of the first.
        """
        call = calls.get(
            "/v1/requests", calls.page_of, flow=flow, outcome=outcome, trigger=trigger, invoker=invoker,
            since=since, until=until, limit=limit, cursor=cursor,
        )  # fmt: skip
        return await self._connection.send(call)

    def iter(self, **filters: Any) -> AsyncIterator[dict[str, Any]]:
        """Yield all requests that `list` would show, page after page."""
        return pages_async(self.list, filters)

    async def get(self, request_id: str) -> dict[str, Any]:
        """Return a request.

        Raises:
            NotFoundError: there is no such request.
        """
        return await self._connection.send(calls.get_request(request_id))


class AsyncTriggers:
    """Triggers: `client.triggers`. Each is named by its name or its id."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def list(
        self,
        enabled_only: bool = False,
        flow: str | None = None,
        kind: str | None = None,
        *,
        limit: int = 1000,
        cursor: str | None = None,
    ) -> Page:
        """Return a page of triggers by name, those that have left the code too.

        Args:
            enabled_only: only those that ask for runs now.
            flow: only those that start this flow.
            kind: `cron`, `interval`, `at`, `event`, `webhook`, `completion` or another one.
            limit: how many.
            cursor: the name after which to begin.
        """
        return await self._connection.send(calls.list_triggers(enabled_only, flow, kind, limit, cursor))

    def iter(
        self, enabled_only: bool = False, flow: str | None = None, kind: str | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield all triggers that `list` would show, page after page."""
        return pages_async(self.list, {"enabled_only": enabled_only, "flow": flow, "kind": kind})

    async def get(self, name: str) -> dict[str, Any]:
        """Return a trigger.

        Raises:
            NotFoundError: there is no such trigger.
        """
        return await self._connection.send(calls.get_trigger(name))

    async def set_enabled(
        self, name: str, enabled: bool | None, reason: str | None = None, until: Moment | None = None
    ) -> dict[str, Any]:
        """Enable or disable a trigger; return it as it is then.

        Args:
            name: its name or id.
            enabled: None for what the code says.
            reason: why, kept with it.
            until: end of a pause; for ever unless given.

        Raises:
            NotFoundError: there is no such trigger.
            UsageError: it cannot be so.
        """
        return await self._connection.send(calls.enable_trigger(name, enabled, reason, until))

    async def update(self, name: str, **changes: Any) -> dict[str, Any]:
        """Change a trigger; return it as it is then.

        Args:
            name: its name or id.
            changes: `enabled`, `until`, `schedule` (expression, seconds or time), `settings` (those of its kind that
                are to differ), `parameters`, each None for the code's value; `cursor`, where it goes on from;
                `reason`.

        Raises:
            NotFoundError: there is no such trigger.
            UsageError: it cannot be so.
        """
        return await self._connection.send(calls.change_trigger(name, changes))

    async def history(self, name: str, limit: int = 50, offset: int = 0) -> Page:
        """Return what a trigger did, newest first: `{"outcome", "reason", "detail", "at", "last_at", "count"}`.

        Args:
            name: its name or id.
            limit: so many lines.
            offset: leave out so many.

        Raises:
            NotFoundError: there is no such trigger.
        """
        return await self._connection.send(calls.trigger_history(name, limit, offset))

    async def preview(self, name: str, cursor: Any = None, n: int | None = None) -> dict[str, Any]:
        """Return what a trigger would do next, and have it do nothing.

        Args:
            name: its name or id.
            cursor: of an event, where to look from; its own unless given.
            n: of a schedule, how many ticks; 10 unless given.

        Raises:
            NotFoundError: there is no such trigger.
            UsageError: triggers of its kind cannot be previewed.
        """
        return await self._connection.send(calls.preview_trigger(name, cursor, n))

    async def replay(self, name: str, request_id: str, *, raise_on_refusal: bool = True) -> Receipt:
        """Ask again for what a trigger asked for once.

        Args:
            name: its name or id.
            request_id: the request, as the ledger has it.
            raise_on_refusal: False returns the receipt of a refusal instead of raising it.

        Raises:
            NotFoundError: there is no such trigger, or it made no such request.
            RefusedError: nothing was admitted.
        """
        return calls.admitted(await self._connection.send(calls.replay_trigger(name, request_id)), raise_on_refusal)


class AsyncClient:
    """A client of a Pullcord server; for one event loop; an async context manager.

    Args:
        url: the server's address; `PULLCORD_URL`, or the server that runs on the data folder, unless given.
        api_key: the bearer token; `PULLCORD_API_KEY`, or the data folder's token for the address that the folder's own
            server recorded, unless given.
        data_dir: the data folder; `PULLCORD_DATA_DIR` or `.pullcord` unless given.
        source: what the ledger says about where requests came from.

    Raises:
        UsageError: the address is none.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        data_dir: str | Path | None = None,
        source: str = "python",
    ) -> None:
        checked_url(url)
        self._connection = AsyncConnection(lambda: find_server(url, api_key, data_dir), source)
        self.runs = AsyncRuns(self._connection)
        self.flows = AsyncFlows(self._connection)
        self.requests = AsyncRequests(self._connection)
        self.retention = AsyncRetention(self._connection)
        self.triggers = AsyncTriggers(self._connection)
        self.notifications = AsyncNotifications(self._connection)
        self.limits = AsyncLimits(self._connection)
        self.channels = AsyncChannels(self._connection)
        self.questions = AsyncQuestions(self._connection)

    async def run(
        self,
        flow: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        request_id: str | None = None,
        reason: str | None = None,
        priority: int | None = None,
        not_before: Moment | None = None,
        expires_in: Duration | None = None,
        test: bool = False,
        dry_run: bool = False,
        wait: Wait = None,
        until: str = "ended",
        raise_on_refusal: bool = True,
    ) -> Receipt:
        """Ask for a run. A lost connection is tried again under the same request id, so that it is one run.

        Args:
            flow: the flow's name.
            inputs: what JSON can say; dates, paths, UUIDs and models are written as pydantic writes them.
            idempotency_key: asked again with the same key, the answer is the same run.
            request_id: a UUID to the same end; a new one unless given.
            reason: why, kept with the run.
            priority: higher goes first.
            not_before: the run starts no earlier.
            expires_in: how long it may wait to start, from now; then it is cancelled, and the request has expired. It
                ends after `not_before`.
            test: a test run.
            dry_run: only say what would happen.
            wait: True waits for ever, a duration as long; then the receipt has `run`.
            until: what to wait for: `ended`, `started` or `step:NAME`.
            raise_on_refusal: False returns the receipt of a refusal instead of raising it.

        Raises:
            RefusedError: nothing was admitted; its `receipt` and `code` say why.
            ServerUnreachableError: no server answers.
        """
        began = time.monotonic()
        body = calls.request_body(
            flow, inputs,
            {"idempotency_key": idempotency_key, "request_id": request_id, "reason": reason, "priority": priority,
             "not_before": not_before, "expires_in": expires_in, "test": test, "dry_run": dry_run},
        )  # fmt: skip
        receipt = calls.admitted(await self._connection.send(calls.run(body, wait, until)), raise_on_refusal)
        if receipt.run_id is not None and receipt.run is not None and not reached(receipt.run, until):
            longest = calls.waiting_time(wait)
            left = None if longest is None else longest - (time.monotonic() - began)
            if left is None or left > 0:
                receipt.run = await self.runs.wait(receipt.run_id, left, until=until)
                receipt.state = receipt.run["state"]
        return receipt

    async def run_many(self, requests: Iterable[Wanted]) -> list[Receipt]:
        """Ask for many runs; return a receipt for each, in order, refused or not.

        Args:
            requests: mappings with `flow`, `inputs` and what `run` takes besides (not `wait`), or `(flow, inputs)`.
        """
        return [receipt for call in calls.batches(requests) for receipt in await self._connection.send(call)]

    async def ready(self) -> dict[str, Any]:
        """Return whether the server can do its work, and which part cannot.

        It is `{"ready", "locations", "failures", "parts"}`; each part is `{"name", "ready", "detail"}`.
        """
        return await self._connection.send(calls.readiness())

    async def metrics(self) -> str:
        """Return the server's figures in Prometheus' text format."""
        return await self._connection.send(calls.metrics())

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

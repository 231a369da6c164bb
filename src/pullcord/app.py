"""The composition root: settings become a running server. Nothing else wires things together."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pullcord.clock import Clock, SystemClock, rfc3339
from pullcord.core.artifact import LIMIT
from pullcord.core.canonical import canonical_json, parse_json
from pullcord.core.durations import Duration, seconds
from pullcord.core.errors import ForbiddenError, LocationError, PullcordRuntimeError
from pullcord.core.flow import Flow
from pullcord.core.keep import Retention
from pullcord.core.quotas import Rate
from pullcord.core.until import check_until
from pullcord.engine.engine import Engine
from pullcord.engine.locations import CodeLocation, locate_all
from pullcord.engine.pauses import Pauses
from pullcord.engine.watch import Watch
from pullcord.failpoints import hit
from pullcord.gate.again import Again
from pullcord.gate.answers import Answers
from pullcord.gate.children import ChildRuns
from pullcord.gate.flowcontrol import FlowControl
from pullcord.gate.gate import Gate
from pullcord.gate.limits import Limits
from pullcord.gate.policy import LocalPolicy, Policy
from pullcord.gate.request import OWNER, Invoker, Receipt, RefusedError, TriggerRequest, expiry_of
from pullcord.gate.retrying import RetryFailed
from pullcord.notify.channels import Channels
from pullcord.notify.control import Notifications
from pullcord.notify.options import Notifying
from pullcord.notify.settings import ChannelSettings
from pullcord.services.duty import Duty
from pullcord.services.longruns import LongRuns
from pullcord.services.looplag import LoopLag
from pullcord.services.notifier import Notifier
from pullcord.services.progress import ProgressSaver
from pullcord.services.pruner import Pruner
from pullcord.services.rescuer import Rescuer
from pullcord.settings import default_workers
from pullcord.store.commands.cancelling import CancelRun
from pullcord.store.commands.limits import ConfigureGroups
from pullcord.store.queries.runs import run_number
from pullcord.store.store import Store
from pullcord.triggers.control import TriggerControl
from pullcord.triggers.kinds import TriggerKinds
from pullcord.triggers.outlook import Outlook
from pullcord.triggers.registry import Registry
from pullcord.triggers.scheduler import Scheduler

SWITCH_INTERVAL = 0.001
"""Seconds. The writer's thread and the event loop pass the interpreter lock to and fro; at 5 ms each would wait."""


class App:
    """A whole Pullcord server inside a Python program; an async context manager.

    Args:
        flows: modules, files, folders, or flows defined in a file; closures and notebook cells are refused, for
            they run in worker processes, which import them.
        data_dir: where data lives.
        workers: run workers for each location; one a core unless given.
        code: further locations, as the settings have them: with an interpreter or a name of their own.
        reload: replace the workers when code changes.
        only_new: leave the runs of earlier servers alone.
        stop_patience: how long active runs get to end when the app stops; what has not ended goes on next time.
        clock: the time.
        database_url: a PostgreSQL database; a SQLite file in `data_dir` unless given.
        limits: how many runs of a group may be active at once, by the group's name.
        channels: where messages are sent, as the settings have them.
        notify: rules of notifications for all flows, and how they are told.
        artifact_limit: how large one artifact may be, bytes.
        retention: how long what is kept; see `Retention` for what holds unless given.
        invoker_rate: how many requests each invoker may make, like `"100/1m"`; no limit unless given.

    Raises:
        LocationError: a location does not exist.
        StoreError: the data folder cannot be used, or another server holds it.
    """

    def __init__(
        self,
        flows: Iterable[str | Path | Flow[..., Any]] = (),
        data_dir: str | Path = ".pullcord",
        *,
        workers: int | None = None,
        code: Sequence[CodeLocation] = (),
        reload: bool = False,
        only_new: bool = False,
        stop_patience: Duration = 10.0,
        clock: Clock | None = None,
        database_url: str | None = None,
        limits: Mapping[str, int] | None = None,
        channels: Sequence[ChannelSettings] = (),
        notify: Notifying | None = None,
        artifact_limit: int = LIMIT,
        retention: Retention | None = None,
        invoker_rate: Rate | str | None = None,
    ) -> None:
        self._limits = dict(limits or {})
        self.data_dir = Path(data_dir)
        self._database_url = database_url
        self.clock = clock or SystemClock()
        self.channels = Channels(channels, self.clock)
        self._notifying = (notify or Notifying()).over(self.channels)
        self._locations = locations_of(flows, code)
        self._workers = workers or default_workers()
        self._reload = reload
        self._only_new = only_new
        self._artifact_limit = artifact_limit
        self.retention = retention or Retention()
        self._patience = seconds(stop_patience)
        self._invoker_rate = Rate.read(invoker_rate) if isinstance(invoker_rate, str) else invoker_rate
        self._started = False
        self._reloads: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Open the store, take over what an earlier server left, and start the workers."""
        if sys.getswitchinterval() > SWITCH_INTERVAL:
            sys.setswitchinterval(SWITCH_INTERVAL)
        self.store = Store(self.data_dir, self.clock, self._database_url)
        self.store.begin_with(self._notifying.book())
        self.engine = Engine(
            self.store, self.clock, self._locations, self._workers, Path.cwd(), only_new=self._only_new
        )
        self.engine.artifacts["limit"] = self._artifact_limit
        self.engine.prepare()
        self.store.start()
        self.policy: Policy = LocalPolicy()
        self.watch = Watch(self.store, self.engine.hub)
        self.pauses = Pauses(self.store, self.clock)
        self.gate = Gate(self.store, self.engine, self.policy, self.clock, self.pauses, self._invoker_rate)
        self.flows = FlowControl(self.store, self.engine, self.pauses, self.policy, self.clock)
        self.again = Again(self.store, self.gate)
        self.retry_failed = RetryFailed(self.store, self.again, self.engine.catalog, self.clock)
        self.engine.child_gate = ChildRuns(self.gate, self.watch, self.store).run
        self.limits = Limits(self.store, self.engine.catalog, self.policy, self.clock)
        self.answers = Answers(self.store, self.engine.questions, self.policy)
        self.scheduler = Scheduler(self.gate, asyncio.get_running_loop())
        self.registry = Registry(self.store, self.engine, self.clock)
        self.kinds = TriggerKinds(
            {
                "scheduler": self.scheduler,
                "gate": self.gate,
                "engine": self.engine,
                "store": self.store,
                "watch": self.watch,
                "registry": self.registry,
                "pauses": self.pauses,
                "clock": self.clock,
            }
        )
        self.triggers = TriggerControl(
            self.registry, self.kinds.schedules, self.kinds.events, self.gate, self.policy, self.store, self.clock
        )
        self.outlook = Outlook(self.registry, self.kinds.schedules, self.pauses, self.clock)
        self.lag = LoopLag()
        self.notifier = Notifier(self.store, self.clock, self._notifying)
        self.notifications = Notifications(self.store, self.clock, self._notifying, self.notifier)
        self.pruner = Pruner(self.store, self.clock, self.retention, by_itself=not self._only_new)
        self._services: list[Duty] = [
            Rescuer(self.engine),
            self.lag,
            self.pruner,
            LongRuns(self.store, self.clock),
            ProgressSaver(self.engine),
        ]
        if self._reload:
            from pullcord.services.reloader import Reloader  # its library costs a server that never reloads 30 ms

            self._services.append(Reloader(self.engine))
        self._started = True
        try:
            await self.store.write(lambda done: ConfigureGroups(self._limits, done))
            await self.pauses.load()
            # Somebody's single run has no business with schedules and events.
            if self._only_new:
                self.engine.declared = ignore_declarations
                await self.engine.start()
            else:
                # While the code is loading, what earlier servers knew of triggers is read.
                await asyncio.gather(self.registry.load(), self.engine.start())
        except BaseException:
            await self.stop()
            raise
        for service in (*self._services, self.notifier):
            service.start()
        if not self._only_new:
            self.kinds.start()

    async def drain(self) -> None:
        """Start nothing new, and give active runs time to end; callers are still answered."""
        await self.kinds.stop()
        await self.engine.drain(self._patience)

    async def stop(self) -> None:
        """Give active runs time to end, end all processes, close the store."""
        if not self._started:
            return
        self._started = False
        try:
            await self.kinds.stop()
            for service in self._services:
                await service.stop()
            for task in self._reloads:
                task.cancel()
            await self.engine.stop(self._patience)
            await self.notifier.stop()  # last: what has just ended is told too
        finally:
            await self.store.stop()

    async def ready(self) -> None:
        """Wait until every location has reported or failed, and what they declare is registered."""
        await self.engine.catalog.wait_ready()
        await self.registry.wait_ready()

    def reload(
        self, flows: Iterable[str | Path | Flow[..., Any]] | None = None, code: Sequence[CodeLocation] = ()
    ) -> None:
        """Load the present code, and change over to it where it is good; old runs finish where they are.

        A location whose new code would lose flows to a failure keeps its last good code.

        Args:
            flows: what is to be served from now on, as for a new app; what is served already unless given.
            code: likewise.

        Raises:
            LocationError: a location does not exist; then nothing is reloaded.
        """
        self._check()
        locations = None if flows is None else locations_of(flows, code)
        task = asyncio.get_running_loop().create_task(self.engine.deploys.reload(locations))
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def code_changes(self) -> list[dict[str, Any]]:
        """Return for each location how its code differs from what is served.

        Each is `{"location", "accepted", "changes", "failures"}`, `accepted` saying whether a reload would take it. The
        code is loaded in a process that does nothing else.
        """
        self._check()
        return await self.engine.deploys.pending()

    # --- what callers do -----------------------------------------------------------------------------

    async def run(
        self,
        flow: str,
        inputs: dict[str, Any] | None = None,
        *,
        wait: Duration | bool = False,
        until: str = "ended",
        idempotency_key: str | None = None,
        request_id: str | None = None,
        reason: str | None = None,
        priority: int = 0,
        expires_in: Duration | None = None,
        test: bool = False,
        dry_run: bool = False,
        invoker: Invoker = OWNER,
        source: str = "python",
    ) -> Receipt:
        """Ask for a run; the same gate as every other way.

        Args:
            flow: the flow's name.
            inputs: a JSON-like object.
            wait: True waits for ever, a duration as long; then the receipt has `run`.
            until: what to wait for: `ended`, `started` or `step:NAME`.
            idempotency_key: asked again with the same key, the answer is the same run.
            request_id: a UUID minted by the caller, to the same end.
            reason: why, kept with the run.
            priority: higher goes first.
            expires_in: how long it may wait to start; then it is cancelled, and the request has expired.
            test: a test run.
            dry_run: only say what would happen.

        Raises:
            RefusedError: nothing was admitted; its `receipt` and `code` say why.
        """
        self._check()
        request = TriggerRequest(
            flow=flow,
            inputs={} if inputs is None else inputs,
            invoker=invoker,
            source=source,
            request_id=request_id,
            idempotency_key=idempotency_key,
            note=reason,
            priority=priority,
            test=test,
            dry_run=dry_run,
            expires_in=None if expires_in is None else expiry_of(expires_in),
        )
        receipt = await self.gate.submit(request)
        if receipt.refused:
            raise RefusedError(receipt)
        if wait is not False and receipt.run_id is not None:
            await self.wait(receipt, None if wait is True else seconds(wait), until)
        return receipt

    async def run_many(self, requests: Sequence[TriggerRequest]) -> list[Receipt]:
        """Ask for many runs; each gets its own receipt, refused or not."""
        self._check()
        return list(await asyncio.gather(*(self.gate.submit(request) for request in requests)))

    async def wait(self, receipt: Receipt, timeout: float | None, until: str = "ended") -> bool:
        """Wait for a receipt's run and put it into the receipt, unless it was pruned; say whether it is so.

        Raises:
            UsageError: `until` is nothing to wait for.
        """
        check_until(until)
        assert receipt.run_id is not None
        if receipt.state is None:  # a replay of a run that was pruned meanwhile: it has ended long ago
            return True
        receipt.run, reached = await self.watch.until(receipt.run_id, until, timeout)
        receipt.state = receipt.run["state"]
        return reached

    async def validate(self, flow: str, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs as they would be validated, defaults included; nothing is recorded.

        Raises:
            InvalidInputsError: with one entry for each field that is wrong.
            PullcordError: the flow is unknown or cannot be loaded.
        """
        self._check()
        spec = await self.engine.catalog.resolve(flow)
        text = await self.engine.fleets[spec.location].validator.validate(flow, canonical_json(inputs))
        validated: dict[str, Any] = parse_json(text)
        return validated

    async def cancel(
        self, run_id: str, *, reason: str | None = None, force: bool = False, invoker: Invoker = OWNER
    ) -> dict[str, Any]:
        """Cancel a run and its children; return the run.

        Args:
            reason: why, kept with the run.
            force: have its worker process killed where it does not stop by itself.

        Raises:
            NotFoundError: there is no such run.
            NotCancellableError: it has ended.
            ForbiddenError: the invoker may not.
        """
        self._check()
        found = await self.store.read(run_number, run_id)
        if found is not None and not self.policy.may(invoker, "cancel", found[2]):
            raise ForbiddenError(f"{invoker.id} may not cancel runs of {found[2]}")
        at = rfc3339(self.clock.now()) or ""
        hit("cancel.before_write")
        changed = await self.store.write(lambda done: CancelRun(run_id, invoker.id, reason, force, at, done))
        hit("cancel.after_write")
        await self.engine.cancelled(changed, force)
        return await self.watch.run(run_id)

    async def resume(
        self,
        run_id: str,
        *,
        force: bool = False,
        reason: str | None = None,
        idempotency_key: str | None = None,
        request_id: str | None = None,
        invoker: Invoker = OWNER,
        source: str = "python",
    ) -> Receipt:
        """Ask for a new run that keeps the recorded steps of one that failed or was cancelled, and does the rest.

        Args:
            run_id: that run.
            force: keep them although the code has changed; where it asks for other steps, the run fails and says so.
            reason: why, kept with the run.
            idempotency_key: asked again with the same key, the answer is the same run.
            request_id: a UUID minted by the caller, to the same end.

        Raises:
            NotFoundError: there is no such run.
        """
        self._check()
        options = {"note": reason, "idempotency_key": idempotency_key, "request_id": request_id}
        return await self.again.resume(run_id, invoker, source, force=force, **options)

    async def rerun(
        self,
        run_id: str,
        changes: dict[str, Any] | None = None,
        *,
        reason: str | None = None,
        idempotency_key: str | None = None,
        request_id: str | None = None,
        invoker: Invoker = OWNER,
        source: str = "python",
    ) -> Receipt:
        """Ask for a new run of the same flow from the beginning, with its inputs, those given changed.

        Args:
            run_id: a run in any state.
            changes: inputs that are to differ; the new run shows what they were and are.
            reason: why, kept with the run.
            idempotency_key: asked again with the same key, the answer is the same run.
            request_id: a UUID minted by the caller, to the same end.

        Raises:
            NotFoundError: there is no such run.
        """
        self._check()
        options = {"note": reason, "idempotency_key": idempotency_key, "request_id": request_id}
        return await self.again.rerun(run_id, changes, invoker, source, **options)

    def _check(self) -> None:
        if not self._started:
            raise PullcordRuntimeError("the app is not running; use `async with pullcord.App(...) as app:`")


def ignore_declarations(
    location: str, triggers: list[dict[str, Any]] | None, digest: str | None, complete: bool
) -> None:
    """Leave what code declares besides its flows alone."""


def locations_of(flows: Iterable[str | Path | Flow[..., Any]], code: Sequence[CodeLocation] = ()) -> list[CodeLocation]:
    """Return the code locations of what a program named.

    Raises:
        LocationError: one does not exist, or a flow is defined where workers cannot import it.
    """
    return locate_all([str(item) if isinstance(item, str | Path) else _home(item) for item in flows], code)


def _home(flow: Flow[..., Any]) -> str:
    function = getattr(flow, "function", flow)
    if not inspect.isfunction(function):
        raise LocationError(f"{flow!r} is neither a path, a module's name nor a flow")
    if "<locals>" in function.__qualname__:
        raise LocationError(
            f"{function.__qualname__} is defined inside a function; workers import flows, so define it at "
            "the top level of a file"
        )
    module = sys.modules.get(function.__module__)
    file = getattr(module, "__file__", None)
    if module is None or file is None or not Path(file).is_file():
        raise LocationError(
            f"{function.__qualname__} lives in a notebook or interactive session; workers import flows, so put it "
            "into a file"
        )
    package = getattr(module, "__package__", None)
    return module.__name__ if package and module.__name__ != "__main__" else str(file)

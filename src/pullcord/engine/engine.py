"""The engine: what executes runs. It knows the store and the workers, and nothing of who asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

from pullcord.clock import Clock
from pullcord.core.artifact import FOLDER, LIMIT
from pullcord.core.errors import StoreError
from pullcord.core.manifest import ISOLATED
from pullcord.core.states import ENDED, RunState
from pullcord.engine.catalog import Catalog
from pullcord.engine.deadlines import Deadlines
from pullcord.engine.deploys import Deploys
from pullcord.engine.due import DueRuns
from pullcord.engine.fleet import Fleet
from pullcord.engine.hub import Hub
from pullcord.engine.journal import Journal
from pullcord.engine.locations import CodeLocation
from pullcord.engine.logfields import run_fields, worker_fields
from pullcord.engine.logfiles import LogFiles
from pullcord.engine.marks import Marks
from pullcord.engine.progress import ProgressReports
from pullcord.engine.questions import Questions
from pullcord.engine.room import Room
from pullcord.engine.statistics import RunStatistics
from pullcord.engine.worker import CONTROL, TRIAL, Assignment, WorkerHandle
from pullcord.failpoints import hit
from pullcord.store.commands.claim import Claimed
from pullcord.store.commands.journal import Ended
from pullcord.store.commands.lifecycle import Start
from pullcord.store.queries.flows import counts, removed_flows, stored_flows
from pullcord.store.queries.limits import changed_limits
from pullcord.store.queries.questions import count_parked
from pullcord.store.queries.runs import load_runs
from pullcord.store.queries.triggers import trigger_digests
from pullcord.store.store import Store
from pullcord.wire import messages as kinds
from pullcord.wire.frames import Message
from pullcord.wire.shape import misfit

log = logging.getLogger(__name__)

GRACE: Final = 10.0
"""Seconds that the neighbours in a doomed worker get to reach a step boundary and move."""

FINISHING: Final = 60.0
"""Seconds that a run which was cancelled without force gets there after that to end: it cannot move, and the step that
it is in may be one that has to finish."""

MOMENT: Final = 0.5
"""Seconds that async code gets to stop when it is cancelled by force, and a worker to say what a run was doing."""

Declare = Callable[[str, list[dict[str, Any]] | None, str | None, bool], None]
"""Takes `(location, triggers, digest, complete)`: what a location declares, None where it is as the digest says, and
whether all of its files loaded."""

ChildGate = Callable[[Claimed, str, str, str], Awaitable[dict[str, Any]]]
"""Submits a child run for `(parent, flow, inputs, identity)` and returns how it ended."""


class Engine:
    """Runs what the gate admits.

    Args:
        store: the open store.
        clock: the time.
        locations: where flows come from.
        workers: run workers for each location.
        cwd: working folder of the workers.
        only_new: execute only runs that are admitted from now on (how `pullcord run` works without a server).

    Attributes:
        uuids: ids of the runs in workers, by number.
        unplaced: claimed runs whose worker is not there yet.
        statistics: what became of runs so far.
        progress: how far runs are, as far as it is not on disk.
        make_fleet: makes the workers of a further location.
        fleets: the workers of each location that is served, by its name.
        leaving: the workers of locations that are served no longer, until their runs have ended.
        child_gate: set by the composition root.
        declared: likewise.
        artifacts: what workers are told about them: `{"folder", "limit"}`.
        known_triggers: digest of the triggers of each location that are registered.
    """

    child_gate: ChildGate
    declared: Declare

    def __init__(
        self, store: Store, clock: Clock, locations: list[CodeLocation], workers: int, cwd: Path, only_new: bool = False
    ) -> None:
        self.store = store
        self.clock = clock
        self.hub = Hub()
        self.room = Room(store.floor if only_new else 0)
        self.logs = LogFiles(store.folder / "logs")
        self.statistics = RunStatistics()
        self.progress = ProgressReports()
        self.journal = Journal(self)
        self.deploys = Deploys(self)
        self.catalog = Catalog(locations, {})
        self.artifacts: dict[str, Any] = {"folder": str(store.folder.absolute() / FOLDER), "limit": LIMIT}
        self.uuids: dict[int, str] = {}
        self.known_triggers: dict[str, str] = {}
        self.make_fleet: Callable[[CodeLocation], Fleet] = lambda location: Fleet(self, location, workers, cwd)
        self.fleets = {location.name: self.make_fleet(location) for location in locations}
        self.leaving: list[Fleet] = []
        self.unplaced: list[Assignment] = []
        self._held: list[Assignment] = []
        self.due = DueRuns(store, clock, self._spawn_task)
        self.deadlines = Deadlines(store, clock, self.hub, self.statistics, self.room.floor, self._spawn_task)
        self.questions = Questions(self, self._spawn_task)
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._idle = asyncio.Event()

    def prepare(self) -> None:
        """Start the template processes, so that they warm up while the server opens its store."""
        for fleet in self.fleets.values():
            fleet.prepare()

    async def start(self) -> None:
        """Take over what an earlier server left, start the workers, and begin to claim runs."""
        self.catalog.remember(list((await self.store.read(stored_flows)).values()))
        self.catalog.removed |= await self.store.read(removed_flows)
        self.catalog.limited = await self.store.read(changed_limits)
        self.known_triggers = await self.store.read(trigger_digests)
        states = await self.store.read(counts)
        hit("start.before_takeover")
        due = await self.store.write(Start)
        hit("start.after_takeover")
        left = states.get(RunState.RUNNING, 0) + states.get(RunState.WAITING, 0) - await self.store.read(count_parked)
        if left and not self.room.floor:
            self.statistics.takeovers["restart"] += left
            log.info(
                "an earlier server left %d active runs: they go on from their last records", left, extra={"runs": left}
            )
        for fleet in self.fleets.values():
            fleet.start()
        self.store.watch_failed(lambda failed: self._spawn_task(self.cancelled(failed, force=False)))
        self.store.serve(self.room, self._dispatch)
        self.due.not_after(due)
        self.deadlines.look()
        self.questions.due.look()

    async def drain(self, patience: float) -> None:
        """Start nothing new, and give active runs time to end. The second time there is nothing to do.

        Args:
            patience: seconds; what has not ended by then goes on with the next server.
        """
        if self._stopping:
            return
        self._stopping = True
        log.info("stopping; active runs: %d", self.active(), extra={"runs": self.active()})
        self.room.close()
        self.due.stop()
        self.deadlines.stop()
        self.questions.due.stop()
        deadline = time.monotonic() + patience
        while self.active() and time.monotonic() < deadline:
            self._idle.clear()
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self._idle.wait()
            except TimeoutError:
                break

    async def stop(self, patience: float) -> None:
        """Drain, then end all processes; nobody waits for news any longer."""
        await self.drain(patience)
        self.hub.close()
        fleets = [*self.fleets.values(), *self.leaving]
        await asyncio.gather(*(fleet.stop_polling() for fleet in fleets))
        for fleet in fleets:
            fleet.stop()
        await asyncio.gather(*(fleet.ended() for fleet in fleets))
        for task in self._tasks:
            task.cancel()
        await asyncio.to_thread(self.logs.stop)

    @property
    def stopping(self) -> bool:
        """Whether nothing new is started any more."""
        return self._stopping

    def active(self) -> int:
        """Return how many runs are in workers."""
        return len(self.unplaced) + sum(len(worker.assigned) for worker in self.workers())

    def workers(self) -> list[WorkerHandle]:
        """Return all worker processes."""
        return [worker for fleet in [*self.fleets.values(), *self.leaving] for worker in fleet.workers]

    # --- dispatch --------------------------------------------------------------------------------------

    def _dispatch(self, claimed: Sequence[Claimed]) -> None:
        hit("dispatch.before_send")
        self.statistics.claimed(claimed)
        self.uuids |= {run.id: run.uuid for run in claimed}
        for _, runs in groupby(claimed, attrgetter("lane", "flow")):
            self._place([Assignment(run, run.lane) for run in runs])
        for run in claimed:
            self.hub.state(run.uuid, RunState.RUNNING)

    def _place(self, assignments: Sequence[Assignment]) -> None:
        """Give runs of one flow and lane to workers."""
        first = assignments[0]
        location, way, flow = first.location, first.lane.rpartition("#")[2], first.run.flow
        fleet = self.fleets.get(location)
        if fleet is None:
            for assignment in assignments:
                self.lose_unplaced(assignment)
        elif self.catalog.awaits(location, flow, afresh=way == ISOLATED):
            self._hold(assignments)
        elif way == ISOLATED:
            for assignment in assignments:
                self.unplaced.append(assignment)
                self._spawn_task(fleet.place_alone(assignment, self._message(assignment.run)))
        elif workers := fleet.workers_for(flow, len(assignments)):
            for worker, assignment in zip(workers, assignments, strict=True):
                worker.assign(assignment, self._message(assignment.run))
        elif fleet.settled:
            self._hold(assignments)
        else:
            self.unplaced += assignments

    def _hold(self, assignments: Sequence[Assignment]) -> None:
        """Keep runs of one flow until more code is loaded: their own is still loading, or broken just now."""
        self._held += assignments
        if self.catalog.states[assignments[0].location].reported.is_set():
            text = f"waits for the code of {assignments[0].run.flow}, which cannot be loaded now"
            for assignment in assignments:
                self.journal.set_waiting(assignment, {"kind": "code", "text": text})

    def _release_hold(self, assignment: Assignment) -> None:
        if assignment.waiting:
            self.journal.set_waiting(assignment, None)

    def _message(self, run: Claimed) -> Message:
        behalf = None if run.on_behalf_of is None else json.loads(run.on_behalf_of)
        info = {
            "invoker": {"id": run.invoker, "kind": run.invoker_kind, "on_behalf_of": behalf},
            "trigger": {"kind": run.trigger_kind, "name": run.trigger_name},
            "scheduled_for": run.scheduled_for,
            "test": bool(run.test),
            "request_id": run.request_uuid,
            "epoch": run.epoch,
        }
        return [
            kinds.RUN, run.id, run.token, run.uuid, run.flow, run.flow_version, run.inputs, run.attempt, info, run.steps
        ]  # fmt: skip

    def lose_unplaced(self, assignment: Assignment) -> None:
        """A claimed run found no process: it goes back, and nobody is to blame."""
        if assignment in self.unplaced:
            self.unplaced.remove(assignment)
        self.room.free(assignment.lane)
        self.journal.lose([[assignment.run.id, assignment.run.token, 0, None]])

    def _spawn_task(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- what workers say ------------------------------------------------------------------------------

    def receive(self, worker: WorkerHandle, messages: list[Message]) -> None:
        """Take the messages of one frame; one that makes no sense costs the worker its life."""
        for message in messages:
            wrong = misfit(message)
            if wrong is not None:
                worker.break_off(wrong)
                return
        self.journal.receive(worker, messages)
        if self._stopping and not self.active():
            self._idle.set()

    def handle(self, worker: WorkerHandle, message: Message) -> None:
        """Take one message that is neither a step record nor the end of a run."""
        kind = message[0]
        if kind == kinds.VALIDATED:
            worker.fleet.validator.answer(message)
        elif kind == kinds.POLLING:
            worker.fleet.polls.taken(worker, message[1])
        elif kind == kinds.POLLED:
            worker.fleet.polls.answer(worker, message[1])
        elif kind == kinds.MAPPED:
            worker.fleet.polls.mapped(message[1], message[2])
        elif kind == kinds.BEAT:
            worker.last_beat = time.monotonic()
            worker.resident, worker.behind = message[1], message[2]
        elif kind == kinds.LOG:
            self.journal.log(worker, message)
        elif kind == kinds.PROGRESS:
            self.journal.progress(worker, message)
        elif kind == kinds.CHILD:
            self._child(worker, message)
        elif kind == kinds.WAITING:
            self.journal.waiting(worker, message)
        elif kind == kinds.STOPPING:
            cancelled = worker.assignment(message[1], message[2])
            if cancelled is not None:
                cancelled.stops(message[3])
        elif kind == kinds.RELEASED:
            self.journal.released(worker, message)
        elif kind == kinds.PARKED:
            self.questions.park(worker, message)
        elif kind == kinds.DOOMED:
            stuck = worker.assignment(message[2], message[3])
            if stuck is not None:
                stuck.failure = message[4]
                worker.give_up_run(message[2])
            self.doom(worker, message[1])
        elif kind == kinds.HELLO:
            if message[1] != kinds.VERSION:
                worker.kill(f"it speaks version {message[1]} of the protocol, this server {kinds.VERSION}")
        elif kind == kinds.MANIFEST:
            self._loaded(worker, message[1])

    def _loaded(self, worker: WorkerHandle, manifest: dict[str, Any]) -> None:
        versions: dict[str, str] = manifest["versions"]
        worker.last_beat, worker.behind = time.monotonic(), 0.0  # its loop stood still while it imported
        if "marks" in manifest:
            worker.marks = Marks.open(worker.pid, manifest["marks"])
        if worker.role == TRIAL:
            worker.ready = worker.was_ready = True
            worker.manifest.set_result(manifest)
            return
        if worker.role == CONTROL and worker.retired:
            # Other code was loaded meanwhile: its successor is on the way, or there.
            worker.send([kinds.STOP])
            return
        worker.flows = versions
        if worker.role == CONTROL:
            self.deploys.take(worker.fleet, manifest)
        worker.fleet.became_ready(worker)
        if worker.role == CONTROL:
            worker.fleet.retire_others(versions)
        self.place_again()

    def withdraw(self, location: str) -> None:
        """Give the runs back that wait for a worker of a location: it is served no longer."""
        for assignment in [a for a in [*self._held, *self.unplaced] if a.location == location]:
            if assignment in self._held:
                self._held.remove(assignment)
                self._release_hold(assignment)
            self.lose_unplaced(assignment)

    def place_again(self) -> None:
        """Look again for workers for the runs that have none: there is other code, or more room."""
        held, self._held = self._held, []
        for assignment in held:
            self._release_hold(assignment)
            self._place([assignment])
        for assignment in [a for a in self.unplaced if not a.lane.endswith(f"#{ISOLATED}")]:
            self.unplaced.remove(assignment)
            self._place([assignment])
        self.store.nudge()

    def worker_gone(self, worker: WorkerHandle) -> None:
        """A worker's channel is closed: its runs go on elsewhere when its process is surely dead."""
        worker.fleet.gone(worker)
        if not self._stopping:
            self._spawn_task(self._bury(worker))

    async def _bury(self, worker: WorkerHandle) -> None:
        worker.kill(worker.deliberate)
        try:
            async with asyncio.timeout(5.0):
                await worker.ended.wait()
        except TimeoutError:
            log.error("worker %d closed its channel, but its end was not seen", worker.pid, extra=worker_fields(worker))
        worker.fleet.buried(worker)
        assignments, worker.assigned = list(worker.assigned.values()), {}
        end = worker.explain_end()
        _log_end(worker, end, assignments)
        if not assignments:
            return
        blame = 1 if worker.deliberate is None else 0
        error = json.dumps(
            {
                "type": "worker_lost",
                "message": "the worker process died three times without a new step record, the last time because "
                f"{end}; look for crashes or memory use in the step that was running",
                "traceback": None,
            }
        )
        for assignment in assignments:
            if not assignment.waiting:
                self.room.free(assignment.lane)
        self.journal.end([a for a in assignments if a.failure is not None])
        lost = [[a.run.id, a.run.token, blame, error] for a in assignments if a.failure is None]
        if lost:
            about = {a.run.id: run_fields(a.run) | {"worker_pid": worker.pid, "why": end} for a in assignments}
            hit("takeover.before_write")
            self.journal.lose(lost, about)
        if self._stopping and not self.active():
            self._idle.set()

    # --- dooming and cancelling ------------------------------------------------------------------------

    def doom(self, worker: WorkerHandle, reason: str) -> None:
        """Replace a process in which a thread cannot be stopped: neighbours get time to move, then it is killed."""
        if worker.deliberate is not None:
            return
        worker.fleet.retire(worker, reason, "stuck")
        worker.deliberate = reason
        worker.send([kinds.DRAIN])
        self._spawn_task(self._execute(worker, reason))

    async def _execute(self, worker: WorkerHandle, reason: str) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE):
                await worker.deserted()
        for assignment in list(worker.assigned.values()):
            if not assignment.ends_here:
                worker.give_up_run(assignment.run.id)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISHING):
                await worker.deserted()
        worker.kill(reason)

    def cancel(self, number: int, uuid: str, state: str, force: bool) -> None:
        """Tell a run's worker that it is cancelled; the store knows it already."""
        self.hub.state(uuid, state)
        if state != RunState.CANCELLING:
            self.uuids.pop(number, None)
            return
        for assignment in [held for held in self._held if held.run.id == number]:
            self._held.remove(assignment)
            self._release_hold(assignment)
            self.lose_unplaced(assignment)
        for assignment in [waiting for waiting in self.unplaced if waiting.run.id == number]:
            self.lose_unplaced(assignment)
        for worker in self.workers():
            assigned = worker.assigned.get(number)
            if assigned is not None:
                worker.cancel(assigned, force)
                if force:
                    self._spawn_task(self._force(worker, assigned))

    async def cancelled(self, changed: list[tuple[str, Ended]], force: bool) -> None:
        """Tell the workers of cancelled runs, and count those that never had one.

        Args:
            changed: `(id, Ended)` of each, as the store says.
            force: whether processes may be killed for it.
        """
        for uuid, ended in changed:
            self.cancel(ended.id, uuid, ended.state, force)
        now = self.clock.now()
        uncounted = [
            uuid
            for uuid, ended in changed
            if ended.state in ENDED and not self.statistics.left(ended.id, ended.state, now)
        ]
        if uncounted:
            for item in (await self.store.read(load_runs, uncounted)).values():
                self.statistics.never_started(item["flow"], item["state"], item["test"])

    async def _force(self, worker: WorkerHandle, assignment: Assignment) -> None:
        """Have the process of a cancelled run replaced. Code that can stop by itself gets a moment, a thread none."""
        run = assignment.run
        end = self.hub.end_of(run.uuid)
        deadline = asyncio.get_running_loop().time() + MOMENT
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                # When the worker has heard of it, it has also said which steps are in progress.
                if not await assignment.is_stuck():
                    await end
        self.hub.forget(run.uuid, end)
        if worker.assigned.get(run.id) is assignment:
            hit("cancel.before_kill")
            worker.give_up_run(run.id)
            self.doom(worker, "a run in it was cancelled by force")

    def undeliverable(self, worker: WorkerHandle, message: Message, error: Exception) -> None:
        """A message cannot be written: the run or child call it is about fails, and nothing else."""
        fields = worker_fields(worker)
        log.error("a %s message cannot be sent to worker %d: %s", message[0], worker.pid, error, extra=fields)
        if message[0] == kinds.RUN:
            self.journal.fail(worker, message[1], message[2], f"its recorded steps cannot be replayed: {error}")
        elif message[0] == kinds.CHILD:
            worker.send([*message[:4], _refused_child(f"its result is too large: {error}")])

    # --- child runs ------------------------------------------------------------------------------------

    def _child(self, worker: WorkerHandle, message: Message) -> None:
        _, run, token, call, flow, inputs, identity = message
        assignment = worker.assignment(run, token)
        if assignment is not None:
            self.journal.set_waiting(assignment, {"kind": "child", "text": f"waits for a run of {flow}"})
            self._spawn_task(self._run_child(worker, assignment, call, flow, inputs, identity))

    async def _run_child(
        self, worker: WorkerHandle, assignment: Assignment, call: int, flow: str, inputs: str, identity: str
    ) -> None:
        run = assignment.run
        answer: dict[str, Any] | None = None
        while answer is None:
            try:
                answer = await self.child_gate(run, flow, inputs, identity)
            except StoreError as error:
                # The request id follows from the call, so asking again is safe.
                log.warning("a child run of %s is asked for again: %s", run.uuid, error, extra=run_fields(run))
                await asyncio.sleep(1.0)
            except Exception as error:
                log.exception("a child run of %s failed", run.uuid, extra=run_fields(run))
                answer = _refused_child(str(error))
            if not worker.connected or worker.assigned.get(run.id) is not assignment:
                return
        self.journal.set_waiting(assignment, None)
        worker.send([kinds.CHILD, run.id, run.token, call, answer])


def _log_end(worker: WorkerHandle, end: str, assignments: list[Assignment]) -> None:
    name, number = worker.fleet.location.name, len(assignments)
    runs = f"{number} run{'' if number == 1 else 's'}"
    expected = worker.cause is None and not assignments
    fields = worker_fields(worker) | {"why": end, "cause": worker.cause, "runs": number}
    level = logging.DEBUG if expected else logging.WARNING
    log.log(level, "worker %d of %s is gone (%s) with %s", worker.pid, name, end, runs, extra=fields)
    for assignment in assignments:
        fields = run_fields(assignment.run) | {"worker_pid": worker.pid, "why": end}
        log.info("run %s of %s has lost its worker", assignment.run.uuid, assignment.run.flow, extra=fields)


def _refused_child(reason: str) -> dict[str, Any]:
    return {"run_id": None, "state": "refused", "result": None, "error": None, "reason": reason}

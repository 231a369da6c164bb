"""The workers of one code location: one for control, some for many runs, one for each run that must be alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pullcord.core.errors import LocationError
from pullcord.core.manifest import ISOLATED, SHARED_ASYNC, SHARED_SYNC, lane
from pullcord.engine.locations import CodeLocation
from pullcord.engine.logfields import run_fields, worker_fields
from pullcord.engine.polls import Polls
from pullcord.engine.sharing import shares
from pullcord.engine.template import Template
from pullcord.engine.templates import Templates
from pullcord.engine.validation import Validator
from pullcord.engine.worker import ALONE, APART, CONTROL, SHARED, TRIAL, Assignment, WorkerHandle
from pullcord.wire import messages as kinds
from pullcord.wire.frames import Message

if TYPE_CHECKING:
    from pullcord.engine.engine import Engine

log = logging.getLogger(__name__)

ASYNC_ROOM: Final = 500
"""How many async runs one worker executes at once."""

SYNC_ROOM: Final = 64
"""How many sync runs one worker executes at once, each in a thread."""

ALONE_ROOM: Final = 4
"""How many runs of a location execute in processes of their own at once."""

STABLE: Final = 5.0
"""A worker that lived shorter than this, in seconds, is replaced only after a pause."""

LONGEST_PAUSE: Final = 30.0

LOADING: Final = 60.0
"""Seconds that code may take to load; then its process is killed, and tried again after a pause."""

CLOSING: Final = 3.0
"""Seconds that events get to close what they hold open when the server stops."""


class Fleet:
    """The worker processes of a location.

    Args:
        engine: what they belong to.
        location: the code they load.
        size: how many workers execute many runs each.
        cwd: their working folder.

    Attributes:
        validator: has the control worker validate inputs.
        polls: has it poll events.
    """

    def __init__(self, engine: Engine, location: CodeLocation, size: int, cwd: Path) -> None:
        self.engine = engine
        self.location = location
        self.validator = Validator()
        self.polls = Polls(self)
        self.workers: list[WorkerHandle] = []
        self._size = size
        self._templates = Templates(cwd, engine.store.folder, self._exited, self._killed_with_template)
        self._born: dict[WorkerHandle, float] = {}
        self._by_pid: dict[int, WorkerHandle] = {}
        self._pause = 0.0
        self._starting: Counter[str] = Counter()
        self._missing: list[str] = []
        self._trouble: str | None = None
        self._reloads = 0
        self._candidate: WorkerHandle | None = None
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()

    def prepare(self) -> None:
        """Start the template process; it warms up while the server does other things."""
        with contextlib.suppress(LocationError):  # `start` meets it again, and deals with it
            self._templates.current = self._templates.start(self.location.python)

    def start(self) -> None:
        """Start the workers."""
        if self._templates.current is not None:
            self._templates.current.attach()
        self.engine.room.grow(lane(self.location.name, ISOLATED), ALONE_ROOM)
        self._spawn_soon(CONTROL)
        for _ in range(self._size):
            self._spawn_soon(SHARED)

    async def stop_polling(self) -> None:
        """Have what events hold open closed: the workers that poll end in good order, or after a while anyhow."""
        polling = [worker for worker in self.workers if worker.role in (CONTROL, APART) and worker.connected]
        for worker in polling:
            self._dismiss(worker)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSING):
                await asyncio.gather(*(worker.ended.wait() for worker in polling))

    def stop(self) -> None:
        """End all processes of this location."""
        self._stopping = True
        self.validator.close()
        self.polls.close()
        for task in self._tasks:
            task.cancel()
        for worker in self.workers:
            worker.deliberate = "the server stops"
            worker.give_up("the server stops")
        self._templates.close()

    async def ended(self) -> None:
        """Wait until the processes of a stopped location have ended, and close what was open to them."""
        await self._templates.ended()
        for worker in list(self.workers):
            worker.close()
        await asyncio.sleep(0)  # a socket is closed in the next turn of the loop

    def leave(self) -> None:
        """Start nothing more: the location is served no longer. Runs finish where they are."""
        self._stopping = True
        self.validator.close()
        self.polls.close()
        for task in self._tasks:
            task.cancel()
        self.engine.room.grow(lane(self.location.name, ISOLATED), -ALONE_ROOM)
        for worker in list(self.workers):
            if worker.role in (CONTROL, TRIAL, APART):
                self._dismiss(worker)
            elif worker.role == SHARED:
                self.retire(worker, "its location is served no longer", "reload")
        self._templates.leaving = True
        self._templates.close_unneeded()
        self._left()

    # --- new code ------------------------------------------------------------------------------------

    async def reload(self, location: CodeLocation | None = None) -> None:
        """Load the present code beside the old, and change over when it is good; old runs finish where they are.

        When reloads overtake one another, the last one counts.

        Args:
            location: where the code is now, when that has changed.
        """
        location = location or self.location
        self._reloads += 1
        number, template = self._reloads, None
        if self._candidate is not None:
            self._dismiss(self._candidate)
        try:
            if location.foreign or location.python != self.location.python:
                # What is installed there may have changed, and a template has some of it in memory.
                template = self._templates.start_beside(location.python)
            self._candidate = worker = await self.spawn(TRIAL, location, template)
            manifest = await worker.manifest
        except (LocationError, OSError) as error:
            if number == self._reloads and not self._stopping:
                self.engine.deploys.refuse(self, str(error))
        else:
            if number == self._reloads and not self._stopping and self.engine.deploys.accepts(self, manifest):
                self._change_over(worker, location, template, manifest)
            else:
                self._dismiss(worker)
        if number == self._reloads:
            self._candidate = None
        if template is not None:
            self._templates.let_go(template)

    def _change_over(
        self, worker: WorkerHandle, location: CodeLocation, template: Template | None, manifest: dict[str, Any]
    ) -> None:
        self.location = self.engine.catalog.states[location.name].location = location
        self._templates.current = template or self._templates.current
        worker.role = CONTROL
        self.engine.deploys.take(self, manifest)
        self.became_ready(worker)
        for other in [other for other in self.workers if other.role == SHARED]:
            self.retire(other, "its code was reloaded", "reload")
        for other in [other for other in self.workers if other.role == APART]:
            self._dismiss(other)
        for _ in range(self._wanting(SHARED)):  # what could not be started before, or did not last
            self._spawn_soon(SHARED)
        self.engine.place_again()

    async def examine(self) -> dict[str, Any]:
        """Return the manifest of the code as it is now, loaded in a process that does nothing else.

        Raises:
            LocationError: it cannot be loaded at all.
        """
        worker = await self.spawn(TRIAL)
        try:
            return await worker.manifest
        finally:
            self._dismiss(worker)

    def _dismiss(self, worker: WorkerHandle) -> None:
        """Let go of a worker without runs, which may be busy importing."""
        worker.retired = worker.replaced = True
        worker.cause = worker.cause or "reload"
        self.validator.detach(worker)
        self.polls.detach(worker)
        if worker.was_ready:
            worker.send([kinds.STOP])
        else:
            worker.kill("other code was loaded in its place")

    # --- finding a place for a run -------------------------------------------------------------------

    def workers_for(self, flow: str, count: int) -> list[WorkerHandle]:
        """Return a shared worker that has the flow for each of so many runs, or none at all while none is ready.

        The least busy ones get the most. Neighbours go to the same one: they lie on the same pages of the database, and
        are written together again when their worker reports them together. A flow that the location has no more may go
        to any: there the run fails, and says so.
        """
        anywhere = self.engine.catalog.get(flow) is None
        usable = [
            worker
            for worker in self.workers
            if worker.ready and not worker.retired and worker.role == SHARED and (anywhere or flow in worker.flows)
        ]
        if not usable:
            return []
        given = shares([len(worker.assigned) for worker in usable], count)
        return [worker for worker, share in zip(usable, given, strict=True) for _ in range(share)]

    @property
    def settled(self) -> bool:
        """Whether no shared worker is about to come."""
        shared = [worker for worker in self.workers if worker.role == SHARED and not worker.retired]
        return len(shared) >= self._size and all(worker.ready for worker in shared)

    async def place_alone(self, assignment: Assignment, message: Message) -> None:
        """Execute a run in a process of its own."""
        try:
            worker = await self.spawn(ALONE)
        except (LocationError, OSError) as error:
            fields = run_fields(assignment.run)
            log.warning("no process for run %s: %s", assignment.run.uuid, error, extra=fields)
            await asyncio.sleep(self.longer_pause())
            if assignment in self.engine.unplaced:
                self.engine.lose_unplaced(assignment)
            return
        if assignment not in self.engine.unplaced:  # it was cancelled meanwhile
            self.emptied(worker)
            return
        self.engine.unplaced.remove(assignment)
        worker.assign(assignment, message)

    def emptied(self, worker: WorkerHandle) -> None:
        """A worker has no runs left: one that was alone or is retired can go."""
        if worker.role == ALONE or worker.retired:
            worker.retired = True
            worker.send([kinds.STOP])

    # --- replacing -----------------------------------------------------------------------------------

    def retire(self, worker: WorkerHandle, why: str, cause: str) -> None:
        """Give a worker no more runs, and start another in its place; it leaves when its runs have ended.

        Args:
            worker: the worker.
            why: in words.
            cause: the same as a class for counting: `reload`, `memory`, `silent`, `blocked` or `stuck`.
        """
        if worker.retired:
            return
        fields = worker_fields(worker) | {"why": why, "cause": cause}
        log.info("worker %d of %s is replaced: %s", worker.pid, self.location.name, why, extra=fields)
        worker.cause = worker.cause or cause
        worker.retired = True
        self._make_room(worker, False)
        if worker.role != ALONE and not self._stopping:
            worker.replaced = True
            self._spawn_soon(worker.role)
        if not worker.assigned and worker.role != CONTROL:
            worker.send([kinds.STOP])

    def retire_others(self, versions: dict[str, str]) -> None:
        """Replace run workers that loaded other versions of the flows: the code on the disk changed in between."""
        for worker in [other for other in self.workers if other.role == SHARED and other.ready]:
            if worker.flows != versions:
                self.retire(worker, "the code has changed since it was loaded", "reload")

    def became_ready(self, worker: WorkerHandle) -> None:
        """A worker has loaded its location."""
        worker.ready = worker.was_ready = True
        log.debug(
            "%s worker %d of %s is ready", worker.role, worker.pid, self.location.name, extra=worker_fields(worker)
        )
        self._pause, self._trouble = 0.0, None
        if worker.role == CONTROL:
            for other in [other for other in self.workers if other.role == CONTROL and other is not worker]:
                self._dismiss(other)
            self.validator.attach(worker)
            self.polls.attach(worker)
        elif worker.role == APART:
            self.polls.attach(worker)
        elif not worker.retired:
            self._make_room(worker, True)

    def gone(self, worker: WorkerHandle) -> None:
        """A worker's channel is closed: it is dead, or as good as dead."""
        born = self._born.pop(worker, time.monotonic())
        if worker in self.workers:
            self.workers.remove(worker)
        self.validator.lost(worker)
        self.polls.lost(worker)
        if self._stopping:
            return
        if worker.cause is None and not (worker.role == ALONE and worker.retired):
            worker.cause = "crashed"
        if worker.cause is not None and worker.role != TRIAL:
            self.engine.statistics.replacements[self.location.name, worker.cause] += 1
        self._make_room(worker, False)
        if worker.replaced or worker.role in (ALONE, TRIAL, APART):
            return
        lasting = worker.was_ready and time.monotonic() - born >= STABLE
        self._spawn_soon(worker.role, self._pause if lasting else self.longer_pause())

    def buried(self, worker: WorkerHandle) -> None:
        """A worker's process has ended, and it is known how."""
        if worker.was_ready or worker.role not in (CONTROL, TRIAL):
            return
        why = f"the process that imports this code died: {worker.explain_end()}"
        if worker.late:
            why = f"importing this code took longer than {LOADING:g} s; look at what it does when it is imported"
        if worker.role == TRIAL:
            worker.give_up(why)
        elif not worker.replaced:
            self._fail(why)

    def _fail(self, why: str) -> None:
        self.validator.trouble = why
        self.engine.catalog.fail(self.location.name, why)

    def longer_pause(self) -> float:
        """Return how long to wait before another process is started, in seconds: longer every time."""
        self._pause = min(LONGEST_PAUSE, max(0.1, self._pause * 2))
        return self._pause

    def _make_room(self, worker: WorkerHandle, there: bool) -> None:
        if worker.role == SHARED and worker.roomy != there:
            worker.roomy = there
            sign = 1 if there else -1
            self.engine.room.grow(lane(self.location.name, SHARED_ASYNC), sign * ASYNC_ROOM)
            self.engine.room.grow(lane(self.location.name, SHARED_SYNC), sign * SYNC_ROOM)

    # --- processes -----------------------------------------------------------------------------------

    def _spawn_soon(self, role: str, pause: float = 0.0) -> None:
        async def spawn() -> None:
            await asyncio.sleep(pause)
            if self._wanting(role) <= 0:
                return  # a reload was faster
            try:
                await self.spawn(role)
            except (LocationError, OSError) as error:
                self._could_not_start(role, str(error))

        self.spawn_task(spawn())

    def _wanting(self, role: str) -> int:
        """Return how many workers of a role should be there, and are neither there nor about to come."""
        there = sum(worker.role == role and not worker.retired for worker in self.workers)
        return {CONTROL: 1, SHARED: self._size}.get(role, 0) - there - self._starting[role]

    def _could_not_start(self, role: str, reason: str) -> None:
        """There is no process to be had: say so, once, and try again in a while for all that are missing."""
        if self._stopping:
            return
        self._missing.append(role)
        if reason != self._trouble:
            self._trouble = reason
            if self.validator.attached:
                log.error("no workers for %s: %s", self.location.name, reason, extra={"location": self.location.name})
            else:
                self._fail(reason)
        if len(self._missing) == 1:
            self.spawn_task(self._start_missing())

    async def _start_missing(self) -> None:
        await asyncio.sleep(self.longer_pause())
        missing, self._missing = self._missing, []
        for role in missing:
            self._spawn_soon(role)

    def spawn_task(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine until the location is stopped."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def spawn(
        self, role: str, location: CodeLocation | None = None, template: Template | None = None
    ) -> WorkerHandle:
        """Start a worker process.

        Args:
            role: what it is for.
            location: what it loads; this one unless given.
            template: what it is forked from; the present one unless given.

        Raises:
            LocationError: the interpreter starts no worker.
            OSError: there is no process to be had.
        """
        location = location or self.location
        self._starting[role] += 1
        try:
            worker, connection = await self._fork(role, location, template)
            self.workers.append(worker)
        finally:
            self._starting[role] -= 1  # it is counted among the workers from now on, or it has failed
        pid = worker.pid
        log.debug("%s worker %d of %s was started", role, pid, self.location.name, extra=worker_fields(worker))
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: worker, sock=connection)
        loop.call_later(LOADING, self._overdue, worker)
        way = {SHARED: "run", ALONE: "run", APART: "poll"}.get(role, "control")
        known = self.engine.known_triggers.get(location.name)
        worker.send([kinds.LOAD, location.name, location.kind, location.target, way, known, self.engine.artifacts])
        return worker

    async def _fork(
        self, role: str, location: CodeLocation, template: Template | None
    ) -> tuple[WorkerHandle, socket.socket]:
        pid, connection = await self._templates.fork(location.python, template)
        worker = WorkerHandle(self, role, pid, self.engine.receive, self.engine.worker_gone)
        self._born[worker] = time.monotonic()
        self._by_pid[pid] = worker
        return worker, connection

    def _overdue(self, worker: WorkerHandle) -> None:
        if worker in self.workers and not worker.was_ready:
            worker.late = True
            worker.kill(
                None if worker.role == ALONE else f"importing its code took longer than {LOADING:g} s", "silent"
            )

    # --- ends ----------------------------------------------------------------------------------------

    def _exited(self, pid: int, status: int) -> None:
        worker = self._by_pid.pop(pid, None)
        if worker is not None:
            worker.exit_status = status
            worker.ended.set()
        asyncio.get_running_loop().call_soon(self._left)

    def _killed_with_template(self, pids: set[int]) -> None:
        """Somebody killed a template, and these workers died with it: the next worker starts another."""
        if pids and not self._stopping:
            log.error(
                "the template process of %s died; starting another",
                self.location.name,
                extra={"location": self.location.name},
            )
        for pid in pids:
            worker = self._by_pid.pop(pid, None)
            if worker is not None:
                worker.cause = worker.cause or "template"
                worker.deliberate = worker.deliberate or "its template process died"
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
                worker.ended.set()
        asyncio.get_running_loop().call_soon(self._left)

    def _left(self) -> None:
        """Say so when the last process of a location that is served no longer has ended."""
        if self._stopping and self._templates.none_left:
            self.engine.deploys.left(self)

"""The workers of one code location: one for control, some for many runs, one for each run that must be alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pullcord.core.errors import LocationError
from pullcord.core.manifest import ISOLATED, SHARED_ASYNC, SHARED_SYNC, lane
from pullcord.engine.locations import CodeLocation
from pullcord.engine.logfields import run_fields, worker_fields
from pullcord.engine.template import Template
from pullcord.engine.validation import Validator
from pullcord.engine.worker import ALONE, CONTROL, SHARED, Assignment, WorkerHandle
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


class Fleet:
    """The worker processes of a location.

    Args:
        engine: what they belong to.
        location: the code they load.
        size: how many workers execute many runs each.
        cwd: their working folder.

    Attributes:
        validator: asks the control worker.
    """

    def __init__(self, engine: Engine, location: CodeLocation, size: int, cwd: Path) -> None:
        self.engine = engine
        self.location = location
        self.validator = Validator()
        self.workers: list[WorkerHandle] = []
        self._size = size
        self._cwd = cwd
        self._template: Template | None = None
        self._born: dict[WorkerHandle, float] = {}
        self._by_pid: dict[int, WorkerHandle] = {}
        self._pause = 0.0
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()

    def prepare(self) -> Template:
        """Start the template process; it warms up while the server does other things."""
        self._template = Template(self.location.python, self._cwd, self._exited, self._template_died)
        return self._template

    def start(self) -> None:
        """Start the workers."""
        (self._template or self.prepare()).attach()
        self.engine.room.grow(lane(self.location.name, ISOLATED), ALONE_ROOM)
        self._spawn_soon(CONTROL)
        for _ in range(self._size):
            self._spawn_soon(SHARED)

    def stop(self) -> None:
        """End all processes of this location."""
        self._stopping = True
        self.validator.close()
        for task in self._tasks:
            task.cancel()
        for worker in self.workers:
            worker.deliberate = "the server stops"
        if self._template is not None:
            self._template.close()

    def reload(self) -> None:
        """Replace all workers by ones with the present code; old runs finish where they are."""
        for worker in list(self.workers):
            if worker.role != ALONE and not worker.retired:
                self.retire(worker, "its code was reloaded", "reload")

    # --- finding a place for a run -------------------------------------------------------------------

    def least_busy(self) -> WorkerHandle | None:
        """Return the shared worker with the fewest runs, or None while none is ready."""
        best: WorkerHandle | None = None
        for worker in self.workers:
            usable = worker.ready and not worker.retired and worker.role == SHARED
            if usable and (best is None or len(worker.assigned) < len(best.assigned)):
                best = worker
        return best

    async def place_alone(self, assignment: Assignment, message: Message) -> None:
        """Execute a run in a process of its own."""
        try:
            worker = await self._spawn(ALONE)
        except (LocationError, OSError) as error:
            fields = run_fields(assignment.run)
            log.warning("no process for run %s: %s", assignment.run.uuid, error, extra=fields)
            await asyncio.sleep(self._longer_pause())
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

    def became_ready(self, worker: WorkerHandle) -> None:
        """A worker has loaded its location."""
        worker.ready = worker.was_ready = True
        log.debug(
            "%s worker %d of %s is ready", worker.role, worker.pid, self.location.name, extra=worker_fields(worker)
        )
        self._pause = 0.0
        if worker.role == CONTROL:
            for other in self.workers:
                if other.role == CONTROL and other is not worker and other.retired:
                    self.validator.detach(other)
                    other.send([kinds.STOP])
            self.validator.attach(worker)
        elif not worker.retired:
            self._make_room(worker, True)

    def gone(self, worker: WorkerHandle) -> None:
        """A worker's channel is closed: it is dead, or as good as dead."""
        born = self._born.pop(worker, time.monotonic())
        if worker in self.workers:
            self.workers.remove(worker)
        self.validator.lost(worker)
        if self._stopping:
            return
        if worker.cause is None and not (worker.role == ALONE and worker.retired):
            worker.cause = "crashed"
        if worker.cause is not None:
            self.engine.statistics.replacements[self.location.name, worker.cause] += 1
        self._make_room(worker, False)
        if worker.replaced or worker.role == ALONE:
            return
        self._spawn_soon(worker.role, self._longer_pause() if time.monotonic() - born < STABLE else self._pause)

    def buried(self, worker: WorkerHandle) -> None:
        """A worker's process has ended, and it is known how."""
        if worker.role == CONTROL and not worker.was_ready:
            self.engine.catalog.fail(
                self.location.name, f"the process that imports this code died: {worker.explain_end()}"
            )

    def _longer_pause(self) -> float:
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
            try:
                await self._spawn(role)
            except (LocationError, OSError) as error:
                fields = {"location": self.location.name, "role": role}
                log.error("no %s worker for %s: %s", role, self.location.name, error, extra=fields)
                if role == CONTROL:
                    self.engine.catalog.fail(self.location.name, str(error))
                if not self._stopping:
                    self._spawn_soon(role, self._longer_pause())

        task = asyncio.get_running_loop().create_task(spawn())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _spawn(self, role: str) -> WorkerHandle:
        if self._template is None:
            self.prepare().attach()
        assert self._template is not None
        pid, connection = await self._template.spawn()
        worker = WorkerHandle(self, role, pid, self.engine.receive, self.engine.worker_gone)
        self._born[worker] = time.monotonic()
        self._by_pid[pid] = worker
        self.workers.append(worker)
        log.debug("%s worker %d of %s was started", role, pid, self.location.name, extra=worker_fields(worker))
        connection.setblocking(False)
        await asyncio.get_running_loop().create_connection(lambda: worker, sock=connection)
        way = "control" if role == CONTROL else "run"
        worker.send([kinds.LOAD, self.location.name, self.location.kind, self.location.target, way])
        return worker

    def _exited(self, pid: int, status: int) -> None:
        worker = self._by_pid.pop(pid, None)
        if worker is not None:
            worker.exit_status = status
            worker.ended.set()

    def _template_died(self) -> None:
        """Somebody killed the template, and its workers died with it: start over."""
        self._template = None
        if self._stopping:
            return
        fields = {"location": self.location.name}
        log.error("the template process of %s died; starting another", self.location.name, extra=fields)
        for worker in self.workers:
            worker.cause = worker.cause or "template"
            worker.deliberate = worker.deliberate or "its template process died"
        for pid, worker in self._by_pid.items():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            worker.ended.set()
        self._by_pid.clear()
        try:
            self.prepare().attach()
        except LocationError as error:
            self.engine.catalog.fail(self.location.name, str(error))

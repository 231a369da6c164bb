"""The server's picture of one worker process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from pullcord.core.errors import LocationError
from pullcord.core.states import UNFINISHED
from pullcord.engine.logfields import worker_fields
from pullcord.failpoints import hit
from pullcord.store.commands.claim import Claimed
from pullcord.wire.frames import Decoder, FrameError, Message, encode_each
from pullcord.wire.messages import CANCEL, RUN

if TYPE_CHECKING:
    from pullcord.engine.fleet import Fleet
    from pullcord.engine.marks import Marks

log = logging.getLogger(__name__)

CONTROL, SHARED, ALONE, TRIAL, APART = "control", "shared", "alone", "trial", "apart"
"""What a worker is for: a location's control duties, many runs, one run at a time, to see whether code loads, or events
that must not be polled beside others."""


@dataclass(eq=False, slots=True)
class Assignment:
    """A run that a worker executes.

    Attributes:
        run: what was claimed.
        lane: whose room it takes.
        waits: how many of its branches wait; while one does its room is lent to others.
        asks: identities of the questions that it waits for; they count among its waits.
        failure: error record, JSON, of a run that has failed but whose thread cannot be stopped.
        unsettled: identities of its steps that have no end yet, as far as is known.
        ends_here: whether it was cancelled without force, so that it goes on nowhere else.
        heard: what its worker answers when it learns that the run is cancelled; there when somebody waits for that.
    """

    run: Claimed
    lane: str
    waits: int = 0
    asks: set[str] = field(default_factory=set)
    failure: str | None = None
    unsettled: set[str] = field(default_factory=set)
    ends_here: bool = False
    heard: asyncio.Future[bool] | None = None

    def __post_init__(self) -> None:
        """Begin with what an earlier worker left."""
        if self.run.steps:
            self.unsettled |= {step[0] for step in self.run.steps if step[4] in UNFINISHED}

    def stops(self, stuck: bool) -> None:
        """Its worker knows that it is cancelled, and says whether a thread of it is inside a step."""
        if self.heard is not None and not self.heard.done():
            self.heard.set_result(stuck)

    async def is_stuck(self) -> bool:
        """Wait until its worker knows that it is cancelled; say whether a thread of it is inside a step."""
        self.heard = asyncio.get_running_loop().create_future()
        return await self.heard

    @property
    def waiting(self) -> bool:
        """Whether it has given its room back."""
        return self.waits > 0

    @property
    def location(self) -> str:
        """Name of the location that its code comes from."""
        return self.lane.rpartition("#")[0]


class WorkerHandle(asyncio.Protocol):
    """One worker process and the channel to it.

    Args:
        fleet: the location's workers.
        role: `control`, `shared`, `alone`, `trial` or `apart`.
        pid: its process id.
        receive: called with the messages of each frame.
        lost: called once when the channel is gone.

    Attributes:
        ready: whether it has loaded its location.
        was_ready: whether it ever was.
        flows: the version of each flow that it has loaded; of shared workers.
        manifest: what it has loaded; of trials.
        late: whether loading took too long.
        roomy: whether its room is counted.
        retired: it gets no more runs, and leaves when it has none.
        replaced: another worker was started in its place.
        stuck: numbers of its runs that nobody waits for before it is killed: they stand still already, cannot be
            stopped, or did not come to a boundary.
        ended: set when the template has seen its end.
        deliberate: why we killed it, where its runs are not to blame.
        broken: how it broke the protocol.
        marks: what it is polling right now, where it says so.
        cause: why another one takes its place, as a class for counting.
        to_blame: whether it is killed for something that it does itself, like being silent.
        assigned: its runs, by number.
        last_beat: when it last showed a sign of life, monotonic seconds.
    """

    def __init__(
        self,
        fleet: Fleet,
        role: str,
        pid: int,
        receive: Callable[[WorkerHandle, list[Message]], None],
        lost: Callable[[WorkerHandle], None],
    ) -> None:
        self.fleet = fleet
        self.role = role
        self.pid = pid
        self.ready = False
        self.was_ready = False
        self.flows: dict[str, str] = {}
        self.manifest: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.late = False
        self.roomy = False
        self.retired = False
        self.replaced = False
        self.stuck: set[int] = set()
        self.ended = asyncio.Event()
        self.deliberate: str | None = None
        self.broken: str | None = None
        self.to_blame = False
        self.marks: Marks | None = None
        self.cause: str | None = None
        self.exit_status: int | None = None
        self.assigned: dict[int, Assignment] = {}
        self.last_beat = time.monotonic()
        self.resident = 0
        self.behind = 0.0
        self.connected = True
        self._moved: asyncio.Event | None = None
        self._receive = receive
        self._lost = lost
        self._decoder = Decoder()
        self._outgoing: list[Message] = []
        self._transport: asyncio.WriteTransport | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The channel is there."""
        self._transport = cast(asyncio.WriteTransport, transport)
        if self._outgoing:
            self._flush()

    def data_received(self, data: bytes) -> None:
        """Bytes came in."""
        try:
            messages = self._decoder.feed(data)
        except FrameError as error:
            self.break_off(error.message)
            return
        if not messages:
            return
        try:
            self._receive(self, messages)
        except Exception as error:
            log.exception("worker %d sent something that is no message", self.pid, extra=worker_fields(self))
            self.break_off(repr(error))

    def connection_lost(self, error: Exception | None) -> None:
        """The channel is gone, and with it the process."""
        self.connected = False
        self.ready = False
        if self._moved is not None:
            self._moved.set()
        self._lost(self)

    def send(self, message: Message) -> None:
        """Queue a message; it leaves with its neighbours at the end of this turn of the loop."""
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(message)

    def assign(self, assignment: Assignment, message: Message) -> None:
        """Give the worker a run."""
        self.assigned[assignment.run.id] = assignment
        self.send(message)

    def cancel(self, assignment: Assignment, force: bool) -> None:
        """Tell the worker that one of its runs is cancelled."""
        assignment.ends_here = not force
        self.send([CANCEL, assignment.run.id, assignment.run.token, force])

    def give_up_run(self, run: int) -> None:
        """Wait no longer for one of its runs: it does not go on here."""
        self.stuck.add(run)
        self._look_around()

    def assignment(self, run: int, token: int) -> Assignment | None:
        """Return a run of the worker, if it has it under this token."""
        assignment = self.assigned.get(run)
        return assignment if assignment is not None and assignment.run.token == token else None

    def take(self, run: int, token: int) -> Assignment | None:
        """Take a run from the worker, if it has it under this token."""
        assignment = self.assignment(run, token)
        if assignment is not None:
            del self.assigned[run]
            self._look_around()
        return assignment

    def _look_around(self) -> None:
        if self._moved is not None and self.assigned.keys() <= self.stuck:
            self._moved.set()

    async def deserted(self) -> None:
        """Wait until only runs are left that do not go on here, or the process is gone."""
        self._moved = asyncio.Event()
        if self.connected and not self.assigned.keys() <= self.stuck:
            await self._moved.wait()

    def _flush(self) -> None:
        if self._transport is not None and self._outgoing:
            messages, self._outgoing = self._outgoing, []
            if not self.connected:
                return
            frames, failures = encode_each(messages)
            self._transport.write(frames)
            if messages[0][0] == RUN:
                hit("dispatch.after_send")
            for message, error in failures:
                self.fleet.engine.undeliverable(self, message, error)

    def give_up(self, why: str) -> None:
        """Tell who waits for the manifest that it will not come."""
        if not self.manifest.done():
            self.manifest.set_exception(LocationError(why))
            self.manifest.exception()  # perhaps nobody waits

    def break_off(self, wrong: str) -> None:
        """Kill the process, for it broke the protocol: what it executes may be why, as when it dies by itself."""
        self.broken = self.broken or f"it broke the protocol: {wrong}"
        self.kill(None, "protocol")

    def kill(self, why: str | None, cause: str | None = None) -> None:
        """Kill the process.

        Args:
            why: the reason when its runs are not to blame, else None.
            cause: the same as a class for counting, where it is known.
        """
        self.cause = self.cause or cause
        self.deliberate = self.deliberate or why
        self.to_blame = self.deliberate is None and (self.to_blame or not self.retired)
        self.retired = True
        if not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Close the channel to a process that has ended."""
        if self._transport is not None:
            self._transport.abort()

    def explain_end(self) -> str:
        """Return in words how the process ended."""
        if said := self.deliberate or self.broken:
            return said
        if self.exit_status is None:
            return "it closed its channel"
        if self.exit_status < 0:
            return f"it was killed by {signal.Signals(-self.exit_status).name}"
        return f"it exited with status {self.exit_status}"

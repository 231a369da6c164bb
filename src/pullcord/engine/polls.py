"""Polls and mappings in a location's workers: in batches, each under a deadline, none in the way of another.

The control worker polls. One that holds the interpreter lock or blocks the event loop would hold up all others there:
when the worker does not take what it is sent, its marks say who is being polled, and it is killed. That trigger, and
one whose thread cannot be stopped, is polled apart from then on: in a process for such ones, one after the other.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pullcord.core.errors import LocationError, UnavailableError
from pullcord.engine.logfields import worker_fields
from pullcord.engine.stall import activity, stalled
from pullcord.engine.worker import APART
from pullcord.wire import messages as kinds
from pullcord.wire.frames import Message

if TYPE_CHECKING:
    from pullcord.engine.fleet import Fleet
    from pullcord.engine.worker import WorkerHandle

log = logging.getLogger(__name__)

TAKEN: Final = 0.5
"""Seconds in which a worker takes what it is sent; then it is looked at."""

LOOK: Final = 0.25
"""Seconds between two looks at a worker that takes nothing."""

SPARE: Final = 5.0
"""Seconds beyond its own deadline after which a poll without an answer is given up."""

REFORMED: Final = 10
"""After so many good polls in a row a trigger that was polled apart is polled with the others again."""

BLAMED: Final = {
    "silent": "it was killed, for it gave no sign of life",
    "memory": "it was killed for the memory it used",
}
"""How processes ended that did not end by themselves, by the class of the cause."""

MAPPING: Final = 15.0
"""Seconds that a mapping may take."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a poll or a mapping came to.

    Attributes:
        outcome: `fire`, `skip` or `failed`.
        detail: `[context_json, key]` of each fire, why it was skipped, or what went wrong.
        cursor: how far the event has read, JSON.
        length: how long the poll took, microseconds.
    """

    outcome: str
    detail: Any
    cursor: str | None = None
    length: int = 0


@dataclass(eq=False, slots=True)
class Poll:
    """A poll that is asked for.

    Attributes:
        trigger: name of the event.
        cursor: how far it has read, JSON.
        parameters: arguments of its function, JSON.
        timeout: seconds it may take.
        done: called with what it came to.
        preview: keep nothing of it.
    """

    trigger: str
    cursor: str | None
    parameters: str
    timeout: float
    done: Callable[[Seen], None] = field(repr=False)
    preview: bool = False
    number: int = 0
    worker: WorkerHandle | None = None
    overdue: asyncio.TimerHandle | None = None


def failed(kind: str, message: str, cursor: str | None = None) -> Seen:
    """Return what a poll came to that never answered."""
    trouble = {"type": kind, "message": message, "traceback": None, "permanent": False, "retry_after": None}
    return Seen("failed", trouble, cursor)


class Polls:
    """Asks the workers of one location.

    Args:
        fleet: the workers.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._loop = asyncio.get_running_loop()
        self._control: WorkerHandle | None = None
        self._apart: WorkerHandle | None = None
        self._coming: WorkerHandle | None = None
        self._spawning = False
        self._count = 0
        self._open: dict[int, Poll] = {}
        self._waiting: list[Poll] = []
        self._queue: deque[Poll] = deque()
        self._alone: Poll | None = None
        self._set_apart: dict[str, int] = {}
        self._mappings: dict[int, tuple[asyncio.Future[Seen], Message]] = {}
        self._taken = 0
        self._sent = 0
        self._watch: asyncio.TimerHandle | None = None

    # --- asking --------------------------------------------------------------------------------------

    def ask(self, polls: Iterable[Poll]) -> None:
        """Poll these; those for which no worker is ready wait for one."""
        together: list[Poll] = []
        for poll in polls:
            if poll.trigger in self._set_apart:
                self._queue.append(poll)
            else:
                together.append(poll)
        if together:
            self._send(together)
        if self._queue:
            self._next_apart()

    def forget(self, triggers: list[str]) -> None:
        """Have what these hold open closed: they are polled no longer."""
        for worker in (self._control, self._apart):
            if worker is not None:
                worker.send([kinds.FORGET, triggers])
        for trigger in triggers:
            self._set_apart.pop(trigger, None)
        for poll in [poll for poll in [*self._waiting, *self._queue] if poll.trigger in triggers]:
            (self._waiting if poll in self._waiting else self._queue).remove(poll)

    async def map(self, trigger: str, payload: str) -> Seen:
        """Have a trigger's own function make inputs of a payload, JSON.

        Raises:
            UnavailableError: no worker answered in time.
        """
        self._count += 1
        number, future = self._count, self._loop.create_future()
        message = [kinds.MAP, number, trigger, payload]
        self._mappings[number] = future, message
        if self._control is not None:
            self._control.send(message)
        try:
            async with asyncio.timeout(MAPPING):
                seen: Seen = await future
                return seen
        except TimeoutError:
            raise UnavailableError(
                f"the function that makes inputs for {trigger!r} did not answer within {MAPPING:g} s; try again"
            ) from None
        finally:
            self._mappings.pop(number, None)

    def _send(self, polls: list[Poll]) -> None:
        if self._control is None:
            self._waiting += polls
            return
        rows = []
        for poll in polls:
            self._open_poll(poll, self._control)
            rows.append([poll.number, poll.trigger, poll.cursor, poll.parameters, poll.preview])
        self._sent = self._count
        self._control.send([kinds.POLL, rows])
        if self._watch is None:
            self._watch = self._loop.call_later(TAKEN, self._look, self._control, self._sent, None)

    def _open_poll(self, poll: Poll, worker: WorkerHandle) -> None:
        self._count += 1
        poll.number, poll.worker = self._count, worker
        self._open[poll.number] = poll

    # --- answers -------------------------------------------------------------------------------------

    def taken(self, worker: WorkerHandle, number: int) -> None:
        """A worker has begun the polls up to this one."""
        if worker is self._control:
            self._taken = number

    def answer(self, worker: WorkerHandle, results: list[Any]) -> None:
        """Take a `polled` message."""
        for number, outcome, cursor, detail, length, stuck in results:
            poll = self._open.get(number)
            if poll is None or poll.worker is not worker:
                continue
            if stuck:
                self._stuck(worker, poll)
            self._close(poll, Seen(outcome, detail, cursor, length))

    def mapped(self, number: int, seen: list[Any]) -> None:
        """Take a `mapped` message."""
        future = self._mappings.get(number)
        if future is not None and not future[0].done():
            future[0].set_result(Seen(seen[0], seen[1]))

    def _close(self, poll: Poll, seen: Seen) -> None:
        self._open.pop(poll.number, None)
        if poll.overdue is not None:
            poll.overdue.cancel()
        if poll is self._alone:
            self._alone = None
            self._judge(poll, seen)
            self._loop.call_soon(self._next_apart)
        poll.done(seen)

    def _judge(self, poll: Poll, seen: Seen) -> None:
        """A trigger that behaves is let back to the others."""
        if poll.trigger in self._set_apart:
            self._set_apart[poll.trigger] = 0 if seen.outcome == "failed" else self._set_apart[poll.trigger] + 1
            if self._set_apart[poll.trigger] >= REFORMED:
                del self._set_apart[poll.trigger]
                if not self._set_apart:
                    self._dismiss_apart()

    # --- workers that come and go --------------------------------------------------------------------

    def attach(self, worker: WorkerHandle) -> None:
        """A worker is ready: ask it all that waits."""
        if worker.role == APART:
            self._apart, self._coming = worker, None
            self._next_apart()
            return
        self._control = worker
        self._taken = self._sent = self._count
        waiting, self._waiting = self._waiting, []
        if waiting:
            self.ask(waiting)
        for _, message in self._mappings.values():
            worker.send(message)

    def detach(self, worker: WorkerHandle) -> None:
        """The control worker is replaced. What it is polling it may still answer; nothing new is sent there."""
        if worker is self._control:
            self._control = None

    def lost(self, worker: WorkerHandle) -> None:
        """A worker is gone: what it was executing is suspected when it died by itself, and the rest is asked again."""
        if worker is self._control:
            self._control = None
        if worker is self._apart:
            self._apart = None
        if worker is self._coming:  # it died while it loaded the code
            self._coming = None
            self._loop.call_later(self._fleet.longer_pause(), self._next_apart)
        marks, worker.marks = worker.marks, None
        by_itself = worker.deliberate is None and (worker.to_blame or not worker.retired)
        running = set(marks.running()) if marks is not None and by_itself else set()
        if marks is not None:
            marks.close()
        again: list[Poll] = []
        lost = [poll for poll in self._open.values() if poll.worker is worker]
        suspects = {poll.number for poll in lost if poll.number in running or poll is self._alone}
        for poll in lost:
            if poll.number in suspects:
                self._set_apart.setdefault(poll.trigger, 0)
            if suspects == {poll.number}:
                end = BLAMED.get(worker.cause or "") if worker.to_blame else None
                why = f"the process died while it polled: {end or worker.explain_end()}"
                self._close(poll, failed("worker_lost", why))
            else:
                del self._open[poll.number]
                again.append(poll)
        if again:
            self.ask(again)

    def close(self) -> None:
        """The location is served no longer, or the server stops: nobody waits for answers."""
        if self._watch is not None:
            self._watch.cancel()
        for poll in self._open.values():
            if poll.overdue is not None:
                poll.overdue.cancel()
        self._open.clear()
        self._waiting.clear()
        self._queue.clear()
        for future, _ in self._mappings.values():
            if not future.done():
                future.set_exception(UnavailableError("the server stops; try again"))

    # --- those that are in the way -------------------------------------------------------------------

    def _look(self, worker: WorkerHandle, sent: int, before: tuple[set[int], tuple[str, float]] | None) -> None:
        """See whether the control worker takes what it was sent; kill it when one poll keeps it from that."""
        self._watch = None
        if worker is not self._control:
            return
        if self._taken >= sent:
            if self._taken < self._sent:
                self._watch = self._loop.call_later(TAKEN, self._look, worker, self._sent, None)
            return
        now = (set(worker.marks.running()) if worker.marks is not None else set()), activity(worker.pid)
        if before is not None:
            suspects = [self._open[number] for number in before[0] & now[0] if number in self._open]
            if suspects and stalled(before[1], now[1], LOOK):
                self._kill(worker, suspects)
                return
        self._watch = self._loop.call_later(LOOK, self._look, worker, sent, now)

    def _kill(self, worker: WorkerHandle, suspects: list[Poll]) -> None:
        """Kill a worker that one of these keeps from everything else, and poll them apart from now on.

        With the interpreter lock held by a thread, the poll that the loop has begun looks just as guilty. Apart, where
        one is polled after the other, the innocent ones are soon let back.
        """
        names = ", ".join(sorted({poll.trigger for poll in suspects}))
        why = f"polling {names} held up all other polls: it held the interpreter lock or blocked the event loop"
        log.warning("worker %d is replaced: %s", worker.pid, why, extra=worker_fields(worker) | {"triggers": names})
        blame = (
            f"the poll kept its process from everything else for {TAKEN + LOOK:g} s: it holds the interpreter lock, or "
            "blocks the event loop in an `async def`; it is polled in a process apart from now on"
        )
        for poll in suspects:
            self._set_apart.setdefault(poll.trigger, 0)
            if len(suspects) == 1:
                self._close(poll, failed("poll_blocked", blame, poll.cursor))
            else:
                del self._open[poll.number]
                self._queue.append(poll)
        worker.kill(why, "blocked")
        self._next_apart()

    def _stuck(self, worker: WorkerHandle, poll: Poll) -> None:
        """A thread of a worker cannot be stopped: another worker takes its place."""
        self._set_apart.setdefault(poll.trigger, 0)
        if worker is self._apart:
            self._apart = None
            worker.kill(f"a poll of {poll.trigger} is still running after its deadline", "stuck")
        else:
            self._fleet.retire(worker, f"a poll of {poll.trigger} is still running after its deadline", "stuck")

    def _next_apart(self) -> None:
        """Poll the next of those that are polled one after the other."""
        if self._alone is not None or not self._queue:
            return
        if self._apart is None:
            if not self._spawning and self._coming is None:
                self._spawning = True
                self._fleet.spawn_task(self._start_apart())
            return
        poll = self._alone = self._queue.popleft()
        self._open_poll(poll, self._apart)
        poll.overdue = self._loop.call_later(poll.timeout + SPARE, self._overdue, poll)
        self._apart.send([kinds.POLL, [[poll.number, poll.trigger, poll.cursor, poll.parameters, poll.preview]]])

    async def _start_apart(self) -> None:
        try:
            worker = await self._fleet.spawn(APART)
            self._coming = worker if worker in self._fleet.workers else None
        except (LocationError, OSError) as error:
            log.warning("no process for polls apart: %s", error, extra={"location": self._fleet.location.name})
            await asyncio.sleep(self._fleet.longer_pause())
        finally:
            self._spawning = False
        if self._coming is None:
            self._next_apart()

    def _overdue(self, poll: Poll) -> None:
        """A process for polls apart says nothing any more."""
        worker = poll.worker
        self._close(poll, failed("poll_timeout", f"no answer within {poll.timeout + SPARE:g} s", poll.cursor))
        if worker is not None and worker is self._apart:
            self._apart = None
            worker.kill(f"a poll of {poll.trigger} gave no answer", "stuck")

    def _dismiss_apart(self) -> None:
        worker, self._apart = self._apart, None
        if worker is not None:
            worker.retired = True
            worker.send([kinds.STOP])

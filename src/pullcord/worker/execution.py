"""One run in this worker: its records, its boundaries, and what code inside it can ask for.

A *boundary* is the moment before a step, child or wait begins. There the run waits until all it reported is
acknowledged (design rule 7), notices that it was cancelled, and moves away from a worker that is to be replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from pullcord.core.artifact import Artifact, Wanted
from pullcord.core.context import MAX_AMOUNT, RunInfo
from pullcord.core.errors import CodeChangedError, UsageError
from pullcord.core.flow import Flow
from pullcord.core.identity import argument_bytes, identity
from pullcord.core.retry import NO_RETRY
from pullcord.core.states import UNFINISHED, RunState, StepState
from pullcord.core.step import Step
from pullcord.failpoints import hit
from pullcord.wire import messages as kinds
from pullcord.worker import artifacts
from pullcord.worker.asking import AskCall, ask, ask_async
from pullcord.worker.children import call_child, call_child_async
from pullcord.worker.failures import clean, describe_end
from pullcord.worker.moment import enclosing, now, shielded
from pullcord.worker.nesting import InnerCalls
from pullcord.worker.parking import Wait, this_branch
from pullcord.worker.stepping import call_step, call_step_async
from pullcord.worker.turns import Turns
from pullcord.worker.unwinding import Unwinding
from pullcord.worker.waiting import sleep, sleep_async

if TYPE_CHECKING:
    from pullcord.core.question import Question
    from pullcord.worker.main import Worker
    from pullcord.worker.stepping import StepCall


_SEEN = frozenset({StepState.RUNNING, StepState.INTERRUPTED})
_ENDS = frozenset(StepState) - _SEEN


class RunCancelled(BaseException):
    """Unwinds a sync flow that was cancelled; no `except Exception` may swallow it."""


class RunAbandoned(BaseException):
    """Unwinds a run that this worker lost to another or gave up to wait: nothing it does here counts any more."""


class Execution:
    """A run that this worker executes.

    Args:
        worker: the process it runs in.
        message: the `run` message.

    Attributes:
        live: calls of steps whose try has not ended.
        stop_requested: whether it is cancelled.
        forced: whether it is cancelled by force, so that nothing is waited for.
        concluding: its flow function has ended, and what it left behind, in other threads or tasks, has to stop.
        ending: what it ends with then, `(state, result, error)`.
        over: its end is reported; what its code still does counts no more.
    """

    def __init__(self, worker: Worker, message: list[Any]) -> None:
        _, self.run, self.token, run_id, self.flow_name, self.version, self.inputs, attempt, info, steps = message
        self.worker = worker
        self.timeout: float | None = None
        self.is_async = False
        self.retry = NO_RETRY
        self.root = "" if info["epoch"] == 1 else f"epoch {info['epoch']}"
        self.recorded: dict[str, list[Any]] = {}
        self.unused: set[str] = set()
        last = 0
        for step in steps:
            self.recorded[step[0]] = step
            last = max(last, step[2])
            if step[4] not in UNFINISHED:
                self.unused.add(step[0])
        self.changed = False
        self.sequence = count(last + 1)
        self.occurrences: dict[str, count[int]] = {}
        self.inner = InnerCalls()
        self.turns = Turns()
        self.sent = self.acknowledged = 0
        self.live: dict[int, StepCall] = {}
        self.stop_requested = self.forced = False
        self.concluding = self.over = False
        self.ending: tuple[RunState, str | None, dict[str, Any] | None] | None = None
        self.unwinding = Unwinding()
        self.began = time.monotonic()
        self.stale = False
        self.parked = False
        self.leaving = False
        self.task: asyncio.Task[None] | None = None
        self.thread = 0
        self.tasks: set[asyncio.Task[Any]] = set()
        self.jobs: set[object] = set()
        self.asks: dict[str, AskCall] = {}
        self.waits: dict[str, Wait] = {}
        self.pausing = 0
        self.parting: list[list[list[Any]]] = []
        self.lines: list[list[Any]] = []
        self._waiters: list[tuple[int, Callable[[], None]]] = []
        self._lock = threading.Lock()
        self._stopped: threading.Event | None = None
        self._raw_info = (run_id, attempt, info)
        self._info: RunInfo | None = None

    def meet(self, flow: Flow[..., Any], version: str) -> None:
        """Learn what this process has loaded: it alone says how long the run may take, and whether the code changed."""
        self.is_async = flow.is_async
        self.timeout, self.retry = flow.settings.timeout, flow.settings.retry
        self.changed = version != self.version

    # --- what user code asks for (core.context.Runtime) -------------------------------------------

    @property
    def info(self) -> RunInfo:
        """The facts about the run."""
        if self._info is None:
            run_id, attempt, info = self._raw_info
            moment = info["scheduled_for"]
            self._info = RunInfo(
                id=run_id,
                flow=self.flow_name,
                attempt=attempt,
                invoker=info["invoker"],
                trigger=info["trigger"],
                scheduled_for=None if moment is None else datetime.fromtimestamp(moment / 1_000_000, UTC),
                test=info["test"],
                request_id=info["request_id"],
            )
        return self._info

    def call_step(self, step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a step, or return its recorded result."""
        if step.is_async:
            return call_step_async(self, step, args, kwargs)
        return call_step(self, step, args, kwargs)

    def call_flow(self, flow: Flow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Start a child run and wait for its result."""
        if flow.is_async:
            return call_child_async(self, flow, args, kwargs)
        return call_child(self, flow, args, kwargs)

    def progress(self, done: float, total: float | None, text: str | None) -> None:
        """Report how far the run is."""
        words = None if text is None else clean(str(text))[:500].replace("\0", "\N{REPLACEMENT CHARACTER}")
        reached, whole = _amount(done), None if total is None else _amount(total)
        # What is no number says nothing of how far the run is; no flow fails for the sake of a progress bar.
        if reached is not None:
            self.worker.progress(self, reached, whole, words)

    def sleep(self, length: float) -> Awaitable[None] | None:
        """Wait durably: on this thread, or in async code without blocking the event loop."""
        if self._can_await("pc.sleep"):
            return sleep_async(self, length)
        sleep(self, length)
        return None

    def ask(self, question: Question) -> Any:
        """Wait durably for a person's answer: on this thread, or in async code without blocking the event loop."""
        return ask_async(self, question) if self._can_await("pc.ask") else ask(self, question)

    def cancelled(self) -> bool:
        """Say whether somebody asked to cancel the run."""
        return self.stop_requested

    def artifact(self, wanted: Wanted) -> Artifact | Awaitable[Artifact]:
        """Store an artifact; in async code the event loop goes on meanwhile."""
        return artifacts.store_async(self, wanted) if self._in_async_code() else artifacts.store(self, wanted)

    def _can_await(self, what: str) -> bool:
        """Say whether the calling code awaits what it gets; what can neither await nor stand still is refused."""
        if self._in_async_code():
            return True
        if self.worker.channel.on_loop_thread():
            call = self.enclosing_call()
            raise UsageError(
                f"{what} cannot wait in step {call.name if call else ''!r}: it is a sync step that async code calls on "
                f"the event loop; make the step async and await {what} in it, or move {what} to the flow"
            )
        return False

    def _in_async_code(self) -> bool:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        # A sync step that async code calls runs on the loop's own thread, and cannot await.
        call = self.enclosing_call()
        return loop is not self.worker.loop or (self.is_async if call is None else call.step.is_async)

    def enclosing_call(self) -> StepCall | None:
        """Return the call of the step that the calling code is in."""
        inside = enclosing.get()
        return next((call for call in self.calls() if call.identity == inside), None) if inside else None

    # --- identity and replay -----------------------------------------------------------------------

    def identify(self, name: str, arguments: bytes) -> str:
        """Return the identity of a call: the same call again gets the next occurrence."""
        outer = enclosing.get()
        base = identity(outer or self.root, name, arguments)
        occurrence = next(self.occurrences.setdefault(base, count()))
        found = base if occurrence == 0 else f"{base}.{occurrence}"
        if outer:
            self.inner.note(outer, found)
        return found

    def identify_step(self, step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Return the identity of a step call; one with `key=` is that key, however often it is called."""
        key = step.explicit_key(args, kwargs)
        if key is not None:
            outer = enclosing.get()
            found = identity(outer or self.root, step.name, b"key:" + key.encode("utf-8", "replace"))
            if outer:
                self.inner.note(outer, found)
            return found
        return self.identify(step.name, argument_bytes(args, kwargs))

    def record_of(self, identity: str) -> list[Any] | None:
        """Return the finished record of an identity: `[identity, name, seq, attempt, state, result, error]`."""
        record = self.recorded.get(identity)
        if record is None or record[4] in UNFINISHED:
            return None
        self.unused.discard(identity)
        return record

    def check_code(self, name: str) -> None:
        """Refuse new steps while recorded ones are left over, if the code changed since they were recorded.

        Raises:
            CodeChangedError: naming both steps (design rule 7).
        """
        if self.changed and self.unused:
            left = min((self.recorded[identity] for identity in self.unused), key=lambda record: record[2])
            raise CodeChangedError(
                f"the code changed since this run began: step {left[1]!r} (no. {left[2]}) is recorded, but the code "
                f"now asks for {name}; re-run it from the beginning with the new code, or deploy the old code again"
            )

    def ended_by(self, error: BaseException) -> dict[str, Any]:
        """Return the record of what the run ends with, which says whether another attempt may follow."""
        return describe_end(error, self.retry)

    # --- boundaries --------------------------------------------------------------------------------

    def boundary(self) -> None:
        """Pass a boundary in sync code."""
        if self.acknowledged < self.sent:
            self._await_acknowledgement()
        if self.stale or self.over:
            raise RunAbandoned
        if self.must_stop():
            raise RunCancelled
        # On the loop's own thread there is no standing still: the run moves at its next `await`.
        if self._must_move() and not self.worker.channel.on_loop_thread():
            self.park()

    async def boundary_async(self) -> None:
        """Pass a boundary in async code."""
        if self.acknowledged < self.sent:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[None] = loop.create_future()

            def wake() -> None:
                if loop is self.worker.loop:
                    _wake(future)
                else:  # a sync flow that runs an event loop of its own, and may have closed it
                    with contextlib.suppress(RuntimeError):
                        loop.call_soon_threadsafe(_wake, future)

            self._when_acknowledged(self.sent, wake)
            await future
        if self.stale or self.over or self.must_stop():
            raise asyncio.CancelledError
        if self._must_move():
            self._stop_branch()
            await asyncio.Future()

    def must_stop(self) -> bool:
        """Say whether the calling code must not go on: the run is cancelled or its flow function has ended.

        A step that finishes first goes on all the same, except by force.
        """
        return (self.stop_requested or self.concluding) and (self.forced or not shielded.get())

    def _must_move(self) -> bool:
        # Such a run goes on nowhere else, so a step that finishes first does so here.
        return (self.worker.draining or self.parked) and not (self.stop_requested or self.concluding)

    def park(self) -> None:
        """Give the run up and never return: the process is about to be replaced."""
        self._stop_branch()
        threading.Event().wait()

    def _stop_branch(self) -> None:
        calls = {call.identity: call for call in self.calls()}
        inside = calls.get(enclosing.get())
        while inside is not None:
            inside.stopped = True
            inside = calls.get(inside.outer)
        self.leaving = True
        self.leave_when_idle()

    def leave_when_idle(self) -> None:
        """Hand the run back when a branch has stopped at a boundary and no other one is inside a step."""
        if self.leaving and not self.busy():
            self._when_acknowledged(self.sent, lambda: self.worker.release(self))

    def calls(self) -> list[StepCall]:
        """Return the live calls; any thread may ask."""
        return list(self.live.values())

    def busy(self) -> bool:
        """Say whether code of it is inside a step, and not at a boundary for good."""
        return not all(call.stopped for call in self.calls())

    def stuck(self) -> bool:
        """Say whether code of it is inside a sync step, which only the end of this process can stop."""
        return any(not call.step.is_async for call in self.calls())

    def _await_acknowledgement(self) -> None:
        target = self.sent
        channel = self.worker.channel
        if channel.on_loop_thread():
            channel.pump_until(lambda: self.acknowledged >= target or self.stale)
            return
        gate = threading.Lock()
        gate.acquire()
        self._when_acknowledged(target, gate.release)
        gate.acquire()

    def _when_acknowledged(self, target: int, wake: Callable[[], None]) -> None:
        with self._lock:
            if self.acknowledged < target and not self.stale:
                self._waiters.append((target, wake))
                return
        wake()

    def acknowledge(self, number: int) -> None:
        """All records up to this number are on disk; called on the loop's thread."""
        with self._lock:
            hit("worker.after_ack")
            self.acknowledged = max(self.acknowledged, number)
            ready = [wake for target, wake in self._waiters if target <= self.acknowledged]
            self._waiters = [waiter for waiter in self._waiters if waiter[0] > self.acknowledged]
        for wake in ready:
            wake()

    def abandon(self) -> None:
        """The token is stale: stop without a further word."""
        with self._lock:
            self.stale = True
            ready, self._waiters = self._waiters, []
            if self._stopped is not None:
                self._stopped.set()
        for _, wake in ready:
            wake()
        self.worker.wake_calls(self)
        self._end_asks()
        if self.task is not None:
            self.task.cancel()
        self.unwinding.stop(self)

    def request_stop(self, force: bool) -> None:
        """Cancel: async code at once, sync code at its next boundary. Asking again changes nothing, unless by force."""
        with self._lock:
            news = not self.stop_requested or (force and not self.forced)
            self.stop_requested, self.forced = True, self.forced or force
            if self._stopped is not None:
                self._stopped.set()
        if not news:
            return
        self.report_steps()
        self.worker.wake_calls(self)
        self._end_asks()
        if self.task is not None:
            self.task.cancel()
        if self.forced or self.concluding:
            self.unwinding.stop(self)

    def conclude(self) -> bool:
        """Stop what the flow function has left behind, as a cancel does; say whether something of it goes on still."""
        with self._lock:
            self.concluding = True
            if self._stopped is not None:
                self._stopped.set()
        self.worker.wake_calls(self)
        self._end_asks()
        self.unwinding.stop(self)
        return self.goes_on()

    def goes_on(self) -> bool:
        """Say whether its code is inside a step, or is still to end after it was interrupted."""
        return bool(self.unwinding) or self.busy()

    def report_steps(self) -> None:
        """Tell the server now about the steps that are in progress, however short they have been."""
        for call in self.calls():
            if not call.shown:
                call.report_running()

    def end_steps(self) -> None:
        """Tell the server that the steps in progress have no end: the run has one."""
        for call in self.calls():
            call.interrupt()
        self.over = True

    def _end_asks(self) -> None:
        for call in list(self.asks.values()):
            call.end()

    def wait_for_stop(self, length: float) -> None:
        """Block this thread for a while, or until the run is cancelled."""
        if shielded.get():
            time.sleep(length)
            return
        with self._lock:
            if self._stopped is None:
                self._stopped = threading.Event()
            if self.stop_requested or self.stale or self.concluding:
                self._stopped.set()
        self._stopped.wait(length)

    @contextmanager
    def waiting(self, identity: str, until: int | None) -> Iterator[None]:
        """Note that this branch only waits meanwhile.

        Args:
            identity: what the wait is recorded under.
            until: when it is over, microseconds; None for a question.
        """
        self.waits[identity] = Wait(until, this_branch(self.worker.loop), shielded.get())
        try:
            yield
        finally:
            self.waits.pop(identity, None)

    @contextmanager
    def between_tries(self) -> Iterator[None]:
        """Note that a step is tried again soon: the run cannot leave meanwhile."""
        with self._lock:
            self.pausing += 1
        try:
            yield
        finally:
            with self._lock:
                self.pausing -= 1

    def has_answer(self, identity: str) -> bool:
        """Say whether a question is over, even if its branch does not know it yet."""
        record = self.recorded.get(identity)
        return record is not None and record[4] not in UNFINISHED

    def answered(self, record: list[Any]) -> None:
        """A question is over; called on the loop's thread."""
        with self._lock:
            self.recorded[record[0]] = record
            # From here on this branch goes on: the run must not be parked before its thread has woken up.
            self.waits.pop(record[0], None)
        call = self.asks.pop(record[0], None)
        if call is not None:
            call.end()

    # --- reports -----------------------------------------------------------------------------------

    def record(
        self,
        identity: str,
        sequence: int,
        name: str,
        attempt: int,
        state: StepState,
        started: int,
        result: str | None = None,
        error: dict[str, Any] | None = None,
        writes: str | None = None,
    ) -> None:
        """Report a step record; it counts once it is acknowledged."""
        ended = None if state is StepState.RUNNING else now()
        error_json = None if error is None else to_json(error).decode()
        with self._lock:
            if self.stale or self.parked or self.over:
                return
            # Whoever looks at a step from outside may be late: its try has ended meanwhile.
            if state in _SEEN and (known := self.recorded.get(identity)) and known[4] in _ENDS and known[3] >= attempt:
                return
            self.sent = number = self.sent + 1
            if state is not StepState.RUNNING:
                self.recorded[identity] = [identity, name, sequence, attempt, state, result, error_json]
            # `str`: JSON of a member of an enumeration takes four times as long as all the rest of a record.
            self.worker.channel.send(
                [kinds.STEP, self.run, self.token, number, identity, sequence, name, attempt, str(state), started,
                 ended, result, error_json, writes]
            )  # fmt: skip

    def send(self, message: list[Any]) -> None:
        """Report something that a record is going to speak of, before it."""
        with self._lock:
            if not self.stale and not self.parked:
                self.worker.channel.send(message)

    def report_question(self, identity: str, asked: Question) -> None:
        """Report a question; its number is acknowledged like a record's."""
        with self._lock:
            if self.stale or self.parked:
                return
            self.sent = number = self.sent + 1
            self.worker.channel.send(
                [kinds.ASK, self.run, self.token, number, identity, next(self.sequence), asked.text, asked.details,
                 asked.schema, asked.recipients, asked.length, asked.fallback]
            )  # fmt: skip

    def log(self, at: int, level: str, logger: str, text: str) -> None:
        """Take a log line."""
        self.lines.append([at, level, logger, text])
        self.worker.wants_flush(self)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _amount(value: Any) -> float | None:
    try:
        # NaN is not below anything.
        return float(value) if abs(value) <= MAX_AMOUNT else None
    except (TypeError, ValueError, ArithmeticError):
        return None

"""Calling a step: replay, tries, time-outs and the record. The sync and the async driver share `StepCall`."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from pullcord.core.errors import CodeChangedError, StepTimeoutError, UsageError
from pullcord.core.states import StepState
from pullcord.core.step import Step
from pullcord.failpoints import hit
from pullcord.worker.failures import describe, rebuild
from pullcord.worker.moment import enclosing, now, shielded

if TYPE_CHECKING:
    from pullcord.worker.execution import Execution


_ENDLESS = frozenset({StepState.RUNNING, StepState.INTERRUPTED})


class StepCall:
    """One call of one step within an execution.

    Attributes:
        identity: what the call is recorded under.
        record: its finished record, or None when it must be executed.
        limit: how many failed tries are followed by another one.
        started: when the current try began, microseconds.
        settled: whether the current try's end was reported.
        outer: identity of the step that the call was made in.
        shielded: whether that, or one around it, is let run to its end when the run is cancelled.
        shared: whether another call may have its identity at the same time: it has a key, or is left from an earlier
            try of the step around it.
        stopped: whether it stands still at a boundary inside, for good.
        task: what executes it, of async steps.
        writes: what it may leave half-written, JSON, where the step says so.
    """

    __slots__ = (
        "execution", "identity", "limit", "name", "outer", "record", "sequence", "settled", "shared", "shielded",
        "shown", "started", "step", "stopped", "task", "tries", "writes",
    )  # fmt: skip

    def __init__(
        self, execution: Execution, step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.execution = execution
        self.step = step
        self.name = step.name
        self.identity = execution.identify_step(step, args, kwargs)
        self.outer = enclosing.get()
        self.shielded = shielded.get()
        self.shared = step.keyed or bool(self.outer)
        self.record: list[Any] | None = None
        if not self.shared:
            self.look()
        self.started = 0
        self.settled = True
        self.shown = self.stopped = False
        self.task: asyncio.Task[Any] | None = None
        self.writes = to_json(step.written_by(args, kwargs)).decode() if step.writes else None

    def look(self) -> None:
        """Learn what is recorded of the call.

        Raises:
            CodeChangedError: it is a new one, and the code changed since others were recorded.
        """
        execution, limit = self.execution, self.step.retry.limit
        self.record = execution.record_of(self.identity)
        if self.record is None and execution.changed:
            execution.check_code(f"step {self.name!r}")
        earlier = execution.recorded.get(self.identity)
        # A try that was seen running, or was interrupted, had no end: it does not count, and the ones before it do.
        self.tries: int = 0 if earlier is None else earlier[3] - (earlier[4] in _ENDLESS)
        # A step that had used up its tries, and is reopened by a new attempt of the run, has them anew.
        self.limit = limit + (self.tries if self.tries > limit else 0)
        self.sequence: int = next(execution.sequence) if earlier is None else earlier[2]

    def replay(self) -> Any:
        """Return the recorded result, or raise the recorded error."""
        record = self.record
        if record is not None and record[4] == StepState.SUCCEEDED:
            return self.step.codec.decode(record[5])
        raise rebuild(from_json(record[6] if record is not None else "{}"))

    def begin(self) -> None:
        """A try begins."""
        self.tries += 1
        self.started = now()
        self.settled = self.shown = False
        self.execution.inner.begin(self.execution, self.identity)
        self.execution.live[id(self)] = self
        if self.execution.stop_requested:  # the cancel came after the boundary: whoever kills has to know of this step
            self.report_running()
        hit("worker.in_step")

    def succeed(self, value: Any) -> Any:
        """Record a result and return it as a replay would."""
        text = self.step.codec.encode(value)
        result = self.step.codec.decode(text)
        hit("worker.before_record")
        self._settle(StepState.SUCCEEDED, text, None)
        return result

    def fail(self, error: Exception) -> float:
        """Record a failed try; return the pause before the next one, or raise what a replay would raise."""
        description = describe(error)
        if self._another(error):
            self.execution.inner.reopen(self.execution, self.identity)
            self._settle(StepState.RETRYING, None, description)
            return self.step.retry.pause(max(1, self.tries - self.limit + self.step.retry.limit), random.random())
        self._settle(StepState.FAILED, None, description)
        raise rebuild(description) from error

    def report_running(self) -> None:
        """Tell the server about a try that takes a while."""
        self.shown = True
        if not self.settled:
            self._record(StepState.RUNNING)

    def interrupt(self) -> None:
        """The try is cut off: it has neither a result nor an error."""
        if not self.settled:
            self.settled = True
            self._record(StepState.INTERRUPTED)

    def leave(self) -> None:
        """The try is over, however it ended."""
        self.settled = True
        self.execution.live.pop(id(self), None)
        if self.execution.concluding:
            self.execution.worker.conclude(self.execution)

    def time_out(self) -> None:
        """A sync try took too long: record it, and have the process replaced, for a thread cannot be stopped.

        The run goes on in another worker when this process is dead, so that no two tries overlap.
        """
        if self.settled:
            return
        self.settled = True
        state = StepState.RETRYING if self._another(self.timeout_error()) else StepState.FAILED
        if state is StepState.RETRYING:
            self.execution.inner.reopen(self.execution, self.identity)
        # The call stays among the live ones until its thread comes back, so that the run is not handed over before.
        self._record(state, None, describe(self.timeout_error()))
        self.execution.report_steps()
        self.execution.parked = True
        self.execution.worker.doom(f"step {self.name!r} is still running after its timeout", self.execution)

    def _another(self, error: Exception) -> bool:
        """Say whether another try follows this error."""
        if isinstance(error, CodeChangedError) or self.execution.must_stop():
            return False
        return self.tries <= self.limit and self.step.retry.covers(error)

    def timeout_error(self) -> StepTimeoutError:
        """Return the error of a try that took too long."""
        return StepTimeoutError(f"step {self.name!r} took longer than its timeout of {self.step.timeout:g} s")

    def _settle(self, state: StepState, result: str | None, error: dict[str, Any] | None) -> None:
        self.settled = True
        self._record(state, result, error)
        self.leave()
        self.execution.leave_when_idle()

    def _record(self, state: StepState, result: str | None = None, error: dict[str, Any] | None = None) -> None:
        self.execution.record(
            self.identity, self.sequence, self.name, self.tries, state, self.started, result, error,
            self.writes if state in _ENDLESS else None,
        )  # fmt: skip


def call_step(execution: Execution, step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a sync step."""
    call = StepCall(execution, step, args, kwargs)
    if not call.shared:
        return call.replay() if call.record is not None else _execute(call, args, kwargs)
    turns = execution.turns
    if execution.worker.channel.on_loop_thread() and turns.taken(call.identity):
        raise UsageError(
            f"step {call.name!r} is being executed with this key already, and a sync step that async code calls on the "
            "event loop cannot wait for that; make the step async, or call it with asyncio.to_thread"
        )
    while not turns.take(call.identity):
        pass
    try:
        call.look()
        return call.replay() if call.record is not None else _execute(call, args, kwargs)
    finally:
        turns.leave(call.identity)


def _execute(call: StepCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    execution, step = call.execution, call.step
    while True:
        execution.boundary()
        call.begin()
        timer = None
        if step.timeout is not None:
            timer = execution.worker.timer(step.timeout, call.time_out)
        outer = enclosing.set(call.identity)
        try:
            value = step.function(*args, **kwargs) if not step.finishes else _unstopped(step, args, kwargs)
            if execution.parked:
                execution.park()
            return call.succeed(value)
        except Exception as error:
            if execution.parked:
                execution.park()
            pause = call.fail(error)
        except BaseException:
            call.interrupt()
            raise
        finally:
            enclosing.reset(outer)
            call.leave()
            if timer is not None:
                timer()
        with execution.between_tries():
            execution.wait_for_stop(pause)


def _unstopped(step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Execute a step whose boundaries do not stop it when its run is cancelled."""
    guard = shielded.set(True)
    try:
        return step.function(*args, **kwargs)
    finally:
        shielded.reset(guard)


async def call_step_async(
    execution: Execution, step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Run an async step."""
    call = StepCall(execution, step, args, kwargs)
    if not call.shared:
        return call.replay() if call.record is not None else await _execute_async(call, args, kwargs)
    while not await execution.turns.take_async(call.identity):
        pass
    try:
        call.look()
        return call.replay() if call.record is not None else await _execute_async(call, args, kwargs)
    finally:
        execution.turns.leave(call.identity)


async def _execute_async(call: StepCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    execution, step = call.execution, call.step
    while True:
        await execution.boundary_async()
        call.begin()
        call.task = asyncio.current_task()
        outer = enclosing.set(call.identity)
        try:
            if step.finishes:
                value = call.succeed(await _to_the_end(call, args, kwargs))
                if execution.must_stop():
                    raise asyncio.CancelledError
                return value
            if step.timeout is None:
                value = await step.function(*args, **kwargs)
            else:
                value = await _limited(call, args, kwargs)
            return call.succeed(value)
        except Exception as error:
            pause = call.fail(error)
        except GeneratorExit:
            raise  # a run that moved away: what is left of it here has nothing to say
        except BaseException:
            call.interrupt()
            raise
        finally:
            enclosing.reset(outer)
            call.leave()
        with execution.between_tries():
            await asyncio.sleep(pause)


async def _to_the_end(call: StepCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Execute a step that is not interrupted when its run is cancelled, except by force."""
    execution, guard = call.execution, shielded.set(True)
    try:
        call.task = task = asyncio.get_running_loop().create_task(_limited(call, args, kwargs))
    finally:
        shielded.reset(guard)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.done() or execution.forced or not execution.stop_requested:
                task.cancel()
                return await task


async def _limited(call: StepCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Execute a step that may take so long, or as long as it likes."""
    limit = asyncio.timeout(call.step.timeout)
    try:
        async with limit:
            return await call.step.function(*args, **kwargs)
    except TimeoutError:
        if limit.expired():
            raise call.timeout_error() from None
        raise

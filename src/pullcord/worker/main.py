"""The worker process: takes assignments, executes them, reports."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import platform
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pydantic
from pydantic_core import to_json

from pullcord.core.context import current
from pullcord.core.errors import InvalidInputsError, NotFoundError, PullcordError, RunTimeoutError
from pullcord.core.flow import Flow
from pullcord.core.states import RunState
from pullcord.failpoints import hit
from pullcord.wire import messages as kinds
from pullcord.wire.frames import Message
from pullcord.worker import logs
from pullcord.worker.channel import Channel, leave
from pullcord.worker.children import ChildCall
from pullcord.worker.declarations import digest_of
from pullcord.worker.execution import Execution, RunAbandoned, RunCancelled
from pullcord.worker.failures import clean, describe
from pullcord.worker.location import Location, load
from pullcord.worker.moment import now
from pullcord.worker.parking import can_park, count_tasks
from pullcord.worker.polling import Polls
from pullcord.worker.threads import ThreadPool, carry_context

BEAT = 2.0
"""Seconds between signs of life."""

SHOW_AFTER = 0.1
"""Seconds after which a step that still runs is reported as running."""

UNWINDING = 10.0
"""Seconds that the code of a run gets to let go of what it holds, before the run is parked all the same."""

LOG_EVERY = 0.05
"""Seconds that log lines and progress wait for company."""


class Worker:
    """One worker process.

    Args:
        connection: the socket to the server.

    Attributes:
        channel: the messages.
        draining: the process is to be replaced: runs move away at their next boundary.
        calls: child runs that are waited for, by number.
        artifacts: where artifacts are stored, and how large one may be: `{"folder", "limit"}`.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.channel = Channel(connection, self.loop, self._handle, leave, self._undeliverable)
        self.draining = False
        self.calls: dict[int, ChildCall] = {}
        self.next_call = count(1).__next__
        self.artifacts: dict[str, Any] = {}
        self._location = Location()
        self._executions: dict[tuple[int, int], Execution] = {}
        self._threads = ThreadPool()
        self._polls: Polls | None = None
        self._streams = logs.capture()
        self._tasks: set[asyncio.Task[None]] = set()
        self._noisy: set[Execution] = set()
        self._progress: dict[Execution, list[Any]] = {}
        self._flushing = False
        self._looking = False
        self._turn = time.monotonic()
        self._turn_asked = False
        carry_context()
        count_tasks(self.loop)

    def run(self) -> None:
        """Say hello and work until the server says stop or goes away."""
        self.channel.send([kinds.HELLO, kinds.VERSION, os.getpid(), platform.python_version(), pydantic.VERSION])
        threading.Thread(target=self._beat, name="pullcord-beat", daemon=True).start()
        self.loop.run_forever()

    # --- messages from the server ------------------------------------------------------------------

    def _handle(self, message: Message) -> None:
        kind = message[0]
        if kind == kinds.RUN:
            self._start(message)
        elif kind == kinds.ACK:
            execution = self._executions.get((message[1], message[2]))
            if execution is not None:
                execution.acknowledge(message[3])
        elif kind == kinds.VALIDATE:
            self._validate(message)
        elif kind == kinds.CANCEL:
            execution = self._executions.get((message[1], message[2]))
            if execution is not None:
                self._stop(execution, message[3])
        elif kind == kinds.REFUSE:
            execution = self._executions.pop((message[1], message[2]), None)
            if execution is not None:
                execution.abandon()
        elif kind == kinds.CHILD:
            call = self.calls.pop(message[3], None)
            if call is not None:
                call.take(message[4])
        elif kind == kinds.ANSWER:
            execution = self._executions.get((message[1], message[2]))
            if execution is not None:
                execution.answered(message[3])
        elif kind in (kinds.POLL, kinds.FORGET, kinds.MAP):
            self._poll(message)
        elif kind == kinds.LOAD:
            self._load(message)
        elif kind == kinds.DRAIN:
            self.draining = True
        elif kind == kinds.STOP:
            if self._polls is not None and self._polls.busy:
                task = self.loop.create_task(self._close())
                self._tasks.add(task)
            else:
                self._leave()

    def _stop(self, execution: Execution, force: bool) -> None:
        hit("worker.before_stop")
        execution.request_stop(force)
        self.channel.send([kinds.STOPPING, execution.run, execution.token, execution.stuck()])
        hit("worker.after_stop")

    def wake_calls(self, execution: Execution) -> None:
        """Wake what waits for child runs of a run: it has to stop."""
        for call in list(self.calls.values()):
            if call.execution is execution:
                call.wake()

    def _load(self, message: Message) -> None:
        _, name, kind, target, role, known, self.artifacts = message
        polls = role in ("control", "poll")
        with undisturbed():
            self._location = load(kind, target, triggers=polls)
        manifest: dict[str, Any] = {"location": name, "versions": self._location.versions}
        if polls:
            self._polls = Polls(self.loop, self._threads, self.channel.send, self._location.triggers)
            manifest["marks"] = self._polls.marks.descriptor
        if role == "control":
            digest = digest_of(self._location.triggers.specs, complete=not self._location.failures)
            manifest |= {
                "flows": self._location.specs,
                # Very many are not told again by each server.
                "triggers": None if digest == known else self._location.triggers.specs,
                "digest": digest,
                "failures": self._location.failures,
            }
        self.channel.send([kinds.MANIFEST, manifest])
        self._location.triggers.specs = []  # the server has them; with very many triggers they are large

    def _poll(self, message: Message) -> None:
        if self._polls is None:
            raise NotFoundError("this worker does not poll: it was loaded to execute runs")
        if message[0] == kinds.POLL:
            self._polls.poll(message[1])
        elif message[0] == kinds.FORGET:
            self._polls.forget(message[1])
        else:
            self._polls.map(*message[1:])

    async def _close(self) -> None:
        if self._polls is not None:
            await self._polls.close()
        self._leave()

    def _leave(self) -> None:
        if self._polls is not None:
            self._polls.flush()
        self.channel.flush()
        leave()

    def _flow(self, name: str) -> Flow[..., Any]:
        flow = self._location.flows.get(name)
        if flow is None:
            raise NotFoundError(f"the flow {name!r} is not in this location any more")
        return flow

    def _validate(self, message: Message) -> None:
        _, ticket, name, inputs = message
        flow = self._location.flows.get(name)
        if flow is None:  # the code has changed since the server chose this location
            self.channel.send([kinds.VALIDATED, ticket, None, None])
            return
        try:
            text = flow.inputs.validate(inputs)
            self.channel.send([kinds.VALIDATED, ticket, text, None])
        except InvalidInputsError as error:
            self.channel.send([kinds.VALIDATED, ticket, None, error.errors])
        except Exception as error:
            # A validator of the user's that raises something else than ValueError refuses the inputs all the same.
            wrong = {"loc": ["inputs"], "msg": describe(error)["message"], "type": "validator_error"}
            self.channel.send([kinds.VALIDATED, ticket, None, [wrong]])

    # --- executing ---------------------------------------------------------------------------------

    def _start(self, message: Message) -> None:
        hit("worker.before_start")
        execution = Execution(self, message)
        self._executions[execution.run, execution.token] = execution
        self._look_at_steps()
        try:
            flow = self._flow(execution.flow_name)
        except NotFoundError as error:
            self._finish(execution, RunState.FAILED, None, describe(error) | {"final": True})
            return
        execution.meet(flow, self._location.versions[flow.name])
        if flow.is_async:
            context = contextvars.Context()
            context.run(current.set, execution)
            # Not by the loop's own factory, which counts the tasks that the flow starts.
            task = asyncio.Task(self._run_async(execution, flow), loop=self.loop, context=context)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        try:
            self._threads.start(lambda: contextvars.Context().run(self._run_sync, execution, flow))
        except RuntimeError as error:
            self._finish(execution, RunState.FAILED, None, describe(error))

    async def _run_async(self, execution: Execution, flow: Flow[..., Any]) -> None:
        # Cancelling a task before its first line would end it without a word, so it can be cancelled only from here on.
        execution.task = asyncio.current_task()
        try:
            if execution.stop_requested or execution.stale:
                raise asyncio.CancelledError
            arguments = flow.inputs.arguments(execution.inputs)
            if execution.timeout is None:
                value = await flow.function(**arguments)
            else:
                value = await self._limited(execution, flow, arguments)
            self._succeed(execution, flow, value)
        except RunAbandoned:
            return
        except asyncio.CancelledError as error:
            if execution.stale:
                return
            state = RunState.CANCELLED if execution.stop_requested else RunState.FAILED
            self._finish(execution, state, None, None if execution.stop_requested else execution.ended_by(error))
        except BaseException as error:
            self._finish(execution, RunState.FAILED, None, execution.ended_by(error))
        finally:
            execution.task = None
            self._part(execution)

    async def _limited(self, execution: Execution, flow: Flow[..., Any], arguments: dict[str, Any]) -> Any:
        limit = asyncio.timeout(execution.timeout)
        try:
            async with limit:
                return await flow.function(**arguments)
        except TimeoutError:
            if limit.expired():
                raise _too_long(execution) from None
            raise

    def _run_sync(self, execution: Execution, flow: Flow[..., Any]) -> None:
        current.set(execution)
        execution.thread = threading.get_ident()
        timer = None if execution.timeout is None else self.timer(execution.timeout, lambda: self._time_out(execution))
        try:
            if execution.stop_requested:
                raise RunCancelled
            arguments = flow.inputs.arguments(execution.inputs)
            value = flow.function(**arguments)
            if not execution.parked:
                self._succeed(execution, flow, value)
        except RunAbandoned:
            return
        except RunCancelled:
            self._finish(execution, RunState.CANCELLED, None, None)
        except BaseException as error:
            if not execution.parked:
                self._finish(execution, RunState.FAILED, None, execution.ended_by(error))
        finally:
            if timer is not None and (execution.over or not execution.concluding):
                timer()
            self._part(execution)

    def _time_out(self, execution: Execution) -> None:
        """A sync run took too long: it has failed, and this process must be replaced to stop its thread.

        So it is for an async one that has ended but for a sync step in a thread.
        """
        if execution.is_async and not execution.stuck():
            return
        if self._executions.pop((execution.run, execution.token), None) is not None:
            # It has ended only when its thread is gone: until then it keeps its slot (design rule 8).
            execution.report_steps()
            execution.parked = True
            self._flush_run(execution)
            error = None if execution.ending is None else execution.ending[2]
            failure = to_json(error or execution.ended_by(_too_long(execution))).decode()
            self.doom(f"a run of {execution.flow_name} is still running after its timeout", execution, failure)

    def _succeed(self, execution: Execution, flow: Flow[..., Any], value: Any) -> None:
        execution.check_code("the end of the flow")
        result = flow.codec.encode(value)
        flow.codec.decode(result)  # what does not fit the annotation fails here, not at whoever reads it
        if execution.stop_requested:
            self._finish(execution, RunState.CANCELLED, None, None)
        else:
            self._finish(execution, RunState.SUCCEEDED, result, None)

    def _finish(self, execution: Execution, state: RunState, result: str | None, error: dict[str, Any] | None) -> None:
        if execution.stop_requested:
            state, result, error = RunState.CANCELLED, None, None
        if execution.live or execution.tasks or execution.jobs:
            execution.ending = (state, result, error)
            if execution.conclude() and not execution.parked:
                if execution.is_async and execution.timeout is not None:
                    rest = execution.began + execution.timeout - time.monotonic()
                    self.loop.call_later(max(0.0, rest), self._time_out, execution)
                return  # the last to end concludes it
        if self._executions.pop((execution.run, execution.token), None) is None or execution.parked:
            return
        if execution.live:
            execution.end_steps()
        execution.over = True
        hit("worker.before_finish")
        for stream in self._streams:
            stream.finish(execution)
        self._flush_run(execution)
        error_json = None if error is None else to_json(error).decode()
        self.channel.send([kinds.FINISHED, execution.run, execution.token, str(state), result, error_json])
        hit("worker.after_finish")

    def conclude(self, execution: Execution) -> None:
        """End a run whose flow function has ended before its steps and tasks did, if this was the last of them."""
        if execution.stale and execution.task is None:
            self._part(execution)
        if execution.ending is not None and not execution.goes_on():
            self._finish(execution, *execution.ending)

    def _undeliverable(self, message: Message, error: Exception) -> None:
        """A message cannot be written: the run it is about has failed, unless it was only a log line or progress.

        A child run that cannot be asked for is refused, as the gate refuses one that it cannot take.
        """
        if message[0] == kinds.CHILD:
            call = self.calls.pop(message[3], None)
            if call is not None:
                call.refuse(f"its inputs are too large: {clean(str(error))[:1000]}")
            return
        if message[0] not in (kinds.STEP, kinds.FINISHED, kinds.ASK):
            return
        execution = self._executions.pop((message[1], message[2]), None)
        if execution is not None:
            execution.parked = True
        record = {"type": "unserializable_result", "message": clean(str(error))[:1000], "traceback": None}
        self.channel.send([kinds.FINISHED, message[1], message[2], RunState.FAILED, None, to_json(record).decode()])

    def release(self, execution: Execution) -> None:
        """Hand a run back: it goes on in another worker."""
        if self._executions.pop((execution.run, execution.token), None) is not None:
            self._flush_run(execution)
            self.channel.send([kinds.RELEASED, execution.run, execution.token])

    def _park(self, execution: Execution) -> None:
        """Unwind a run that only waits, and then give it up."""
        execution.parting.append([[identity, wait.until] for identity, wait in list(execution.waits.items())])
        del self._executions[execution.run, execution.token]
        execution.abandon()
        self.loop.call_later(UNWINDING, self._part, execution, True)

    def _part(self, execution: Execution, late: bool = False) -> None:
        """Say that a run has left: it goes on in a worker when one of its waits is over.

        Not before its code has come to an end here, so that what it lets go of is free when it is executed again, and
        that no process is ended in the middle of that.
        """
        if execution.unwinding and not late:
            return
        try:
            waits = execution.parting.pop()
        except IndexError:  # it was said already
            return
        self._flush_run(execution)
        hit("worker.before_park")
        self.channel.send([kinds.PARKED, execution.run, execution.token, waits])
        hit("worker.after_park")

    def doom(self, reason: str, execution: Execution, failure: str | None = None) -> None:
        """Ask the server to replace this process: a thread in it cannot be stopped.

        Args:
            reason: why.
            execution: the run that the thread belongs to.
            failure: error record, JSON, when that run has failed; else it goes on in another worker.
        """
        self.draining = True
        self.channel.send([kinds.DOOMED, reason, execution.run, execution.token, failure])

    # --- time --------------------------------------------------------------------------------------

    def timer(self, length: float, fire: Callable[[], None]) -> Callable[[], None]:
        """Call `fire` after `length` seconds; return what stops it. Any thread may call it."""
        if self.channel.on_loop_thread():
            # The caller is about to block the loop, so its time must be kept elsewhere.
            def ring() -> None:
                fire()
                self.channel.flush()

            alarm = threading.Timer(length, ring)
            alarm.daemon = True
            alarm.start()
            return alarm.cancel
        handles: list[asyncio.TimerHandle] = []
        self.loop.call_soon_threadsafe(lambda: handles.append(self.loop.call_later(length, fire)))

        def stop() -> None:
            self.loop.call_soon_threadsafe(lambda: handles[0].cancel())

        return stop

    def _look_at_steps(self) -> None:
        if not self._looking:
            self._looking = True
            self.loop.call_later(SHOW_AFTER, self._show_steps)

    def _show_steps(self) -> None:
        self._looking = False
        self._report_long_steps()
        for execution in [run for run in self._executions.values() if run.waits]:
            if can_park(execution):
                self._park(execution)
        if self._executions:
            self._look_at_steps()

    def _report_long_steps(self) -> None:
        before = now() - round(SHOW_AFTER * 1_000_000)
        for execution in list(self._executions.values()):
            for call in execution.calls():
                if call.started <= before and not call.shown:
                    call.report_running()

    def _beat(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while True:
            behind = time.monotonic() - self._turn if self._turn_asked else 0.0
            try:
                resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * page
            except OSError:
                resident = 0
            if not self._turn_asked:
                self._turn, self._turn_asked = time.monotonic(), True
                self.loop.call_soon_threadsafe(self._take_turn)
            elif behind:
                self._report_long_steps()  # the loop cannot: a step that blocks it is among them
            self.channel.send_now([kinds.BEAT, resident, round(behind, 3)])
            time.sleep(BEAT)

    def _take_turn(self) -> None:
        self._turn_asked = False

    # --- log lines and progress --------------------------------------------------------------------

    def progress(self, execution: Execution, done: float, total: float | None, text: str | None) -> None:
        """Send the latest progress of a run soon."""
        self._progress[execution] = [kinds.PROGRESS, execution.run, execution.token, done, total, text]
        self._flush_soon()

    def wants_flush(self, execution: Execution) -> None:
        """Send the log lines of a run soon."""
        self._noisy.add(execution)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self.loop.call_soon_threadsafe(self.loop.call_later, LOG_EVERY, self._flush_logs)

    def _flush_logs(self) -> None:
        self._flushing = False
        for execution in list(self._noisy | set(self._progress)):
            self._flush_run(execution)

    def _flush_run(self, execution: Execution) -> None:
        progress = self._progress.pop(execution, None)
        self._noisy.discard(execution)
        lines, execution.lines = execution.lines, []
        if progress is not None:
            self.channel.send(progress)
        if lines:
            self.channel.send([kinds.LOG, execution.run, execution.token, lines])


@contextmanager
def undisturbed() -> Iterator[None]:
    """Look for no cyclic garbage meanwhile: what code makes when it is loaded stays, and there may be much of it."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _too_long(execution: Execution) -> PullcordError:
    return RunTimeoutError(f"the run took longer than the flow's timeout of {execution.timeout:g} s")

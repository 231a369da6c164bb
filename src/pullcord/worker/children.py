"""A flow called inside a flow: a child run through the same gate, whose result is recorded like a step's."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from pullcord.core.errors import ChildFailedError
from pullcord.core.flow import Flow
from pullcord.core.states import RunState, StepState
from pullcord.wire import messages as kinds
from pullcord.worker.failures import describe, rebuild
from pullcord.worker.moment import now
from pullcord.worker.waking import waker

if TYPE_CHECKING:
    from pullcord.worker.execution import Execution


class ChildCall:
    """One child run that the execution waits for.

    Attributes:
        number: what the answer names.
        tries: how often it is asked for, this time included, by further tries of the step around it.
        answer: what the server said in the end, `{"state", "result", "error", "reason"}`.
    """

    def __init__(
        self, execution: Execution, flow: Flow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.execution = execution
        self.flow = flow
        self.inputs = flow.inputs.bind(args, kwargs)
        self.identity = execution.identify(f"flow:{flow.name}", self.inputs.encode())
        self.record = execution.record_of(self.identity)
        if self.record is None:
            execution.check_code(f"the flow {flow.name!r}")
        earlier = execution.recorded.get(self.identity)
        self.tries: int = 1 if earlier is None else earlier[3]
        execution.inner.children.add(self.identity)
        self.number = execution.worker.next_call()
        self.answer: dict[str, Any] | None = None
        self.started = now()
        self._wake: list[Any] = []

    def send(self) -> None:
        """Ask the server for the child run."""
        execution = self.execution
        execution.worker.calls[self.number] = self
        asked = self.identity if self.tries == 1 else f"{self.identity}~{self.tries}"
        execution.worker.channel.send(
            [kinds.CHILD, execution.run, execution.token, self.number, self.flow.name, self.inputs, asked]
        )

    def take(self, answer: dict[str, Any]) -> None:
        """Receive the answer; called on the loop's thread."""
        self.answer = answer
        self.wake()

    def refuse(self, reason: str) -> None:
        """The call never reached the gate."""
        self.take({"state": "refused", "result": None, "error": None, "reason": reason})

    def wake(self) -> None:
        """Have whoever waits look again: there is an answer, or the run has to stop."""
        for wake in self._wake:
            wake()

    def wait(self) -> None:
        """Wait on this thread."""
        channel = self.execution.worker.channel
        if channel.on_loop_thread():
            channel.pump_until(self._settled)
            return
        event = threading.Event()
        self._wake.append(event.set)
        while not self._settled():
            event.wait()
            event.clear()

    async def wait_async(self) -> None:
        """Wait on the event loop."""
        event = asyncio.Event()
        self._wake.append(waker(event))
        while not self._settled():
            await event.wait()
            event.clear()

    def _settled(self) -> bool:
        return self.answer is not None or self.execution.stale or self.execution.must_stop()

    def conclude(self) -> Any:
        """Record how the child ended, and return its result or raise its failure."""
        answer = self.answer or {"state": RunState.CANCELLED}
        sequence = next(self.execution.sequence)
        name = self.flow.name
        if answer["state"] == RunState.SUCCEEDED:
            self.execution.record(
                self.identity, sequence, name, self.tries, StepState.SUCCEEDED, self.started, answer["result"] or "null"
            )
            return self.flow.codec.decode(answer["result"] or "null")
        why = answer.get("reason") or (from_json(answer["error"])["message"] if answer.get("error") else "")
        state = answer["state"]
        error = ChildFailedError(f"the child run of {name} ended as {state}: {why}", name, state)
        description = describe(error)
        self.execution.record(
            self.identity, sequence, name, self.tries, StepState.FAILED, self.started, None, description
        )
        raise rebuild(description)

    def replay(self) -> Any:
        """Return the recorded result, or raise the recorded failure."""
        record = self.record
        if record is not None and record[4] == StepState.SUCCEEDED:
            return self.flow.codec.decode(record[5])
        raise rebuild(from_json(record[6] if record is not None else "{}"))


def call_child(execution: Execution, flow: Flow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a sync flow as a child and wait on this thread."""
    call = ChildCall(execution, flow, args, kwargs)
    if call.record is not None:
        return call.replay()
    execution.boundary()
    call.send()
    try:
        call.wait()
    finally:
        execution.worker.calls.pop(call.number, None)
    execution.boundary()
    return call.conclude()


async def call_child_async(
    execution: Execution, flow: Flow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Run an async flow as a child and wait on the event loop."""
    call = ChildCall(execution, flow, args, kwargs)
    if call.record is not None:
        return call.replay()
    await execution.boundary_async()
    call.send()
    try:
        await call.wait_async()
    finally:
        execution.worker.calls.pop(call.number, None)
    await execution.boundary_async()
    return call.conclude()

"""Validation of inputs in a location's control worker: in batches, under a deadline, before a run exists."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pullcord.core.errors import FieldError, InvalidInputsError, UnavailableError
from pullcord.wire import messages as kinds
from pullcord.wire.frames import Message

if TYPE_CHECKING:
    from pullcord.engine.worker import WorkerHandle

DEADLINE: Final = 10.0
"""Seconds that the validation of one request may take."""


@dataclass(slots=True)
class _Ticket:
    number: int
    flow: str
    inputs: str
    future: asyncio.Future[str]
    at: float


class Validator:
    """Sends inputs to one location's control worker and hands the answers out.

    Tickets are answered in order, so when the worker hangs the oldest one is the culprit: it alone fails, and the
    others are asked again of the worker that replaces it. When the worker dies, answers may have died with it: what was
    open is asked again one by one, and the one that another worker dies of fails.

    Attributes:
        trouble: why there is no control worker, where that is known.
    """

    def __init__(self) -> None:
        self.trouble: str | None = None
        self._open: dict[int, _Ticket] = {}
        self._count = 0
        self._worker: WorkerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._suspects = 0
        self._alone: int | None = None

    async def validate(self, flow: str, inputs: str) -> str:
        """Return the inputs as validated, defaults included, as JSON.

        Raises:
            InvalidInputsError: with one entry for each field that is wrong.
            UnavailableError: no worker answered in time.
        """
        loop = asyncio.get_running_loop()
        self._count += 1
        ticket = _Ticket(self._count, flow, inputs, loop.create_future(), loop.time())
        self._open[ticket.number] = ticket
        if self._worker is not None and not self._suspects:
            self._send(ticket)
        if self._watch is None:
            self._watch = loop.call_later(DEADLINE, self._expire, ticket.number)
        return await ticket.future

    def attach(self, worker: WorkerHandle) -> None:
        """A control worker is ready: ask it all that is open."""
        self._worker = worker
        self.trouble = None
        self._ask()

    @property
    def attached(self) -> bool:
        """Whether there is a control worker to ask."""
        return self._worker is not None

    def detach(self, worker: WorkerHandle) -> None:
        """The control worker is replaced; what is open waits for the next one."""
        if self._worker is worker:
            self._worker = None

    def lost(self, worker: WorkerHandle) -> None:
        """The control worker has died; what is open is suspected."""
        if self._worker is not worker:
            return
        self._worker = None
        if worker.deliberate is not None:
            return
        culprit = None if self._alone is None else self._open.pop(self._alone, None)
        if culprit is not None and not culprit.future.done():
            culprit.future.set_exception(
                UnavailableError(
                    f"validating the inputs of {culprit.flow!r} ended the process that did it, twice; "
                    "look at its validators"
                )
            )
        self._suspects = max(self._open, default=0)

    def answer(self, message: Message) -> None:
        """Take a `validated` message."""
        ticket = self._open.pop(message[1], None)
        if self._suspects and message[1] == self._alone:
            self._ask()
        if ticket is None or ticket.future.done():
            return
        if message[2] is None and message[3] is None:
            ticket.future.set_exception(
                UnavailableError(f"the code of {ticket.flow!r} was replaced just now by code without it; try again")
            )
        elif message[3] is None:
            ticket.future.set_result(message[2])
        else:
            errors: list[FieldError] = message[3]
            ticket.future.set_exception(InvalidInputsError(_sentence(ticket.flow, errors), errors))

    def _ask(self) -> None:
        """Ask all that is open, or only the first of the suspects."""
        self._alone = None
        if next(iter(self._open), self._suspects + 1) > self._suspects:
            self._suspects = 0
        for ticket in self._open.values():
            self._send(ticket)
            if self._suspects:
                self._alone = ticket.number
                break

    def _send(self, ticket: _Ticket) -> None:
        assert self._worker is not None
        self._worker.send([kinds.VALIDATE, ticket.number, ticket.flow, ticket.inputs])

    def _expire(self, number: int) -> None:
        """The ticket that was the oldest a deadline ago: when it is still open, the worker hangs on it."""
        self._watch = None
        ticket = self._open.get(number)
        if self._worker is None:
            late = asyncio.get_running_loop().time() - DEADLINE
            why = "there is no worker that could validate" + (f" ({self.trouble})" if self.trouble else "")
            self._refuse([t for t in self._open.values() if t.at <= late], why)
        elif ticket is not None:
            self._refuse([ticket], f"its validators took longer than {DEADLINE:g} s; look at them")
            self._worker.kill("validation took longer than its deadline")
        oldest = next(iter(self._open), None)
        if oldest is not None:
            self._watch = asyncio.get_running_loop().call_later(DEADLINE, self._expire, oldest)

    def close(self) -> None:
        """Refuse what is open: the server stops."""
        if self._watch is not None:
            self._watch.cancel()
        self._refuse(list(self._open.values()), "the server stops")

    def _refuse(self, tickets: list[_Ticket], why: str) -> None:
        for ticket in tickets:
            self._open.pop(ticket.number, None)
            if not ticket.future.done():
                ticket.future.set_exception(
                    UnavailableError(f"the inputs of {ticket.flow!r} could not be validated: {why}; try again")
                )


def _sentence(flow: str, errors: list[FieldError]) -> str:
    first = "; ".join(f"{'.'.join(map(str, error['loc'][1:])) or 'inputs'}: {error['msg']}" for error in errors[:3])
    more = f" (and {len(errors) - 3} more)" if len(errors) > 3 else ""
    return f"the inputs of {flow!r} are not valid: {first}{more}"

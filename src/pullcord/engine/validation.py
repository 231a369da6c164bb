"""Validation of inputs in a location's control worker: in batches, under a deadline, before a run exists."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pullcord.core.errors import FieldError, InvalidInputsError, UnavailableError
from pullcord.engine.catalog import PATIENCE
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


class Validator:
    """Sends inputs to one location's control worker and hands the answers out.

    Tickets are answered in order, so when the worker hangs the oldest one is the culprit: it alone fails, and the
    others are asked again of the worker that replaces it.
    """

    def __init__(self) -> None:
        self._open: dict[int, _Ticket] = {}
        self._count = 0
        self._worker: WorkerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None

    async def validate(self, flow: str, inputs: str) -> str:
        """Return the inputs as validated, defaults included, as JSON.

        Raises:
            InvalidInputsError: with one entry for each field that is wrong.
            UnavailableError: no worker answered in time.
        """
        loop = asyncio.get_running_loop()
        self._count += 1
        ticket = _Ticket(self._count, flow, inputs, loop.create_future())
        self._open[ticket.number] = ticket
        if self._worker is not None:
            self._send(ticket)
        if self._watch is None:
            self._watch = loop.call_later(DEADLINE, self._expire, ticket.number)
        return await ticket.future

    def attach(self, worker: WorkerHandle) -> None:
        """A control worker is ready: ask it all that is open."""
        self._worker = worker
        for ticket in self._open.values():
            self._send(ticket)

    def detach(self, worker: WorkerHandle) -> None:
        """The control worker is gone; what is open waits for the next one."""
        if self._worker is worker:
            self._worker = None

    def answer(self, message: Message) -> None:
        """Take a `validated` message."""
        ticket = self._open.pop(message[1], None)
        if ticket is None or ticket.future.done():
            return
        if message[3] is None:
            ticket.future.set_result(message[2])
        else:
            errors: list[FieldError] = message[3]
            ticket.future.set_exception(InvalidInputsError(_sentence(ticket.flow, errors), errors))

    def _send(self, ticket: _Ticket) -> None:
        assert self._worker is not None
        self._worker.send([kinds.VALIDATE, ticket.number, ticket.flow, ticket.inputs])

    def _expire(self, number: int) -> None:
        """The ticket that was the oldest a deadline ago: when it is still open, the worker hangs on it."""
        self._watch = None
        ticket = self._open.pop(number, None)
        if ticket is not None and not ticket.future.done():
            ticket.future.set_exception(
                UnavailableError(
                    f"validating the inputs of {ticket.flow!r} took longer than {DEADLINE:g} s; "
                    "look at its validators, or try again"
                )
            )
            if self._worker is not None:
                self._worker.kill("validation took longer than its deadline")
        oldest = next(iter(self._open), None)
        if oldest is not None:
            self._watch = asyncio.get_running_loop().call_later(min(DEADLINE, PATIENCE), self._expire, oldest)


def _sentence(flow: str, errors: list[FieldError]) -> str:
    first = "; ".join(f"{'.'.join(map(str, error['loc'][1:])) or 'inputs'}: {error['msg']}" for error in errors[:3])
    more = f" (and {len(errors) - 3} more)" if len(errors) > 3 else ""
    return f"the inputs of {flow!r} are not valid: {first}{more}"

"""Waiting for a run at a terminal: Ctrl-C leaves a server's run alone, and cancels one in this process."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from pullcord.cli.failing import say
from pullcord.cli.follow import follow, view
from pullcord.core.errors import NotCancellableError

if TYPE_CHECKING:
    from pullcord.cli.session import Session

_OPEN = ("queued", "running", "waiting", "cancelling", "scheduled")


async def watch(session: Session, run_id: str, quiet: bool) -> dict[str, Any] | None:
    """Show a run until it has ended and return it, or None when the person has left."""
    shown = view(quiet)
    following = asyncio.create_task(follow(session.client, run_id, shown))
    async with interrupts() as interrupt:
        asked = 0
        while True:
            pressed = asyncio.create_task(interrupt.wait())
            await asyncio.wait({following, pressed}, return_when=asyncio.FIRST_COMPLETED)
            pressed.cancel()
            if following.done():
                return following.result()
            interrupt.clear()
            asked += 1
            if not session.own or asked > 2:
                await _cancelled(following)
                _say_goodbye(run_id, session.own)
                return None
            shown.note("forcing it to stop" if asked > 1 else "cancelling the run; Ctrl-C again forces it")
            with contextlib.suppress(NotCancellableError):
                await session.client.runs.cancel(run_id, force=asked > 1, reason="interrupted at the terminal")


async def linger(session: Session, quiet: bool) -> None:
    """Stay until runs that other commands asked this process for have ended: they joined, and count on it."""
    if not session.own:
        return
    async with interrupts() as interrupt:
        told = False
        while not interrupt.is_set():
            run_id = await _open_run(session)
            if run_id is None:
                # Somebody may join after a look: the last one is when nobody finds this process any more.
                session.findable(False)
                run_id = await _open_run(session)
                if run_id is None:
                    return
                session.findable(True)
            if not told and not quiet:
                say("staying until the runs of other commands in this process have ended (Ctrl-C stops them)")
            told = True
            waiting = asyncio.create_task(session.client.runs.wait(run_id))
            pressed = asyncio.create_task(interrupt.wait())
            await asyncio.wait({waiting, pressed}, return_when=asyncio.FIRST_COMPLETED)
            await _cancelled(pressed)
            await _cancelled(waiting)


@asynccontextmanager
async def interrupts() -> AsyncIterator[asyncio.Event]:
    """Give an event that Ctrl-C and SIGTERM set."""
    event, loop = asyncio.Event(), asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    for number in numbers:
        loop.add_signal_handler(number, event.set)
    try:
        yield event
    finally:
        for number, handler in zip(numbers, before, strict=True):
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


async def _open_run(session: Session) -> str | None:
    """Return a run of this process's time that has not ended and can be expected to."""
    for state in _OPEN:
        for run in await session.client.runs.list(state=state, since=session.began, limit=100):
            if state != "scheduled" or run["attempt"] > 1:
                return str(run["id"])
    return None


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _say_goodbye(run_id: str, own: bool) -> None:
    if own:
        say(f"left run {run_id}; the next `pullcord serve` goes on with it")
    else:
        say(
            f"the run goes on without you: `pullcord runs logs -f {run_id}` follows it, "
            f"`pullcord runs cancel {run_id}` stops it"
        )

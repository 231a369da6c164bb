"""Who waits for news of which run. Only news: the truth is in the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

from pullcord.core.states import ENDED

STATE: Final = "state"
STEP: Final = "step"
PROGRESS: Final = "progress"
CLOSED: Final = "closed"
LOG: Final = "log"


@dataclass(eq=False, slots=True)
class Subscription:
    """A queue of the news of one run, `(kind, value)`, in order.

    A reader that falls far behind loses nothing: what matters is in the store, and it is told to look there.
    """

    queue: asyncio.Queue[tuple[str, Any]] = field(default_factory=lambda: asyncio.Queue(10_000))

    async def __aiter__(self) -> AsyncIterator[tuple[str, Any]]:
        """Yield news until cancelled."""
        while True:
            yield await self.queue.get()


class Hub:
    """Publishes what happens to runs. Used on the event loop's thread only.

    Attributes:
        progress: the latest progress of each active run.
        closed: whether the server stops, so that no more news will come.
    """

    def __init__(self) -> None:
        self._subscriptions: dict[str, list[Subscription]] = {}
        self._ends: dict[str, list[asyncio.Future[str]]] = {}
        self.progress: dict[str, dict[str, Any]] = {}
        self.closed = False

    def close(self) -> None:
        """Wake everybody who waits: there will be no more news."""
        self.closed = True
        for future in [future for futures in self._ends.values() for future in futures]:
            if not future.done():
                future.set_result(CLOSED)
        self._ends.clear()
        for run in list(self._subscriptions):
            self.publish(run, CLOSED, None)

    def subscribe(self, run: str) -> Subscription:
        """Begin to collect the news of a run."""
        subscription = Subscription()
        self._subscriptions.setdefault(run, []).append(subscription)
        return subscription

    def unsubscribe(self, run: str, subscription: Subscription) -> None:
        """Stop collecting."""
        subscriptions = self._subscriptions.get(run, [])
        if subscription in subscriptions:
            subscriptions.remove(subscription)
        if not subscriptions:
            self._subscriptions.pop(run, None)

    def end_of(self, run: str) -> asyncio.Future[str]:
        """Return a future of the state that the run ends in. Ask the store afterwards whether it has ended already."""
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if self.closed:
            future.set_result(CLOSED)
        else:
            self._ends.setdefault(run, []).append(future)
        return future

    def forget(self, run: str, future: asyncio.Future[str]) -> None:
        """Nobody waits for this future any more."""
        futures = self._ends.get(run)
        if futures and future in futures:
            futures.remove(future)
            if not futures:
                del self._ends[run]

    def state(self, run: str, state: str) -> None:
        """Tell that a run is in another state."""
        if state in ENDED:
            self.progress.pop(run, None)
            for future in self._ends.pop(run, ()):
                if not future.done():
                    future.set_result(state)
        self.publish(run, STATE, state)

    def publish(self, run: str, kind: str, value: Any) -> None:
        """Tell something else about a run."""
        for subscription in self._subscriptions.get(run, ()):
            if subscription.queue.full():
                subscription.queue.get_nowait()
            subscription.queue.put_nowait((kind, value))

    def watched(self, run: str) -> bool:
        """Say whether anybody wants the news of a run."""
        return run in self._subscriptions

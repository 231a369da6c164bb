"""The notifier: sends what is in the outbox, each channel by itself, until it is taken or given up.

A notification is sealed on disk before it is sent and marked after it was taken, so that each one is sent at least
once, with the same id at every try, whenever the server dies. While a target takes nothing, what happens goes on to
gather, and two messages at a time find out whether it is back.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from pullcord.clock import Clock
from pullcord.core.errors import PullcordError
from pullcord.failpoints import hit
from pullcord.notify.channel import DeliveryError
from pullcord.notify.compose import composed
from pullcord.notify.message import message_of, written
from pullcord.notify.options import Notifying
from pullcord.services.duty import Duty
from pullcord.store.commands.happenings import DELIVERED, GATHERING, GIVEN_UP, PENDING
from pullcord.store.commands.outbox import (
    GiveUpNotifications,
    MarkNotification,
    SealNotifications,
    TrimOutbox,
    TurnBackOutbox,
)
from pullcord.store.connection import Connection
from pullcord.store.queries.outbox import (
    Stored,
    gathered,
    kept_message,
    next_pending,
    notification,
    sealed_since,
    waiting_channels,
)
from pullcord.store.queries.requests import newest_request
from pullcord.store.store import Store

log = logging.getLogger(__name__)

SECOND: Final = 1_000_000
HOUR: Final = 3600 * SECOND

GRACE: Final = 20.0
"""Seconds that a channel may take for a message beyond the timeout that it keeps itself: then something is wrong."""

FIRST_PAUSE: Final = 5.0
LONGEST_PAUSE: Final = 300.0
"""Seconds between tries of a message: each pause is about twice the one before, up to the longest."""

LOOK: Final = 30.0
"""Seconds after which the outbox is looked at when nothing was noted: the clock may have been set."""

STEP: Final = 2 * SECOND
"""Microseconds from which on a difference is a step of the clock, and no slow correction."""

PATIENCE: Final = 5.0
"""Seconds that what is due gets to be sent when the server stops; the rest is sent by the next one."""

KEPT: Final = 30 * 24 * HOUR
"""Notifications that ended longer ago, microseconds, are deleted."""

TRIMMED: Final = 500
"""At most so many are deleted in one transaction."""

BAD: Final = 2
"""When a channel took none of so many messages, it is the target that is gone, and not a message that is bad."""


@dataclass(slots=True)
class _Lane:
    """One channel at work.

    Attributes:
        task: what sends now, or None.
        refused: numbers of messages that it did not take since it last took one, or somebody had one sent again.
        since: when it first did not take a message since it last took one, microseconds; 0 when it took the last.
        error: why it did not take the last of them.
        full_until: until when it takes no further message in this hour, microseconds.
        quiet_until: until when it asked to be left alone, microseconds.
    """

    task: asyncio.Task[None] | None = None
    refused: set[int] = field(default_factory=set)
    since: int = 0
    error: str = ""
    full_until: int = 0
    quiet_until: int = 0

    @property
    def broken(self) -> bool:
        """Whether its target seems to be gone: then only what is pending is tried, when it is due."""
        return len(self.refused) >= BAD


class Notifier(Duty):
    """Sends what is in the outbox.

    Args:
        store: the store.
        clock: the time.
        how: channels and their limits.

    Attributes:
        sent: how many tries there were, by channel and what became of them: `delivered`, `failed`, `retried`.
    """

    def __init__(self, store: Store, clock: Clock, how: Notifying) -> None:
        super().__init__()
        self._store = store
        self._clock = clock
        self._how = how
        self._news = asyncio.Event()
        self._lanes: dict[str, _Lane] = {}
        self._stopping = False
        self._ahead: int | None = None
        self.sent: Counter[tuple[str, str]] = Counter()

    def start(self) -> None:
        """Begin with what an earlier server left."""
        self._store.watch_outbox(lambda _: self._news.set())
        super().start()

    async def stop(self) -> None:
        """Send what is due within a few seconds; leave the rest to the next server."""
        if self._task is None:
            return
        await super().stop()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._look()
                await asyncio.gather(*(lane.task for lane in self._lanes.values() if lane.task is not None))
        except (TimeoutError, PullcordError):
            log.info("what is not sent yet is sent by the next server")
        self._stopping = True
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def quiet_until(self, channel: str) -> int:
        """Return until when a channel asked to be left alone, microseconds; in the past where it did not."""
        lane = self._lanes.get(channel)
        return 0 if lane is None else lane.quiet_until

    def try_again(self, channel: str) -> None:
        """Send to a channel what is due, although it asked to be left alone or took nothing: somebody knows better."""
        lane = self._lanes.get(channel)
        if lane is not None:
            lane.quiet_until = 0
            lane.refused.clear()
        self._news.set()

    async def _work(self) -> None:
        trimmed = 0
        while True:
            self._news.clear()
            pause = LOOK
            try:
                await self._follow_clock()
                pause = await self._look()
                if self._clock.now() - trimmed > HOUR:
                    trimmed = self._clock.now()
                    await self._trim(trimmed - KEPT)
            except PullcordError as error:
                log.warning("the outbox could not be read, and is looked at again: %s", error)
            try:
                async with asyncio.timeout(pause):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def _follow_clock(self) -> None:
        """Where the clock went back, also while no server ran, let what is due go back with it."""
        newest = await self._store.read(newest_request) if self._ahead is None else 0
        now, ahead, back = self._clocks(newest)
        if back > STEP:  # a process that stood still between reading its two clocks sees no step the second time
            now, ahead, back = self._clocks(newest)
        if back > STEP:
            log.warning("the clock went back by %.0f s, and what is to be told goes back with it", back / SECOND)
            await self._store.write(lambda done: TurnBackOutbox(now, back, done))
            for lane in self._lanes.values():
                lane.since = lane.since and lane.since - back
                lane.full_until -= back
                lane.quiet_until -= back
        self._ahead = ahead

    def _clocks(self, newest: int) -> tuple[int, int, int]:
        """Return what time it is, how far that is ahead of the clock that is never set, and how far it went back."""
        now = self._clock.now()
        ahead = now - time.monotonic_ns() // 1000
        return now, ahead, newest - now if self._ahead is None else self._ahead - ahead

    async def _trim(self, before: int) -> None:
        while await self._store.write(lambda done: TrimOutbox(before, TRIMMED, done)):
            pass

    async def _look(self) -> float:
        """Set every channel to work that has something due; return in how many seconds the next one has."""
        now = self._clock.now()
        pause = LOOK
        for channel, due in (await self._store.read(waiting_channels)).items():
            lane = self._lanes.setdefault(channel, _Lane())
            if lane.task is not None:
                continue  # it looks for more by itself, and says when it is done
            moments = [due[PENDING]] if PENDING in due else []
            if GATHERING in due and not (lane.broken and moments):
                moments.append(max(due[GATHERING], lane.full_until))
            wait = max(min(moments), lane.quiet_until) - now
            if wait <= 0:
                lane.task = asyncio.get_running_loop().create_task(self._pass(channel, lane))
            else:
                pause = min(pause, wait / SECOND)
        return pause

    async def _pass(self, channel: str, lane: _Lane) -> None:
        """Send what is due, in order, until there is nothing more or the channel takes nothing."""
        tried: list[int] = []
        try:
            while not self._stopping and self._clock.now() >= lane.quiet_until:
                stored = await self._next(channel, lane, tried)
                if stored is None:
                    break
                tried.append(stored.id)
                await self._send(stored, lane)
            await self._leave(channel, lane)
        except PullcordError as error:
            log.warning("the outbox of %s is looked at again: %s", channel, error, extra={"channel": channel})
            await asyncio.sleep(FIRST_PAUSE)
        except Exception:
            log.exception("sending to %s failed", channel, extra={"channel": channel})
            await asyncio.sleep(FIRST_PAUSE)
        finally:
            lane.task = None
            self._news.set()

    async def _leave(self, channel: str, lane: _Lane) -> None:
        """Give up what has gathered too long for a target that is gone, and is so for an hour at least."""
        now, patience = self._clock.now(), int(self._how.give_up * SECOND)
        if lane.broken and now - lane.since >= min(patience, HOUR):
            gone = await self._store.write(
                lambda done: GiveUpNotifications(channel, now - patience, lane.error, self._compose, done)
            )
            if gone:
                log.error(
                    "notifications were not delivered, and are given up: %s", lane.error, extra={"channel": channel}
                )
                self.sent[channel, "failed"] += gone

    async def _next(self, channel: str, lane: _Lane, tried: list[int]) -> Stored | None:
        """Return what is to be sent next, sealed; what was tried before goes before what was not."""
        now = self._clock.now()
        pending = await self._store.read(next_pending, channel, now, tried)
        if pending is not None or lane.broken:
            return pending
        waiting = await self._store.read(gathered, channel, now)
        if not waiting:
            return None
        sealed = await self._store.read(sealed_since, channel, now - HOUR)
        room = self._how.per_hour(channel) - len(sealed)
        if room <= 0:
            lane.full_until = sealed[-self._how.per_hour(channel)] + HOUR
            return None
        # The last place of the hour is for all that would not have one.
        together = waiting if room == 1 else waiting[:1]
        hit("notify.before_seal")
        numbers = await self._store.write(
            lambda done: SealNotifications(together, len(together) > 1, self._compose, done)
        )
        return await self._store.read(notification, numbers[0]) if numbers else None

    def _compose(self, connection: Connection, number: int) -> str:
        return written(composed(connection, number, self._how.public_url))

    async def _send(self, stored: Stored, lane: _Lane) -> None:
        """Send a notification once and mark it."""
        kept = await self._store.read(kept_message, stored.id)
        assert kept is not None
        message = message_of(kept)
        channel = self._how.channels.get(stored.channel)
        deadline = self._how.timeout(stored.channel) + GRACE
        try:
            if channel is None:
                raise DeliveryError(f"no channel is called {stored.channel}; the settings have {self._known()}")
            hit("notify.before_send")
            async with asyncio.timeout(deadline):
                await channel.send(message)
            hit("notify.after_send")
        except TimeoutError:
            await self._refused(stored, lane, DeliveryError(f"it took longer than {deadline:g} s"))
        except DeliveryError as error:
            await self._refused(stored, lane, error)
        except Exception as error:
            # Not its words: nobody knows what a strange error says.
            log.exception("the channel %s is at fault", stored.channel, extra={"channel": stored.channel})
            await self._refused(stored, lane, DeliveryError(f"the channel failed with {type(error).__name__}"))
        else:
            lane.refused.clear()
            lane.since = 0
            self.sent[stored.channel, "delivered"] += 1
            await self._mark(stored, DELIVERED, None, None)

    def _known(self) -> str:
        return ", ".join(sorted(self._how.channels)) or "none"

    async def _refused(self, stored: Stored, lane: _Lane, error: DeliveryError) -> None:
        """Note that a message was not taken, and when it is tried again, if it is."""
        now = self._clock.now()
        tried = now - (now if stored.trying_since is None else stored.trying_since)
        fields = {"channel": stored.channel, "notification": stored.uuid, "tries": stored.tries + 1}
        if error.permanent or tried >= self._how.give_up * SECOND:
            log.error("a notification was not delivered, and is given up: %s", error, extra=fields)
            self.sent[stored.channel, "failed"] += 1
            if error.permanent:
                lane.since = 0
            else:
                await self._leave(stored.channel, lane)
            lane.refused.discard(stored.id)
            await self._mark(stored, GIVEN_UP, error.message, None)
            return
        lane.since, lane.error = lane.since or now, error.message
        lane.refused.add(stored.id)
        pause = pause_after(stored.tries + 1, random.random())
        if error.retry_after is not None:
            pause = max(pause, min(error.retry_after, self._how.give_up))
            lane.quiet_until = now + int(pause * SECOND)
        level = logging.WARNING if stored.tries == 0 else logging.DEBUG
        log.log(level, "a notification was not delivered, and is tried again: %s", error, extra=fields)
        self.sent[stored.channel, "retried"] += 1
        await self._mark(stored, PENDING, error.message, now + int(pause * SECOND))

    async def _mark(self, stored: Stored, state: str, error: str | None, due: int | None) -> None:
        await self._store.write(lambda done: MarkNotification(stored.id, state, error, due, done))


def pause_after(failures: int, spread: float) -> float:
    """Return the seconds before another try.

    Args:
        failures: how many tries have failed, at least 1.
        spread: a random number in [0, 1), so that many do not return at once.
    """
    return min(FIRST_PAUSE * 2.0 ** min(failures - 1, 20), LONGEST_PAUSE) * (0.5 + spread / 2)

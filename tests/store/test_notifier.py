"""The notifier sends each notification at least once, in few messages, and lets no channel delay another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pullcord.clock import SystemClock, microseconds
from pullcord.core import notify
from pullcord.core.errors import UsageError
from pullcord.core.states import Outcome
from pullcord.notify.channel import DeliveryError
from pullcord.notify.channels import Channels
from pullcord.notify.control import Notifications
from pullcord.notify.message import Message
from pullcord.notify.options import Notifying, Pace
from pullcord.notify.settings import read_channels
from pullcord.services import notifier
from pullcord.services.notifier import Notifier, pause_after
from pullcord.store.commands.catalog import RegisterFlows
from pullcord.store.commands.lifecycle import Start
from pullcord.store.queries.outbox import NotificationFilter, list_notifications
from pullcord.store.queries.page import Page
from pullcord.store.store import Store
from tests.store.harness import LOCATION, SECOND, Database, DrivenClock, note, spec

HOUR = 3600 * SECOND


class Ticking(DrivenClock):
    """A clock that nearly stands still: who looks sees that the last transaction is over."""

    def now(self) -> int:
        self.at += 10
        return self.at


@pytest.fixture
def clock() -> DrivenClock:
    """Make a clock that the test moves."""
    return Ticking()


class Target:
    """A channel that a test can see and break."""

    kind = "test"

    def __init__(self, name: str) -> None:
        self.name = name
        self.error: DeliveryError | None = None
        self.taken: list[Message] = []
        self.tried: list[str] = []
        self._calls: asyncio.Queue[Message] = asyncio.Queue()
        self.open = asyncio.Event()
        self.open.set()

    async def send(self, message: Message) -> None:
        self.tried.append(message.id)
        self._calls.put_nowait(message)
        await self.open.wait()
        if self.error is not None:
            raise self.error
        self.taken.append(message)

    async def call(self) -> Message:
        """Return the next message that came here, taken or not."""
        async with asyncio.timeout(60):
            return await self._calls.get()


class Life:
    """A store with a notifier, until it stops."""

    def __init__(self, database: Database, clock: DrivenClock, how: Notifying) -> None:
        self.clock = clock
        self.store: Store = database.store(clock)
        self.store.begin_with(how.book())
        self.notifier = Notifier(self.store, clock, how)
        self.control = Notifications(self.store, clock, how, self.notifier)
        self.ended = False

    async def begin(self, *flows: str, channel: str = "ops") -> None:
        self.store.start()
        await self.store.write(Start)
        await self.declare(*flows, channel=channel)
        self.notifier.start()

    async def declare(self, *flows: str, channel: str = "ops") -> None:
        rules = [notify.on_missed(channel).as_json()]
        specs = [spec(flow, None, settings={"concurrency": None, "notify": rules}) for flow in flows]
        await self.store.write(lambda done: RegisterFlows(LOCATION, specs, False, done))

    async def happen(self, *flows: str, times: int = 1) -> None:
        """Let ticks be missed, all in one transaction or few."""
        await asyncio.gather(*(self._miss(flow, times) for flow in flows))

    async def _miss(self, flow: str, times: int) -> None:
        await self.store.write(lambda done: note(done, flow=flow, outcome=Outcome.MISSED, reason="late", times=times))

    async def items(self, **which: Any) -> list[dict[str, Any]]:
        found = await self.store.read(list_notifications, NotificationFilter(**which), Page(1000))
        items: list[dict[str, Any]] = found["items"]
        return items

    async def until(self, true: Callable[[], Awaitable[bool]]) -> None:
        """Wait for something the store says; after every commit and look there is another chance."""
        async with asyncio.timeout(60):
            while not await true():  # noqa: ASYNC110  the store has no event for it
                await asyncio.sleep(0.001)

    async def delivered(self, count: int) -> list[dict[str, Any]]:
        async def there() -> bool:
            return len(await self.items(state="delivered")) >= count

        await self.until(there)
        return await self.items(state="delivered")

    async def tried(self, count: int) -> dict[str, Any]:
        """Wait until the one notification there is was marked after so many tries."""

        async def there() -> bool:
            return sum(item["tries"] for item in await self.items()) >= count

        await self.until(there)
        return (await self.items())[0]

    async def end(self) -> None:
        if self.ended:  # a second end would give back the lock's descriptor, which is somebody else's by then
            return
        self.ended = True
        await self.notifier.stop()
        await self.store.stop()


Lives = Callable[..., Life]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that only a test moves is looked at all the time.

    While it stands still time goes by, which is no step back of the clock however slow the machine is.
    """
    monkeypatch.setattr(notifier, "LOOK", 0.001)
    monkeypatch.setattr(notifier, "STEP", HOUR)
    monkeypatch.setattr(notifier, "PATIENCE", 0.2)


@pytest.fixture
async def live(database: Database, clock: DrivenClock) -> AsyncIterator[Lives]:
    """Make lives over one store, one after the other."""
    lives: list[Life] = []

    def make(*targets: Target, **how: Any) -> Life:
        lives.append(Life(database, clock, Notifying({target.name: target for target in targets}, **how)))
        return lives[-1]

    yield make
    for life in lives:
        with contextlib.suppress(Exception):
            await life.end()


async def test_what_happened_is_sent_at_once_and_once(live: Lives) -> None:
    ops = Target("ops")
    life = live(ops)
    await life.begin("f")
    await life.happen("f")
    message = await ops.call()
    (item,) = await life.delivered(1)
    assert (item["id"], item["tries"], item["count"]) == (message.id, 1, 1)
    assert message.title == "f missed a tick"
    await life.end()
    assert ops.tried == [message.id]


async def test_what_is_not_taken_is_sent_again_as_the_same_message_after_growing_pauses(
    live: Lives, clock: DrivenClock
) -> None:
    ops = Target("ops")
    ops.error = DeliveryError("answered 500")
    life = live(ops)
    await life.begin("f")
    await life.happen("f")
    pauses: list[int] = []
    for tries in range(1, 5):
        await ops.call()
        item = await life.tried(tries)
        assert (item["state"], item["last_error"]) == ("pending", "answered 500")
        pauses.append(microseconds(datetime.fromisoformat(item["next_try_at"])) - clock.now())
        clock.advance(pauses[-1] + SECOND)
    ops.error = None
    assert pauses[-1] > pauses[0]
    clock.advance(HOUR)
    (item,) = await life.delivered(1)
    assert len(set(ops.tried)) == 1
    assert item["tries"] == len(ops.tried)
    assert item["last_error"] is None


def test_pauses_grow_to_a_limit_and_are_spread() -> None:
    assert [pause_after(failures, 1.0) for failures in (1, 2, 3, 50)] == [5.0, 10.0, 20.0, 300.0]
    assert pause_after(1, 0.0) == 2.5


async def test_what_is_refused_for_good_is_given_up_and_delays_nothing(live: Lives) -> None:
    ops = Target("ops")
    ops.error = DeliveryError("no such address", permanent=True)
    life = live(ops)
    await life.begin("f", "g", "h")
    await life.happen("f", "g", "h")
    for _ in range(3):
        await ops.call()

    async def given_up() -> bool:
        return len(await life.items(state="failed")) == 3

    await life.until(given_up)
    assert {item["last_error"] for item in await life.items()} == {"no such address"}
    ((name, why),) = await life.control.troubles()
    assert (name, "the last message was given up: no such address" in why) == ("ops", True)
    ops.error = None
    again = (await life.items())[0]["id"]
    await life.control.retry(again, "ada")
    (item,) = await life.delivered(1)
    assert item["id"] == again
    assert await life.control.troubles() == []


async def test_a_target_that_asks_to_wait_is_left_alone(live: Lives, clock: DrivenClock) -> None:
    ops = Target("ops")
    ops.error = DeliveryError("too many", retry_after=600)
    life = live(ops)
    await life.begin("f", "g")
    await life.happen("f")
    await ops.call()
    await life.tried(1)
    ops.error = None
    await life.happen("g")
    clock.advance(599 * SECOND)
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert len(ops.tried) == 1
    clock.advance(2 * SECOND)
    assert [item["tries"] for item in await life.delivered(2)] == [1, 2]
    assert [message.flow for message in ops.taken] == ["f", "g"]


async def test_who_has_a_message_sent_again_does_not_wait_for_what_its_channel_asked_for(live: Lives) -> None:
    ops = Target("ops")
    ops.error = DeliveryError("too many", retry_after=86400)
    life = live(ops)
    await life.begin("f", "g")
    await life.happen("f")
    await ops.call()
    await life.tried(1)
    await life.happen("g")
    (gathers, refused) = (await life.control.listed(NotificationFilter(), Page()))["items"]
    assert gathers["next_try_at"] == refused["next_try_at"] > gathers["created_at"]
    assert (await life.control.get(gathers["id"]))["next_try_at"] == refused["next_try_at"]
    ops.error = None
    again = await life.control.retry(refused["id"], "ada")
    assert again["next_try_at"] is None or again["next_try_at"] < refused["next_try_at"]
    assert [item["tries"] for item in await life.delivered(2)] == [1, 2]


async def test_who_has_a_message_sent_again_has_what_gathers_behind_refused_ones_sent_too(live: Lives) -> None:
    ops = Target("ops")
    ops.error = DeliveryError("answered 500")
    life = live(ops)
    await life.begin("f", "g", "h")
    await life.happen("f", "g")
    await ops.call()
    await ops.call()
    await life.tried(2)
    await life.happen("h")
    ops.error = None
    (first, *_) = await life.items(flow="h")
    await life.control.retry(first["id"], "ada")
    assert (await ops.call()).flow == "h"


async def test_after_a_day_it_is_given_up_and_shown(live: Lives, clock: DrivenClock) -> None:
    ops = Target("ops")
    ops.error = DeliveryError("nobody there")
    life = live(ops)
    await life.begin("f")
    await life.happen("f")
    await ops.call()
    await life.tried(1)
    clock.advance(25 * HOUR)
    await ops.call()

    async def given_up() -> bool:
        return bool(await life.items(state="failed"))

    await life.until(given_up)


async def test_what_gathers_for_a_target_that_is_gone_is_given_up_after_a_day_too(
    live: Lives, clock: DrivenClock
) -> None:
    life = live(Target("other"))
    flows = [f"f{number}" for number in range(10)]
    await life.begin(*flows)
    await life.happen(*flows)
    for _ in range(26):
        tries = sum(item["tries"] for item in await life.items())
        clock.advance(HOUR)

        async def tried_again(before: int = tries) -> bool:
            items = await life.items()
            return sum(item["tries"] for item in items) > before or all(item["state"] == "failed" for item in items)

        await life.until(tried_again)

    async def all_given_up() -> bool:
        return len(await life.items(state="failed")) == 10

    await life.until(all_given_up)
    assert all("no channel is called ops" in item["last_error"] for item in await life.items())
    shown = await life.control.get((await life.items())[0]["id"])
    assert "missed a tick" in shown["title"]
    assert shown["message"]["text"]
    await life.end()
    ops = Target("ops")
    again = live(ops)
    await again.begin(*flows)
    await again.control.retry(shown["id"], "ada")
    assert (await ops.call()).id == shown["id"]


async def test_a_channel_that_hangs_delays_no_other_and_nothing_is_lost_when_the_server_stops(live: Lives) -> None:
    ops, slow = Target("ops"), Target("slow")
    slow.open.clear()
    life = live(ops, slow)
    await life.begin("f", channel="slow")
    await life.declare("g")
    await life.happen("f")
    stuck = await slow.call()
    await life.happen("g")
    await ops.call()
    await life.delivered(1)
    await life.end()
    slow.open.set()
    again = live(ops, slow)
    await again.begin("f", channel="slow")
    assert (await slow.call()).id == stuck.id
    await again.delivered(2)


async def test_a_channel_that_is_not_in_the_settings_is_told_of_and_gets_all_once_it_is(
    live: Lives, clock: DrivenClock
) -> None:
    life = live(Target("other"))
    await life.begin("f")
    await life.happen("f")
    await life.tried(1)
    assert [name for name, _ in await life.control.troubles()] == ["ops"]
    assert "flow f names" in (await life.control.troubles())[0][1]
    (item,) = await life.items()
    assert item["state"] == "pending"
    assert "no channel is called ops; the settings have other" in item["last_error"]
    await life.end()
    ops = Target("ops")
    clock.advance(HOUR)
    again = live(ops)
    await again.begin("f")
    assert (await ops.call()).id == item["id"]
    await again.delivered(1)
    assert await again.control.troubles() == []


async def test_a_target_that_is_gone_for_an_hour_gets_everything_afterwards_in_few_messages(
    live: Lives, clock: DrivenClock
) -> None:
    ops = Target("ops")
    ops.error = DeliveryError("connection refused")
    life = live(ops, paces={"ops": Pace(per_hour=8)})
    flows = [f"f{number}" for number in range(20)]
    await life.begin(*flows)
    for _ in range(60):
        await life.happen(*flows)
        clock.advance(60 * SECOND)
        await asyncio.sleep(0.002)

    async def second_tried() -> bool:
        return len(set(ops.tried)) == 2

    await life.until(second_tried)
    assert len(ops.tried) < 60
    ops.error = None
    clock.advance(HOUR)
    for _ in range(3):
        await life.happen(flows[0])

    async def all_told() -> bool:
        # What is sent in an hour is counted, so the hour must not pass while something is being sent.
        if all(lane.task is None for lane in life.notifier._lanes.values()):
            clock.advance(60 * SECOND)
        return sum(message.count for message in ops.taken) >= 20 * 60 + 3

    await life.until(all_told)
    assert sum(message.count for message in ops.taken) == 20 * 60 + 3
    assert len(ops.taken) <= 12
    assert [message.at for message in ops.taken[:2]] == sorted(message.at for message in ops.taken[:2])


async def test_more_than_a_channel_takes_in_an_hour_comes_in_a_digest(live: Lives, clock: DrivenClock) -> None:
    ops = Target("ops")
    life = live(ops, paces={"ops": Pace(per_hour=5)})
    flows = [f"f{number}" for number in range(100)]
    await life.begin(*flows)
    await life.happen(*flows)
    await life.delivered(5)
    assert sum(message.count for message in ops.taken) == 100
    assert [message.event for message in ops.taken].count("digest") == 1
    digest = ops.taken[-1]
    assert digest.count == 96
    assert "and 86 more of other kinds" in digest.text
    await life.happen("f0")
    clock.advance(10 * 60 * SECOND)
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert len(ops.taken) == 5
    clock.advance(HOUR)
    await life.delivered(6)


async def test_a_channel_has_the_time_that_its_settings_give_it(live: Lives, monkeypatch: pytest.MonkeyPatch) -> None:
    (slow,) = read_channels({"slow": {"kind": "slack", "url": "env:SLOW", "timeout": "300s"}}, Path())
    how = Notifying().over(Channels([slow], SystemClock()))
    assert (how.timeout("slow"), how.timeout("another")) == (300.0, 10.0)
    monkeypatch.setattr(notifier, "GRACE", 0.0)
    hangs, ops = Target("hangs"), Target("ops")
    hangs.open.clear()
    ops.open.clear()
    life = live(hangs, ops, paces={"hangs": Pace(timeout=0.01), "ops": Pace(timeout=300.0)})
    await life.begin("f", channel="hangs")
    await life.declare("g")
    await life.happen("f", "g")
    await life.tried(1)
    found = {item["channel"]: (item["tries"], item["last_error"]) for item in await life.items()}
    assert found == {"hangs": (1, "it took longer than 0.01 s"), "ops": (0, None)}
    ops.open.set()
    await life.delivered(1)


async def test_changes_of_rules_at_the_same_time_are_all_kept(live: Lives) -> None:
    life = live(Target("ops"))
    await life.begin("f")
    failed, retried, told = (
        {"event": event, "channels": ["ops"]} for event in ("run.failed", "run.retrying", "run.succeeded")
    )
    changes: list[dict[str, Any]] = [
        {"muted": True, "reason": "a move"}, {"add": [failed]}, {"add": [retried]}, {"remove": ["run.failing"]},
        {"add": [failed]},
    ]  # fmt: skip
    await asyncio.gather(*(life.control.change(spec("f"), change, None, "ada") for change in changes))
    found = life.control.rules(spec("f"))
    assert found["muted"] == {"until": None}
    assert [rule["event"] for rule in found["rules"] if rule["from"] == "people"] == ["run.failed", "run.retrying"]
    found = await life.control.change(spec("f"), {"remove": ["run.failed"], "add": [told], "muted": False}, None, "ben")
    assert [rule["event"] for rule in found["rules"] if rule["from"] == "people"] == ["run.retrying", "run.succeeded"]
    with pytest.raises(UsageError, match="no channel is called nobody; the settings have ops"):
        await life.control.change(spec("f"), {"add": [failed | {"channels": ["nobody"]}]}, None, "ada")
    with pytest.raises(UsageError, match="until is a time to come"):
        await life.control.change(spec("f"), {"until": None}, 1, "ada")
    found = await life.control.change(spec("f"), {"rules": []}, None, "ada")
    assert [rule["from"] for rule in found["rules"]] == ["code"]
    assert found["changed"] is None


async def test_rules_are_taken_back_for_one_channel_or_for_all(live: Lives) -> None:
    life = live(Target("ops"), Target("ada"), Target("ben"))
    await life.begin("f")
    failed, told = ({"event": event, "channels": ["ops", "ada"]} for event in ("run.failed", "run.succeeded"))
    await life.control.change(spec("f"), {"add": [failed, told, failed | {"channels": ["ben"]}]}, None, "ada")

    async def left(*removed: Any) -> list[tuple[str, list[str]]]:
        found = await life.control.change(spec("f"), {"remove": list(removed)}, None, "ada")
        return [(rule["event"], rule["channels"]) for rule in found["rules"] if rule["from"] == "people"]

    assert await left({"event": "run.failed", "channels": ["ops", "ben"]}) == [
        ("run.failed", ["ada"]), ("run.succeeded", ["ops", "ada"])
    ]  # fmt: skip
    for wrong, why in [
        ("run.exploded", "nothing that can be told; there is run.succeeded"),
        ({"event": ["run.failed"], "channels": ["ops"]}, "nothing that can be told"),
        ({"event": "run.failed", "channels": []}, "send the event alone"),
        ({"event": "run.failed", "channels": "ops"}, "send the event alone"),
        ({"event": "run.failed"}, "an object with `event` and `channels`"),
        ({"event": "run.failed", "channels": ["opps"]}, "no channel is called opps"),
    ]:
        with pytest.raises(UsageError, match=why):
            await left(wrong)
    assert await left("request.missed", "run.succeeded") == [("run.failed", ["ada"])]
    await life.end()
    life = live(Target("ben"))
    await life.begin("f")
    assert await left({"event": "run.failed", "channels": ["ada"]}) == []


async def test_a_channel_at_fault_does_not_stop_the_notifier(
    live: Lives, clock: DrivenClock, caplog: pytest.LogCaptureFixture
) -> None:
    ops = Target("ops")
    ops.error = ValueError("token=s3cret")  # type: ignore[assignment]
    life = live(ops)
    await life.begin("f")
    await life.happen("f")
    await ops.call()
    item = await life.tried(1)
    assert item["last_error"] == "the channel failed with ValueError"
    ops.error = None
    clock.advance(HOUR)
    await life.delivered(1)
    assert "is at fault" in caplog.text


async def test_what_is_sent_again_is_what_was_sent_whatever_has_become_of_the_run(
    live: Lives, clock: DrivenClock
) -> None:
    ops = Target("ops")
    ops.error = DeliveryError("answered 500")
    life = live(ops)
    await life.begin("f")
    await life.happen("f")
    first = await ops.call()
    item = await life.tried(1)
    assert (await life.control.get(item["id"]))["message"]["text"] == first.text
    await life.end()
    ops.error = None
    clock.advance(HOUR)
    again = live(ops, public_url="https://moved.example.org")
    await again.begin("f")
    assert await ops.call() == first
    await again.delivered(1)


async def test_a_clock_that_is_set_back_delays_nothing(
    live: Lives, clock: DrivenClock, caplog: pytest.LogCaptureFixture
) -> None:
    ops = Target("ops")
    life = live(ops, paces={"ops": Pace(per_hour=4)})
    await life.begin("f", "g", "h")
    await life.happen("f", "h")
    await life.delivered(2)
    ops.error = DeliveryError("too many", retry_after=60)
    await life.happen("g")
    for _ in range(3):
        await ops.call()
    await life.tried(3)
    ops.error = None
    clock.advance(-2 * HOUR)
    await noticed_going_back(caplog)
    clock.advance(61 * SECOND)
    assert (await ops.call()).flow == "g"
    await life.happen("f")
    clock.advance(301 * SECOND)
    assert (await ops.call()).flow == "f"
    await life.delivered(4)
    await life.happen("h")
    clock.advance(301 * SECOND)
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert len(ops.taken) == 4, "the hour is as long as it was"
    clock.advance(HOUR)
    await life.delivered(5)


async def noticed_going_back(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(60):
        while "the clock went back" not in caplog.text:  # noqa: ASYNC110  it has no event for it
            await asyncio.sleep(0.001)


async def test_a_clock_that_was_set_back_while_no_server_ran_delays_nothing(
    live: Lives, clock: DrivenClock, caplog: pytest.LogCaptureFixture
) -> None:
    ops = Target("ops")
    ops.error = DeliveryError("answered 500")
    life = live(ops)
    await life.begin("f", "g")
    await life.happen("f")
    await life.tried(1)
    await life.end()
    ops.error = None
    clock.advance(-2 * HOUR)
    again = live(ops)
    await again.begin("f", "g")
    await again.happen("g")
    await noticed_going_back(caplog)
    clock.advance(300 * SECOND)
    assert {message.flow for message in [await ops.call(), await ops.call(), await ops.call()]} == {"f", "g"}
    await again.delivered(2)

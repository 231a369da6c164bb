"""Events with real workers: equal contexts are one run, a cursor moves with what it caused, bad polls harm none."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pullcord.core.errors import NotFoundError, UnavailableError, UsageError
from pullcord.engine import polls
from pullcord.engine.worker import CONTROL
from pullcord.gate.request import OWNER
from pullcord.services import rescuer
from pullcord.triggers import events
from pullcord.worker.main import BEAT
from tests.system.processes import PATIENCE, alive, kill
from tests.system.triggering import Served, until

Serve = Callable[..., Any]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    served: list[Served] = []

    async def start(source: str, *more: str, names: tuple[str, ...] = ()) -> Served:
        one = Served(tmp_path, source, *more)
        served.append(one)
        await one.start()
        await until(lambda: one.known(*names))
        return one

    yield start
    for one in served:
        await one.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failing events are looked at again at once."""
    monkeypatch.setattr(events, "after_errors", lambda every, errors, retry_after: retry_after or 0.01)


# --- deduplication (design rule 5) -------------------------------------------------------------------

SAME = """
import random


@pc.flow({options})
async def work(a: int, b: str, c: list, d: dict, e: float, f: bool, g: None, h: str) -> str:
    note("runs", pc.run().id)
    word = await told(pc.run().id)
    if word == "fail":
        raise ValueError("as told")
    if word == "die":
        os._exit(3)
    return word


@pc.event(flow=work, every="50ms")
def same():
    if (HERE / "quiet").exists():
        note("quiet polls", 1)
        return pc.Skip("quiet")
    context = {{"a": 1, "b": "x", "c": [1, 2], "d": {{"z": 1, "y": 2}}, "e": 0.5, "f": True, "g": None, "h": "é"}}
    names = list(context)
    random.shuffle(names)
    context["d"] = {{name: context["d"][name] for name in random.sample("zy", 2)}}
    note("polls", 1)
    return pc.Fire({{name: context[name] for name in names}})
"""


@pytest.mark.parametrize(
    "end", ["succeeded", "failed", "cancelled in the queue", "cancelled", "worker_lost", "timeout", "restart"]
)
async def test_equal_contexts_are_one_run_until_it_has_ended_in_any_way(serve: Serve, end: str) -> None:
    options = {"timeout": 'timeout="1s"'}.get(end, "concurrency=1")
    served: Served = await serve(SAME.format(options=options), names=("same",))
    # One with a timeout may have ended already, and have been followed by the next.
    (first, _, _), *_ = await until(lambda: served.runs("work"))
    polls = len(served.notes("polls"))
    await until(lambda: len(served.notes("polls")) >= polls + 10 or end == "timeout")
    assert end == "timeout" or len(await served.runs("work")) == 1
    if end == "succeeded":
        served.say(f"{first}.end", "done")
    elif end == "failed":
        served.say(f"{first}.end", "fail")
    elif end == "worker_lost":
        served.say(f"{first}.end", "die")
    elif end == "cancelled":
        await until(lambda: first in served.notes("runs"))
        await served.app.cancel(first)
    elif end == "restart":
        await served.restart()
        polls = len(served.notes("polls"))
        await until(lambda: len(served.notes("polls")) >= polls + 5)
        assert len(await served.runs("work")) == 1, "a restart is no end"
        served.say(f"{first}.end", "done")
    elif end == "cancelled in the queue":
        first = await _cancel_in_the_queue(served, first)
    ended = await served.end(first)
    assert ended["state"] == {"succeeded": "succeeded", "restart": "succeeded"}.get(end, end.split()[0]) or (
        ended["state"] == "failed" and end in ("failed", "worker_lost", "timeout")
    )
    await until(lambda: _count(served, "work", 2))
    assert (await served.outcomes("same"))["deduplicated"] >= (0 if end == "timeout" else 9)
    assert [state for _, state, _ in await served.runs("work")].count("queued") <= 1


async def _count(served: Served, flow: str, least: int) -> bool:
    return len(await served.runs(flow)) >= least


async def _cancel_in_the_queue(served: Served, first: str) -> str:
    """Let the first run end, hold the slot with another one, and cancel the next fire's run while it waits."""
    served.say("quiet")
    # A poll that had looked before may still have seen something; the next one comes after what it caused.
    await until(lambda: served.notes("quiet polls"))
    served.say(f"{first}.end", "done")
    await served.end(first)
    context = (await served.runs("work"))[0][2]
    before = len(await served.runs("work"))
    holder = (await served.app.run("work", context)).run_id
    await until(lambda: holder in served.notes("runs"))
    (served.folder / "quiet").unlink()
    await until(lambda: _count(served, "work", before + 2))
    waiting, state, _ = (await served.runs("work"))[-1]
    assert state == "queued"
    await served.app.cancel(waiting)
    assert (await served.end(waiting))["started_at"] is None
    return waiting


async def test_with_allow_concurrent_equal_fires_really_overlap(serve: Serve) -> None:
    served: Served = await serve(
        """
@pc.flow(concurrency=None)
async def work(a: int) -> int:
    note("running", pc.run().id)
    while len((HERE / "running").read_text().splitlines()) < 3:
        await asyncio.sleep(0.01)
    return a


@pc.event(flow=work, every="50ms", allow_concurrent=True)
def same():
    return pc.Fire({"a": 1})
"""
    )

    async def three() -> bool:
        return [state for _, state, _ in (await served.runs("work"))[:3]] == ["succeeded"] * 3

    await until(three)


async def test_a_key_says_which_fires_are_the_same(serve: Serve) -> None:
    served: Served = await serve(
        """
@pc.flow(concurrency=None)
async def work(n: int) -> str:
    return await told(pc.run().id)


@pc.event(flow=work, every="50ms")
def keyed(cursor: pc.Cursor):
    cursor.value = (cursor.value or 0) + 1
    return [pc.Fire({"n": cursor.value}, key="one"), pc.Fire({"n": -cursor.value}, key="two")]
"""
    )
    await until(lambda: _deduplicated(served, "keyed", 10))
    assert [inputs["n"] for _, _, inputs in await served.runs("work")] == [1, -1]
    served.say(f"{(await served.runs('work'))[0][0]}.end")
    await until(lambda: _count(served, "work", 3))
    assert (await served.runs("work"))[2][2]["n"] > 1


async def _failed(served: Served, name: str) -> bool:
    return (await served.told(name))["failed"] > 0


async def _deduplicated(served: Served, name: str, least: int) -> bool:
    return (await served.outcomes(name))["deduplicated"] >= least


# --- cursors -----------------------------------------------------------------------------------------

COUNTING = """
@pc.flow(concurrency=None)
def work(n: int) -> int:
    return n


@pc.event(flow=work, every="50ms")
def counting(cursor: pc.Cursor):
    cursor.value = (cursor.value or 0) + 1
    return pc.Fire({"n": cursor.value})
"""


async def test_a_cursor_moves_with_what_it_caused_over_restarts_and_deploys(serve: Serve) -> None:
    served: Served = await serve(COUNTING)
    for number in range(1, 7):
        await until(lambda number=number: _count(served, "work", number * 5))
        if number % 2:
            await served.restart()
        else:
            served.deploy(COUNTING.replace("50ms", f"{50 + number}ms"))
    seen = [inputs["n"] for _, _, inputs in await served.runs("work")]
    assert seen == list(range(1, len(seen) + 1))


async def test_a_cursor_that_is_put_back_has_everything_since_then_asked_for_again(serve: Serve) -> None:
    served: Served = await serve(COUNTING)
    await until(lambda: _count(served, "work", 10))
    await served.change("counting", cursor=4, reason="the target was empty")
    count = len(await served.runs("work"))
    await until(lambda: _count(served, "work", count + 3))
    seen = [inputs["n"] for _, _, inputs in await served.runs("work")]
    again = seen.index(5, 5)
    assert seen == [*range(1, again + 1), *range(5, 5 + len(seen) - again)]


async def test_a_worker_that_dies_during_a_poll_loses_and_doubles_nothing(serve: Serve) -> None:
    served: Served = await serve(
        """
@pc.flow(concurrency=None)
def work(n: int) -> int:
    return n


@pc.event(flow=work, every="50ms", max_errors=None)
def counting(cursor: pc.Cursor):
    cursor.value = (cursor.value or 0) + 1
    note("pids", os.getpid())
    while not (HERE / "go").exists():
        time.sleep(0.01)
    return pc.Fire({"n": cursor.value})

"""
    )
    killed: list[int] = []
    for _ in range(2):
        pid = await until(lambda: next((int(p) for p in served.notes("pids") if int(p) not in killed), None))
        kill([pid])
        killed.append(pid)
        await until(lambda pid=pid: not alive(pid))
    served.say("go")
    await until(lambda: _count(served, "work", 5))
    seen = [inputs["n"] for _, _, inputs in await served.runs("work")]
    assert seen == list(range(1, len(seen) + 1))
    told = await served.told("counting")
    assert told["failed"] >= 1
    assert any("died while it polled" in item["reason"] for item in await served.history("counting"))


# --- bad neighbours ----------------------------------------------------------------------------------

BAD = """
@pc.flow(concurrency=None)
def work(n: int) -> int:
    return n


@pc.flow(concurrency=None)
def bulk(n: int) -> int:
    return n


@pc.event(flow=work, every="50ms")
def good(cursor: pc.Cursor):
    cursor.value = (cursor.value or 0) + 1
    return pc.Fire({"n": cursor.value})


@pc.event(flow=work, every="50ms", timeout="300ms", max_errors=None)
def hangs():
    time.sleep(600)


@pc.event(flow=work, every="50ms", max_errors=None)
def raises():
    raise RuntimeError("the other side is down")


@pc.event(flow=work, every="50ms", max_errors=None)
def nonsense():
    return {"n": 1}


@pc.event(flow=work, every="50ms", max_errors=None)
def unsound():
    return pc.Fire({"n": float("nan")})


@pc.event(flow=work, every="50ms", timeout="1s", max_errors=None)
async def blocks():
    if (HERE / "block").exists():
        time.sleep(600)


@pc.event(flow=work, every="50ms", timeout="1s", max_errors=None)
def holds():
    if (HERE / "hold").exists():
        ctypes.PyDLL(None).usleep(600_000_000)


@pc.event(flow=bulk, every="50ms")
def many(cursor: pc.Cursor):
    if cursor.value:
        return pc.Skip("done")
    cursor.value = True
    return [pc.Fire({"n": n}) for n in range(10_000)]


@pc.event(flow="nowhere", every="50ms")
def lost():
    return pc.Fire({"n": 1})


@pc.event(flow=work, every="50ms")
def misfit():
    return pc.Fire({"n": "no number"})
"""


async def test_bad_events_are_in_their_histories_and_in_nobodys_way(serve: Serve, impatient: None) -> None:
    served: Served = await serve(BAD, names=("good", "misfit"))

    async def goes_on() -> None:
        """The good one asks for another run, and then for another that it began to look for meanwhile."""
        count = len(await served.runs("work"))
        # It may have run beside the one that holds the lock, and then takes turns with that for a while.
        await until(lambda: _count(served, "work", count + 2), 2 * PATIENCE)

    async def says(name: str, words: str, outcome: str = "failed") -> None:
        async def there() -> bool:
            return any(i["outcome"] == outcome and words in (i["reason"] or "") for i in await served.history(name))

        await until(there)

    await says("raises", "RuntimeError: the other side is down")
    await says("nonsense", "an event returns pc.Fire")
    await says("unsound", "cannot be written as JSON")
    await says("hangs", "took longer than 0.3 s")
    await says("lost", "nowhere", "refused")
    await says("misfit", "n: ", "refused")
    await goes_on()
    await until(lambda: _count(served, "bulk", 10_000))
    assert len(await served.runs("bulk")) == 10_000
    assert (await served.history("many"))[-1]["reason"] == "10000 admitted"
    await goes_on()
    for name, sign in (("blocks", "block"), ("holds", "hold")):
        served.say(sign)
        await goes_on()
        await until(lambda name=name: _failed(served, name))
        (served.folder / sign).unlink()
        await goes_on()
    seen = [inputs["n"] for _, _, inputs in await served.runs("work")]
    assert seen == list(range(1, len(seen) + 1))
    assert served.trigger("raises")["health"] == "failing"
    assert served.trigger("good")["health"] == "ok"


APART = """
@pc.flow(concurrency=None)
def work() -> None:
    return None


@pc.event(flow=work, every="50ms", timeout="1s", max_errors=None)
def suspect():
    note("suspect", os.getpid())
    if (HERE / "hold").exists():
        note("held", os.getpid())
        ctypes.PyDLL(None).usleep(600_000_000)


@pc.event(flow=work, every="50ms", timeout="30s", max_errors=None)
def beside():
    note("beside", os.getpid())
    while (HERE / "beside-waits").exists():
        time.sleep(0.01)


@pc.event(flow=work, every="50ms", max_errors=None)
async def other():
    note("other", os.getpid())
"""


async def test_an_event_that_blocked_its_process_is_polled_apart_till_it_behaves(serve: Serve, impatient: None) -> None:
    served: Served = await serve(APART, names=("suspect", "beside", "other"))
    await until(lambda: served.notes("suspect") and served.notes("other"))
    first = served.notes("suspect")[0]
    served.say("hold")
    await until(lambda: _failed(served, "suspect"))
    (served.folder / "hold").unlink()

    (fleet,) = served.app.engine.fleets.values()

    def together_again() -> bool:
        """It is polled where all are; polled apart, it may have had the company of another suspect."""
        usual = {str(worker.pid) for worker in fleet.workers if worker.role == CONTROL}
        return {served.notes("suspect")[-1], served.notes("other")[-1]} <= usual - {first}

    await until(together_again)
    pids = served.notes("suspect")
    counts = Counter(pids)
    assert max(counts[pid] for pid in set(pids) - {first, pids[-1]}) >= 10
    assert (await served.told("other"))["failed"] == (await served.told("beside"))["failed"] == 0


async def test_who_is_polled_by_a_silent_process_is_suspected_when_that_is_killed(
    serve: Serve, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that it was sent had begun, so that nothing waited for the process to take it."""
    monkeypatch.setattr(polls, "TAKEN", 1e6)
    monkeypatch.setattr(rescuer, "EVERY", 0.2)
    monkeypatch.setattr(rescuer, "SILENT", BEAT + 2)
    served: Served = await serve(APART, names=("suspect", "beside", "other"))
    await until(lambda: served.notes("suspect") and served.notes("other"))
    served.say("hold")
    await until(lambda: _failed(served, "suspect"))
    (served.folder / "hold").unlink()
    await until(lambda: served.trigger("suspect")["health"] == "ok")


async def test_of_several_suspects_none_is_blamed(serve: Serve, impatient: None) -> None:
    """The one that waits in a thread looks just as guilty as the one that holds the interpreter lock in another."""
    served: Served = await serve(APART, names=("suspect", "beside", "other"))
    await until(lambda: served.notes("suspect") and served.notes("beside"))
    served.say("beside-waits")
    count = len(served.notes("beside"))
    await until(lambda: len(served.notes("beside")) > count)
    served.say("hold")
    await until(lambda: served.notes("held"))
    (served.folder / "beside-waits").unlink()
    first = served.notes("held")[0]
    await until(lambda: _failed(served, "suspect"))
    (served.folder / "hold").unlink()
    await until(lambda: served.notes("beside")[-1] == served.notes("other")[-1] != first)
    assert (await served.told("other"))["failed"] == (await served.told("beside"))["failed"] == 0


# --- failing, and being disabled ---------------------------------------------------------------------

FAILING = """
@pc.flow(concurrency=None)
def work() -> None:
    return None


@pc.event(flow=work, every="50ms", max_errors=3)
def fails():
    if not (HERE / "mended").exists():
        raise OSError("refused")
    return pc.Fire()


@pc.event(flow=work, every="50ms")
def forbidden():
    if not (HERE / "mended").exists():
        raise pc.PollError("the password is wrong", permanent=True)


@pc.event(flow=work, every="50ms")
def busy():
    raise pc.PollError("too many requests", retry_after="120s")


@pc.event(flow=work, every="50ms", max_errors=3)
def sometimes(cursor: pc.Cursor):
    cursor.value = (cursor.value or 0) + 1
    note("sometimes", cursor.value)
    if len((HERE / "sometimes").read_text().splitlines()) % 3:
        raise OSError("now and then")
"""


async def test_so_many_failures_in_a_row_disable_an_event_until_somebody_mends_it(
    serve: Serve, impatient: None
) -> None:
    served: Served = await serve(FAILING, names=("fails",))
    await until(lambda: served.trigger("fails")["health"] == "disabled")
    shown = served.trigger("fails")
    assert shown["consecutive_errors"] == 3
    assert shown["override"]["by"] == "pullcord"
    assert "3 polls in a row failed; the last: OSError: refused" in shown["override"]["reason"]
    assert shown["next_due"] is None
    newest, *_ = await served.history("fails")
    assert (newest["outcome"], "pullcord triggers enable fails" in newest["reason"]) == ("disabled", True)
    assert (await served.told("fails"))["failed"] == 3
    await served.restart()
    assert served.trigger("fails")["health"] == "disabled"
    served.say("mended")
    await served.change("fails", enabled=True)
    await until(lambda: _count(served, "work", 1))
    assert (served.trigger("fails")["consecutive_errors"], served.trigger("fails")["health"]) == (0, "ok")


async def test_what_does_not_pass_by_itself_disables_at_once(serve: Serve) -> None:
    served: Served = await serve(FAILING, names=("forbidden",))
    await until(lambda: served.trigger("forbidden")["health"] == "disabled")
    assert (await served.told("forbidden"))["failed"] == 1
    assert "this does not pass by itself" in served.trigger("forbidden")["override"]["reason"]


async def test_retry_after_is_honoured(serve: Serve) -> None:
    served: Served = await serve(FAILING, names=("busy",))

    def left_alone() -> float:
        shown = served.trigger("busy")
        if shown["last_poll_at"] is None or not shown["consecutive_errors"]:
            return 0.0
        length = datetime.fromisoformat(shown["next_due"]) - datetime.fromisoformat(shown["last_poll_at"])
        return length.total_seconds()

    # From when it was due, while its process may still have been starting; without its wish it would be 1 s.
    await until(lambda: left_alone() >= 60)
    assert served.trigger("busy")["consecutive_errors"] == 1


async def test_failures_that_are_not_in_a_row_disable_nothing(serve: Serve, impatient: None) -> None:
    served: Served = await serve(FAILING, names=("sometimes",))
    await until(lambda: len(served.notes("sometimes")) >= 13)
    assert served.trigger("sometimes")["enabled"] is True
    assert (await served.told("sometimes"))["failed"] >= 8


# --- trying and repeating ----------------------------------------------------------------------------

CLASS = """
@pc.flow(concurrency=None)
def work(n: int, who: str = "") -> int:
    return n


@pc.event(flow=work, every="{every}", timeout="{timeout}", enabled={enabled}, parameters={{"who": "code"}})
class Inbox:
    def __init__(self, who: str):
        self.who = who

    def setup(self):
        note("calls", f"setup {{self.who}}")

    def poll(self, cursor: pc.Cursor):
        note("calls", "poll")
        cursor.value = (cursor.value or 0) + 1
        return pc.Fire({{"n": cursor.value, "who": self.who}})

    def teardown(self):
        note("calls", f"teardown {{self.who}}")
"""


async def test_a_preview_polls_once_and_has_nothing_happen(serve: Serve) -> None:
    served: Served = await serve(CLASS.format(every="50ms", timeout="20s", enabled=False), names=("Inbox",))
    seen = await served.app.triggers.preview("Inbox", OWNER)
    assert (seen["outcome"], seen["fires"]) == ("fire", [{"context": {"n": 1, "who": "code"}, "key": None}])
    assert seen["cursor"] == 1
    later = await served.app.triggers.preview("Inbox", OWNER, cursor=41)
    assert later["fires"][0]["context"]["n"] == 42
    assert served.notes("calls") == ["setup code", "poll", "teardown code"] * 2
    assert await served.runs("work") == []
    assert served.trigger("Inbox")["cursor"] is None
    assert await served.history("Inbox") == []


async def test_a_preview_of_an_event_whose_code_does_not_load_says_so(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PREVIEW", 0.1)
    served: Served = await serve(CLASS.format(every="50ms", timeout="1s", enabled=False), names=("Inbox",))
    await served.stop()
    served.files[0].write_text("while True: pass\n")
    served.app = served.make()
    await served.app.start()
    served.app.triggers.get("Inbox")
    with pytest.raises(UnavailableError):
        await served.app.triggers.preview("Inbox", OWNER)


async def test_a_class_is_set_up_once_and_torn_down_when_it_is_polled_no_longer(serve: Serve) -> None:
    served: Served = await serve(CLASS.format(every="50ms", timeout="20s", enabled=True), names=("Inbox",))
    await until(lambda: _count(served, "work", 5))
    assert served.notes("calls")[:5] == ["setup code", *["poll"] * 4]
    await served.change("Inbox", enabled=False)
    await until(lambda: served.notes("calls")[-1] == "teardown code")
    await served.change("Inbox", enabled=True, parameters={"who": "people"})
    await until(lambda: served.notes("calls").count("poll") > 10 and "setup people" in served.notes("calls"))
    calls = served.notes("calls")
    assert (calls.count("setup code"), calls.count("setup people"), calls.count("teardown code")) == (1, 1, 1)
    served.deploy("")
    await until(lambda: served.notes("calls")[-1] == "teardown people")


async def test_what_was_asked_for_can_be_asked_for_again(serve: Serve) -> None:
    served: Served = await serve(CLASS.format(every="50ms", timeout="20s", enabled=True), names=("Inbox",))
    await until(lambda: _count(served, "work", 3))
    await served.change("Inbox", enabled=False)
    rows = await served.rows("SELECT uuid FROM requests WHERE trigger_name = 'Inbox' ORDER BY id")
    receipt = await served.app.triggers.replay("Inbox", rows[1][0], OWNER)
    assert receipt.run_id is not None
    again = await served.end(receipt.run_id)
    assert again["inputs"] == {"n": 2, "who": "code"}
    assert (again["invoker"]["id"], again["source"], again["trigger"]["name"]) == ("owner", "replay", "Inbox")
    with pytest.raises(NotFoundError):
        await served.app.triggers.replay("Inbox", "00000000-0000-7000-8000-000000000000", OWNER)


# --- changes -----------------------------------------------------------------------------------------


async def test_what_people_changed_survives_restarts_and_deploys(serve: Serve) -> None:
    code = CLASS.format(every="10s", timeout="20s", enabled=True)
    served: Served = await serve(code, names=("Inbox",))
    await served.change("Inbox", settings={"every": 0.06}, parameters={"who": "people"}, reason="faster")
    await until(lambda: _count(served, "work", 3))
    await served.restart()
    served.deploy(code.replace("10s", "20s").replace("(n: int,", "(n: int, deployed: bool = True,"))
    await until(lambda: served.known("Inbox") and served.trigger("Inbox")["declared"]["settings"]["every"] == 20.0)
    count = len(await served.runs("work"))
    await until(lambda: _count(served, "work", count + 3))
    shown = served.trigger("Inbox")
    assert (shown["settings"]["every"], shown["parameters"]) == (0.06, {"who": "people"})
    assert (shown["override"]["by"], shown["override"]["reason"]) == ("owner", "faster")
    assert (await served.runs("work"))[-1][2]["who"] == "people"
    await served.change("Inbox", settings=None, parameters=None)
    assert served.trigger("Inbox")["settings"]["every"] == 20.0


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {"every": 0.001}},
        {"settings": {"every": "fast"}},
        {"settings": {"speed": 1}},
        {"settings": {"max_errors": 0}},
        {"settings": {"allow_concurrent": 1}},
        {"schedule": "@hourly"},
        {"parameters": [1]},
        {"enabled": 1},
        {"until": "2999-01-01T00:00:00Z", "enabled": True},
        {"until": "2000-01-01T00:00:00Z"},
        {"colour": "red"},
        {"reason": "none"},
        {},
    ],
)
async def test_a_change_that_cannot_be_changes_nothing(serve: Serve, changes: dict[str, Any]) -> None:
    served: Served = await serve(COUNTING, names=("counting",))
    before = served.trigger("counting")
    with pytest.raises(UsageError):
        await served.change("counting", **changes)
    after = served.trigger("counting")
    assert (after["settings"], after["override"]) == (before["settings"], before["override"])
    count = len(await served.runs("work"))
    await until(lambda: _count(served, "work", count + 2))


async def test_one_that_left_the_code_keeps_its_history_and_goes_on_when_it_comes_back(serve: Serve) -> None:
    served: Served = await serve(COUNTING, names=("counting",))
    await until(lambda: _count(served, "work", 3))
    served.deploy(COUNTING.replace("counting", "another"))
    await until(lambda: served.known("another") and served.trigger("counting")["health"] == "orphaned")
    gone = served.trigger("counting")
    assert gone["removed_at"] is not None
    assert (await served.told("counting"))["fired"] >= 3
    with pytest.raises(UsageError, match="left the code"):
        await served.change("counting", enabled=True)
    cursor = gone["cursor"]
    served.deploy(COUNTING)
    await until(lambda: served.trigger("counting")["health"] == "ok")
    await until(lambda: served.trigger("counting")["cursor"] > cursor)
    rows = await served.rows("SELECT inputs FROM requests WHERE trigger_name = 'counting' ORDER BY id")
    assert [row[0] for row in rows] == [f'{{"n":{n}}}' for n in range(1, len(rows) + 1)]


# --- more than a flow takes ----------------------------------------------------------------------------

TOO_MUCH = """
@pc.flow(concurrency=None, rate=pc.Rate(2, "1h"))
def rated(n: int = 0) -> None: ...


@pc.flow(max_queued=1)
async def small(n: int = 0) -> None:
    await told("small")


@pc.event(flow=rated, every="50ms")
def rates(state: pc.Cursor):
    state.value = (state.value or 0) + 1
    return [pc.Fire({"n": n}) for n in range(3)] if state.value == 1 else pc.Skip("done")


@pc.event(flow=small, every="50ms")
def files(state: pc.Cursor):
    state.value = (state.value or 0) + 1
    return [pc.Fire({"n": n}) for n in range(3)] if state.value == 1 else pc.Skip("done")


@pc.event(flow=rated, every="50ms")
def later(state: pc.Cursor):
    if not (HERE / "later").exists() or state.value:
        return pc.Skip("not yet")
    state.value = 1
    return pc.Fire({"n": 9})
"""


async def test_a_poll_that_asks_for_more_than_its_flow_ever_takes_gets_what_fits(serve: Serve) -> None:
    served: Served = await serve(TOO_MUCH, names=("rates", "files", "later"))
    for name, flow in (("rates", "rated"), ("files", "small")):
        await until(lambda name=name: (served.trigger(name)["cursor"] or 0) > 1)
        assert [inputs["n"] for _, _, inputs in await served.runs(flow)] == [0, 1]
        assert await served.outcomes(name) == {"admitted": 2, "rejected": 1}
        rejected = await served.rows(
            f"SELECT inputs, reason FROM requests WHERE trigger_name = '{name}' AND outcome = 'rejected'"
        )
        ((inputs, reason),) = rejected
        assert '"n":2' in inputs and reason.startswith("more is asked for at once than ")
        (line,) = [line for line in await served.history(name) if line["outcome"] == "fired"]
        assert line["reason"].startswith("2 admitted, 1 rejected: more is asked for at once")
    served.say("later")

    async def told() -> bool:
        return (await served.told("later"))["refused"] > 0

    await until(told)
    (line,) = [line for line in await served.history("later") if line["outcome"] == "refused"]
    assert line["reason"] == "tried again: the rate of rated is used up: 2 in 1 h for everybody together"
    assert served.trigger("later")["cursor"] is None, "what passes is waited for"


PAIR = """
@pc.flow(concurrency=None)
def first(n: int = 0) -> None: ...


@pc.flow(concurrency=None)
def second(n: int = 0) -> None: ...


@pc.event(flow=[first, second], every="50ms")
def both(state: pc.Cursor):
    if not (HERE / "now").exists() or state.value:
        return pc.Skip("not yet")
    state.value = 1
    return [pc.Fire({"n": 1}), pc.Fire({"n": 2})]
"""


async def test_an_event_of_several_flows_waits_for_all_of_them_and_says_so_of_each(serve: Serve) -> None:
    served: Served = await serve(PAIR, names=("both",))
    await served.app.flows.pause("first", "new law")
    served.say("now")
    await until(lambda: served.rows("SELECT 1 FROM requests WHERE flow = 'second'"))
    rows = await served.rows("SELECT flow, outcome, code, reason FROM requests ORDER BY flow")
    assert [row[:3] for row in rows] == [("first", "rejected", "flow_paused"), ("second", "rejected", "flow_paused")]
    assert rows[1][3] == f"both waits until it can ask for first too: {rows[0][3]}"
    assert served.trigger("both")["cursor"] is None
    await served.app.flows.resume("first")
    await until(lambda: served.trigger("both")["cursor"])
    for flow in ("first", "second"):
        assert [inputs["n"] for _, _, inputs in await served.runs(flow)] == [1, 2]


# --- limits (design rule 8) --------------------------------------------------------------------------

LIMITED_LATER = """
from typing import Annotated
from pydantic import AfterValidator


def slowly(value: int) -> int:
    note("validates", value)
    while not (HERE / "valid").exists():
        time.sleep(0.01)
    return value


@pc.flow(concurrency=None)
def quick(n: int) -> None: ...


@pc.flow(concurrency=None)
def slow(n: Annotated[int, AfterValidator(slowly)]) -> None: ...


@pc.event(flow=[quick, slow], every="50ms")
def burst(state: pc.Cursor):
    if state.value:
        return pc.Skip("all fired")
    state.value = True
    return [pc.Fire({"n": n}) for n in range(3)]
"""


async def test_what_an_event_has_prepared_is_counted_by_a_limit_that_came_meanwhile(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "AT_A_TIME", 1)
    served: Served = await serve(LIMITED_LATER, names=("burst",))
    await until(lambda: served.notes("validates"))
    await served.app.limits.change("quick", 1, None, OWNER)
    served.say("valid")
    await until(lambda: served.runs("quick"))
    assert set(await served.rows("SELECT flow, slot FROM runs")) == {("quick", "quick"), ("slow", None)}

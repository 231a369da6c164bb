"""Polls in a real worker: outcomes, cursors, deadlines, classes, and what may not hold up others."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pullcord.engine.marks import Marks
from pullcord.wire import messages as kinds
from tests.unit.polling.harness import ServerEnd

Serve = Callable[..., ServerEnd]


def test_functions_of_both_colours_fire_skip_and_move_their_cursors(serve: Serve) -> None:
    server = serve(
        """
        @pc.event(flow=report)
        def plain(): return pc.Fire({"b": 2, "a": date(2026, 1, 2)}, key="k")

        @pc.event(flow=report)
        async def counts(last: pc.Cursor, step: int = 1):
            last.value = (last.value or 0) + step
            await asyncio.sleep(0)
            return pc.Skip("nothing yet")

        @pc.event(flow=report)
        def reads(state: pc.Cursor):
            state.value = {"b": 1, "a": state.value}

        @pc.event(flow=report)
        def empty(): return []
        """
    )
    assert server.poll("plain")[:3] == ["fire", None, [['{"a":"2026-01-02","b":2}', "k"]]]
    assert server.poll("plain", 7)[1] == "7"  # who takes no cursor leaves it alone
    assert server.poll("counts")[:3] == ["skip", "1", "nothing yet"]
    assert server.poll("counts", 4, {"step": 2})[:3] == ["skip", "6", "nothing yet"]
    assert server.poll("reads", [1])[:3] == ["skip", '{"a":[1],"b":1}', None]
    assert server.poll("empty")[:3] == ["skip", None, None]


@pytest.mark.parametrize("colour", ["def", "async def"])
def test_what_cannot_be_used_has_failed_and_leaves_the_cursor(serve: Serve, colour: str) -> None:
    server = serve(
        f"""
        @pc.event(flow=report, parameters={{"what": "nothing"}})
        {colour} wrong(c: pc.Cursor, what: str):
            c.value = "moved"
            if what == "cursor": c.value = date(2026, 1, 1)
            if what == "nan": return pc.Fire({{"x": float("nan")}})
            if what == "many": return [pc.Fire()] * 10_001
            if what == "text": return "fire"
            if what == "raise": raise ValueError("no luck \\ud800")
            if what == "later": raise pc.PollError("busy", retry_after="2m")
            if what == "never": raise pc.PollError("gone", permanent=True)
            if what == "exit": raise SystemExit(3)
            if what == "stop": raise StopIteration(4)
        """
    )

    def failure(what: str) -> dict[str, Any]:
        outcome, cursor, detail, _, stuck = server.poll("wrong", 1, {"what": what})
        assert (outcome, cursor, stuck) == ("failed", "1", False)
        found: dict[str, Any] = detail
        return found

    assert "assign plain JSON" in failure("cursor")["message"]
    assert "cannot be written" in failure("nan")["message"]
    assert "return fewer and go on with the cursor" in failure("many")["message"]
    assert "pc.Fire" in failure("text")["message"]
    raised = failure("raise")
    assert (raised["type"], raised["message"], raised["permanent"]) == ("ValueError", "no luck ?", False)
    assert "triggers.py" in raised["traceback"]
    assert "worker/polling.py" not in raised["traceback"]
    later = failure("later")
    assert (later["type"], later["retry_after"], later["permanent"]) == ("poll_failed", 120, False)
    assert failure("never")["permanent"] is True
    assert failure("exit")["type"] == "SystemExit"
    assert "StopIteration" in failure("stop")["message"] + failure("stop")["type"]
    assert server.poll("wrong", 1, {"that": 1})[2]["type"] == "invalid_inputs"
    assert server.poll("gone")[2]["type"] == "not_found"


def test_a_poll_that_is_late_is_cancelled_or_stuck_and_its_result_dropped(serve: Serve) -> None:
    server = serve(
        """
        RELEASED = threading.Event()

        @pc.event(flow=report, timeout=0.05)
        async def slow(c: pc.Cursor):
            c.value = 1
            await asyncio.sleep(60)

        @pc.event(flow=report, timeout=0.05)
        def hangs():
            RELEASED.wait()
            return pc.Fire({"late": True})

        @pc.event(flow=report, timeout=0.05)
        async def deaf():
            while not RELEASED.is_set():
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    pass

        @pc.event(flow=report)
        def release(): RELEASED.set()
        """
    )
    outcome, cursor, detail, length, stuck = server.poll("slow", 0)
    assert (outcome, cursor, detail["type"], stuck) == ("failed", "0", "poll_timeout", False)
    assert "timeout=" in detail["message"]
    assert detail["traceback"] == ""
    assert length >= 50_000
    tickets = server.begin("hangs"), server.begin("deaf")
    for ticket in tickets:
        outcome, _, detail, _, stuck = server.result(ticket)
        assert (outcome, detail["type"], stuck) == ("failed", "poll_timeout", True)
    for _ in range(2):  # by then the threads have come back
        assert server.poll("release")[0] == "skip"
    server.stop()


def test_a_hanging_poll_holds_up_no_other_and_is_marked(serve: Serve, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "meeting")
    server = serve(
        """
        @pc.event(flow=report)
        def hangs(): (HERE / "meeting").read_text()

        @pc.event(flow=report)
        async def quick(): return pc.Fire()
        """
    )
    marks = Marks.open(server.process.pid, server.manifest["marks"])
    assert marks is not None
    ticket = server.begin("hangs")
    assert server.next(kinds.POLLING) == [kinds.POLLING, ticket]
    with (tmp_path / "meeting").open("w"):  # it waits until the poll has opened the other end
        assert server.poll("quick")[0] == "fire"
        assert marks.running() == [ticket]
        server.process.kill()
        server.process.communicate()
    assert marks.running() == [ticket]  # it can be asked when the process is dead
    marks.close()


def test_marks_show_who_blocks_the_loop(serve: Serve, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "meeting")
    server = serve(
        """
        @pc.event(flow=report)
        async def blocks():
            await asyncio.sleep(0)
            (HERE / "meeting").read_text()
        """
    )
    marks = Marks.open(server.process.pid, server.manifest["marks"])
    assert marks is not None
    ticket = server.begin("blocks")
    with (tmp_path / "meeting").open("w"):  # it waits until the poll has opened the other end
        assert marks.running() == [ticket]
    assert server.result(ticket)[0] == "skip"
    assert marks.running() == []
    marks.close()


def test_a_batch_is_acknowledged_once_and_answered_together(serve: Serve) -> None:
    server = serve("@pc.event(flow=report)\nasync def quick(): pass")
    server.send(kinds.POLL, [[ticket, "quick", None, "{}", False] for ticket in range(1, 101)])
    assert server.next(kinds.POLLING) == [kinds.POLLING, 100]
    assert [row[0] for row in server.next(kinds.POLLED)[1]] == list(range(1, 101))


@pytest.mark.parametrize("colours", [("def", "def"), ("async def", "async def"), ("def", "async def")])
def test_an_instance_is_kept_until_forgotten_changed_or_stopped(serve: Serve, colours: tuple[str, str]) -> None:
    poll, around = colours
    server = serve(
        f"""
        @pc.event(flow=report, parameters={{"name": "a"}})
        class Counts:
            def __init__(self, name: str): self.name, self.polls = name, 0
            {around} setup(self): self.say("setup")
            {poll} poll(self, c):
                self.polls += 1
                c.value = [self.name, self.polls]
            {around} teardown(self): self.say("teardown")
            def say(self, what): print(f"{{what}} {{self.name}}\\n", end="")  # whole lines: two threads may speak
        """
    )

    def cursor(name: str, **options: bool) -> Any:
        return json.loads(server.poll("Counts", None, {"name": name}, **options)[1])

    assert [cursor("a"), cursor("a")] == [["a", 1], ["a", 2]]
    assert cursor("p", preview=True) == ["p", 1]
    assert cursor("a") == ["a", 3]
    assert cursor("b") == ["b", 1]
    server.send(kinds.FORGET, ["Counts", "unknown"])
    assert cursor("c") == ["c", 1]
    out, err = server.stop()
    lines = out.splitlines()
    assert sorted(lines) == sorted(f"{what} {name}" for name in "apbc" for what in ("setup", "teardown"))
    assert lines[:3] == ["setup a", "setup p", "teardown p"]
    assert err == ""


def test_a_setup_that_fails_is_tried_anew_and_a_teardown_that_fails_is_said(serve: Serve) -> None:
    server = serve(
        """
        TRIES = []

        @pc.event(flow=report)
        class Flaky:
            def setup(self):
                TRIES.append(1)
                if len(TRIES) == 1: raise OSError("no connection")
            def poll(self): return pc.Fire({"tries": len(TRIES)})
            def teardown(self): raise OSError("cannot close")
        """
    )
    outcome, _, detail, _, _ = server.poll("Flaky")
    assert (outcome, detail["message"]) == ("failed", "no connection")
    assert server.poll("Flaky")[2] == [['{"tries":2}', None]]
    assert server.poll("Flaky")[2] == [['{"tries":2}', None]]
    _, err = server.stop()
    assert "teardown() of the event Flaky failed: OSError: cannot close" in err


def test_one_call_at_a_time_is_in_an_instance(serve: Serve) -> None:
    server = serve(
        """
        @pc.event(flow=report)
        class Alone:
            inside = False
            def poll(self):
                assert not self.inside
                self.inside = True
                time.sleep(0.01)
                self.inside = False
            def teardown(self): assert not self.inside
        """
    )
    tickets = [server.begin("Alone") for _ in range(5)]
    server.send(kinds.FORGET, ["Alone"])
    assert [server.result(ticket)[0] for ticket in tickets] == ["skip"] * 5
    assert server.stop() == ("", "")


def test_an_instance_that_is_stuck_is_left_alone_and_the_next_poll_gets_another(serve: Serve) -> None:
    server = serve(
        """
        MADE = []

        @pc.event(flow=report)
        class Hangs:
            polled = False
            def setup(self): MADE.append(self)
            def poll(self):
                if self.polled: threading.Event().wait()
                self.polled = True
                return pc.Fire({"made": len(MADE)})
            def teardown(self): print("teardown", MADE.index(self))

        @pc.event(flow=report, parameters={"seconds": 1.0})
        def limit(seconds: float): Hangs.timeout = seconds
        """
    )
    assert server.poll("Hangs")[2] == [['{"made":1}', None]]
    server.poll("limit", None, {"seconds": 0.05})  # only for the poll that hangs: the others may take their time
    assert server.poll("Hangs")[4] is True
    server.poll("limit", None, {"seconds": 60.0})
    assert server.poll("Hangs")[2] == [['{"made":2}', None]]
    out, _ = server.stop()
    assert out == "teardown 1\n"


def test_a_poll_is_no_run(serve: Serve) -> None:
    server = serve(
        """
        @pc.step
        def work(): return current.get() is None

        @pc.event(flow=report)
        def plain():
            print("printed by a thread")
            return pc.Fire({"step": work(), "flow": report(3)})

        @pc.event(flow=report)
        async def tasks():
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                task = group.create_task(asyncio.sleep(0, work()))
            print("printed by the loop", asyncio.current_task() is not None)
            return pc.Fire({"step": task.result()})
        """
    )
    assert server.poll("plain")[2] == [['{"flow":3,"step":true}', None]]
    assert server.poll("tasks")[2] == [['{"step":true}', None]]
    out, _ = server.stop()
    assert out == "printed by a thread\nprinted by the loop True\n"


def test_roles(serve: Serve) -> None:
    code = "@pc.event(flow=report)\nasync def quick(): pass"
    poller = serve(code, "poll")
    assert set(poller.manifest) == {"location", "versions", "marks"}
    assert poller.poll("quick")[0] == "skip"
    runner = serve(code, "run")
    assert set(runner.manifest) == {"location", "versions"}


def test_large_results_fit_the_frames(serve: Serve) -> None:
    server = serve(
        """
        @pc.event(flow=report)
        async def large(): return pc.Fire({"x": '"' * 3_900_000})
        """
    )
    server.send(kinds.POLL, [[ticket, "large", None, "{}", False] for ticket in (1, 2, 3)])
    sizes = [len(server.result(ticket)[2][0][0]) for ticket in (1, 2, 3)]
    assert sizes == [7_800_008] * 3

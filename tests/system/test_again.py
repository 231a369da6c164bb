"""Attempts, resumes and asking again, through real processes, kills and deploys."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
from collections import Counter
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from pullcord.cli.main import app
from tests.system.harness import FLOWS, STEADY, Reply, Server, Start
from tests.system.meeting import Meeting
from tests.system.processes import poll
from tests.system.test_failpoints import rules_broken
from tests.system.test_reload import write
from tests.system.witnessed import executions, lines_of

TRYING = FLOWS / "trying.py"


@pytest.fixture
def inputs(log: Path, tmp_path: Path) -> dict[str, str]:
    return {"log": str(log), "mended": str(tmp_path / "mended")}


@pytest.fixture
def mended(tmp_path: Path) -> Path:
    return tmp_path / "mended"


def did(log: Path, run: str) -> Counter[int]:
    """Return how often each step was executed in a run."""
    return executions(lines_of(log)).get(run, Counter())


def again(server: Server, run: str, how: str = "resume", **body: Any) -> Reply:
    return server.api.post(f"/v1/runs/{run}/{how}", body)


def healthy(server: Server) -> None:
    """Stop the server, and check every invariant of what it leaves."""
    assert server.stop() == 0
    assert rules_broken(server.data_dir) == []


# --- attempts --------------------------------------------------------------------------------------------------------


def test_from_the_failed_step_what_was_done_is_not_done_again(
    serve: Start, inputs: dict[str, str], log: Path, mended: Path
) -> None:
    server = serve(TRYING)
    run = server.api.run("kept", inputs)
    server.api.state(run, "scheduled")
    mended.touch()
    ended = server.api.end(run)
    assert ended["result"] == ["before", "helped", "shaky"]
    assert ended["attempt"] == len(ended["attempts"]) >= 2
    assert did(log, run)[0] == 1
    assert did(log, run)[1] == ended["attempt"]
    assert [line["what"] for line in lines_of(log) if line["kind"] == "step"].count(2) == 1, "one child run"
    healthy(server)


def test_from_the_beginning_all_is_done_again_and_the_old_records_stay(
    serve: Start, inputs: dict[str, str], log: Path, mended: Path
) -> None:
    server = serve(TRYING)
    run = server.api.run("anew", inputs)
    server.api.state(run, "scheduled")
    mended.touch()
    ended = server.api.end(run)
    attempts = ended["attempt"]
    assert ended["result"] == ["before", "helped", "shaky"]
    assert attempts >= 2
    assert did(log, run) == {0: attempts, 1: attempts}
    assert [line["what"] for line in lines_of(log) if line["kind"] == "step"].count(2) == attempts, "a child run each"
    aside = Counter(step["set_aside"] for step in ended["steps"])
    assert aside == {None: 4} | dict.fromkeys(range(1, attempts), 4)
    healthy(server)


def test_an_error_that_retry_on_does_not_name_ends_the_run(serve: Start, inputs: dict[str, str]) -> None:
    server = serve(TRYING)
    ended = server.api.result("other", inputs)
    assert (ended["state"], ended["attempt"], ended["error"]["type"]) == ("failed", 1, "step_failed")
    assert "the bank is down" in ended["error"]["message"]


def test_a_run_that_took_too_long_is_tried_again(serve: Start, meeting: Meeting) -> None:
    server = serve(TRYING)
    ended = server.api.result("slow", {"port": meeting.port})
    # A slow worker may be late once more.
    assert (ended["state"], ended["result"]) == ("succeeded", f"attempt {max(2, ended['attempt'])}")
    assert ended["attempts"][0]["error"]["type"] == "run_timeout"
    healthy(server)


def test_the_wait_for_the_next_attempt_survives_the_server(serve: Start, inputs: dict[str, str]) -> None:
    server = serve(TRYING)
    run = server.api.run("patient", inputs)
    before = server.api.state(run, "scheduled")
    server.kill_everything()
    server.start()
    after = server.api.look(run)
    assert after == before
    text = "waits 1 h before attempt 2 of 4 after trying.Outage: the bank is down"
    assert (after["attempt"], after["waiting_for"]) == (2, {"kind": "retry", "text": text})
    server.api.cancel(run, reason="no longer")
    ended = server.api.end(run)
    assert [(it["state"], it["started_at"] is None) for it in ended["attempts"]] == [
        ("failed", False), ("cancelled", True),
    ]  # fmt: skip
    healthy(server)


AT = (
    "journal.before_write", "writer.before_commit", "writer.after_commit", "journal.after_finish",
    "retry.before_queue", "retry.after_queue", "dispatch.before_send", "worker.before_finish",
)  # fmt: skip


@pytest.mark.parametrize(("flow", "name"), [*(("kept", name) for name in AT), *(("anew", name) for name in AT[1:4])])
def test_no_attempt_is_lost_or_doubled_when_a_process_dies_at(
    name: str, flow: str, serve: Start, inputs: dict[str, str], log: Path, mended: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    marker.touch()  # It is armed when the run has begun.
    server = serve(TRYING, environment={"PULLCORD_FAILPOINTS": f"{name}@{marker}"})
    run = server.api.run(flow, inputs)
    server.api.state(run, "scheduled")
    marker.unlink()
    if name.startswith("worker."):
        poll(marker.exists)
    else:
        assert server.died() == -signal.SIGKILL
        server.start()
    mended.touch()
    ended = server.api.end(run)
    attempts = [it["attempt"] for it in ended["attempts"]]
    assert attempts == list(range(1, ended["attempt"] + 1))
    assert ended["result"] == ["before", "helped", "shaky"]
    if flow == "kept":
        assert did(log, run)[0] == 1
    healthy(server)


# --- resume ----------------------------------------------------------------------------------------------------------


def test_a_failed_run_goes_on_where_it_failed(serve: Start, inputs: dict[str, str], log: Path, mended: Path) -> None:
    server = serve(TRYING)
    origin = server.api.result("once", inputs)
    assert origin["state"] == "failed"
    first = server.api.end(again(server, origin["id"]).run_id)
    assert (first["state"], first["resumed_from"]) == ("failed", origin["id"])
    mended.touch()
    ended = server.api.end(again(server, first["id"]).run_id)
    assert (ended["result"], ended["resumed_from"]) == (["before", "helped", "shaky"], first["id"])
    assert [(step["name"], step["kept"]) for step in ended["steps"]] == [
        ("before", True), ("helper", True), ("sleep", True), ("shaky", False),
    ]  # fmt: skip
    assert did(log, ended["id"]) == {1: 1}
    refused = again(server, ended["id"])
    assert (refused.status, refused.body["code"], refused.body["state"]) == (409, "not_resumable", "succeeded")
    healthy(server)


def test_what_is_kept_of_a_run_that_began_anew_is_of_its_last_attempt(
    serve: Start, inputs: dict[str, str], log: Path, mended: Path
) -> None:
    server = serve(TRYING)
    origin = server.api.result("anew-once", inputs)
    assert (origin["state"], origin["attempt"]) == ("failed", 2)
    first = server.api.end(again(server, origin["id"]).run_id)
    assert (first["state"], first["attempt"]) == ("failed", 2), "kept at first, and then anew as its flow says"
    assert did(log, first["id"]) == {0: 1, 1: 2}
    mended.touch()
    ended = server.api.end(again(server, first["id"]).run_id)
    assert ended["result"] == ["before", "helped", "shaky"]
    assert did(log, ended["id"]) == {1: 1}
    healthy(server)


@pytest.mark.parametrize("how", ["resume", "retry"])
def test_a_child_that_failed_goes_on_where_it_failed(
    how: str, serve: Start, inputs: dict[str, str], log: Path, mended: Path
) -> None:
    server = serve(TRYING)
    if how == "retry":
        run = server.api.run("outer-again", inputs)
        server.api.state(run, "scheduled")
    else:
        failed = server.api.result("outer", inputs)
        assert failed["error"]["type"] == "child_failed"
    mended.touch()
    if how == "resume":
        run = again(server, failed["id"]).run_id
    ended = server.api.end(run)
    assert ended["result"] == "beforeshaky"
    children = server.api.get("/v1/runs", flow="inner").body["items"]
    assert [child["state"] for child in children] == ["succeeded", *["failed"] * (len(children) - 1)]
    for newer, older in pairwise(children):
        assert newer["resumed_from"] == older["id"]
    executed = Counter(line["what"] for line in lines_of(log) if line["kind"] == "step")
    assert executed == {0: 1, 1: len(children)}
    assert children[0]["parent_id"] == run
    healthy(server)


@pytest.mark.parametrize("late", [False, True])
def test_a_child_that_an_earlier_attempt_tried_again_is_not_run_once_more(
    late: bool, serve: Start, meeting: Meeting
) -> None:
    """It succeeds, before or while its parent has a third attempt, after the second one failed beside it."""
    server = serve(TRYING)
    run = server.api.run("sides", {"port": meeting.port})
    for guest in meeting.guests(2).values():
        guest.go("fail")
    guests = meeting.guests(2)
    guests["b"].go("fail")
    poll(lambda: [it["state"] for it in server.api.look(run)["attempts"]][1] == "failed")
    if not late:
        guests["a"].go("done")
        server.api.end(guests["a"].run)
    third = meeting.guest()
    if late:
        assert server.api.look(run)["attempt"] == 3
        guests["a"].go("done")
    assert third.text == "b"
    third.go("well")
    ended = server.api.end(run)
    assert (ended["state"], ended["result"], ended["attempt"]) == ("succeeded", ["done", "well"], 3)
    meeting.nobody()
    children = server.api.get("/v1/runs", flow="side").body["items"]
    assert Counter((child["inputs"]["name"], child["state"]) for child in children) == {
        ("a", "failed"): 1, ("a", "succeeded"): 1, ("b", "failed"): 2, ("b", "succeeded"): 1,
    }  # fmt: skip
    healthy(server)


def test_a_child_that_goes_on_without_its_parent_is_waited_for(serve: Start, meeting: Meeting) -> None:
    server = serve(TRYING)
    run = server.api.run("both", {"port": meeting.port})
    guests = meeting.guests(2)
    guests["step"].go("fail")
    assert server.api.end(run)["state"] == "failed"
    new = again(server, run).run_id
    meeting.guest().go("well")
    guests["child"].go("done")
    ended = server.api.end(new)
    assert (ended["state"], ended["result"]) == ("succeeded", ["done", "well"])
    meeting.nobody()
    assert len(server.api.get("/v1/runs", flow="long-child").body["items"]) == 1
    healthy(server)


def test_a_cancelled_run_is_resumed(serve: Start, meeting: Meeting) -> None:
    server = serve(STEADY)
    run = server.api.run("meets", {"port": meeting.port, "texts": ["a", "b"]})
    meeting.guest().go("first")
    meeting.guest()
    server.api.cancel(run, force=True)
    assert server.api.end(run)["state"] == "cancelled"
    new = again(server, run).run_id
    meeting.guest().go("second")
    assert server.api.end(new)["result"] == ["first", "second"]
    healthy(server)


def test_a_run_that_lost_its_workers_is_not_tried_again_but_resumed(serve: Start, meeting: Meeting) -> None:
    server = serve(STEADY)
    run = server.api.run("meets", {"port": meeting.port, "texts": ["a", "b"]})
    meeting.guest().go("first")
    for _ in range(3):
        os.kill(meeting.guest().pid, signal.SIGKILL)
    ended = server.api.end(run)
    assert (ended["error"]["type"], ended["attempt"]) == ("worker_lost", 1)
    new = again(server, run).run_id
    meeting.guest().go("second")
    assert server.api.end(new)["result"] == ["first", "second"]
    healthy(server)


HEAD = """
    from pathlib import Path
    import pullcord as pc

    @pc.step
    def first() -> str:
        return "first"
"""
FAILS = """
    @pc.flow(retries=pc.Retry(limit=0))
    def changing() -> list[str]:
        done = [first()]
        raise RuntimeError("not yet")
"""
MENDED = FAILS.replace('raise RuntimeError("not yet")', 'return [*done, "mended"]')
OTHER = """
    @pc.step
    def other() -> str:
        return "other"

    @pc.flow
    def changing() -> list[str]:
        return [other()]
"""


@pytest.mark.parametrize("code_now", [MENDED, OTHER])
def test_other_code_resumes_only_by_force_and_where_it_asks_for_the_same_steps(
    code_now: str, serve: Start, tmp_path: Path
) -> None:
    code = write(tmp_path / "changing.py", HEAD, FAILS)
    server = serve(code)
    origin = server.api.result("changing")
    before = server.api.get("/v1/flows/changing").body["version"]
    write(code, HEAD, code_now)
    os.kill(server.pid, signal.SIGHUP)
    poll(lambda: server.api.get("/v1/flows/changing").body["version"] != before)
    refused = again(server, origin["id"])
    assert (refused.status, refused.body["code"]) == (409, "code_changed")
    assert f"version {before}, now" in refused.body["detail"]
    ended = server.api.end(again(server, origin["id"], force=True).run_id)
    assert ended["flow_version"] != before
    if code_now is MENDED:
        assert ended["result"] == ["first", "mended"]
    else:
        assert (ended["state"], ended["error"]["type"]) == ("failed", "code_changed")
        assert "step 'first' (no. 1) is recorded, but the code now asks for step 'other'" in ended["error"]["message"]
        chained = server.api.end(again(server, ended["id"]).run_id)
        assert chained["error"]["type"] == "code_changed", "its records are still of the old code"
    rerun = server.api.end(again(server, origin["id"], "rerun").run_id)
    assert (rerun["state"], rerun["rerun_of"]) == ("succeeded", origin["id"])
    healthy(server)


def test_a_flow_that_is_gone_cannot_be_resumed_or_run_again(serve: Start, tmp_path: Path) -> None:
    code = write(tmp_path / "changing.py", HEAD, FAILS)
    server = serve(code)
    origin = server.api.result("changing")
    write(code, HEAD)
    os.kill(server.pid, signal.SIGHUP)
    poll(lambda: server.api.get("/v1/flows").body["items"] == [])
    for how in ("resume", "rerun"):
        refused = again(server, origin["id"], how)
        assert (refused.status, refused.body["code"]) == (404, "unknown_flow")
        assert "was removed from changing.py" in refused.body["detail"]
    plan = server.api.post("/v1/runs/retry-failed", {"since": "2020-01-01T00:00:00Z"}).body
    assert plan["groups"][0]["skipped"] == {"unknown_flow": 1}
    wanted = {"since": "2020-01-01T00:00:00Z", "until": "2020-01-02T00:00:00Z", "flow": "changing"}
    assert server.api.post("/v1/runs/retry-failed", wanted).body["failed"] == 0, "it is gone, its runs are not"


NIGHTLY = """
from pathlib import Path

import pullcord as pc


@pc.step
def load(day: str) -> str:
    return day


@pc.flow(concurrency=None, triggers=[pc.interval("200ms", name="nightly")])
def report() -> str:
    day = load(str(pc.run().scheduled_for))
    if not Path("mended").exists():
        raise RuntimeError("the bank is down")
    return day
"""


@pytest.mark.parametrize(("how", "kept"), [("resume", True), ("rerun", False)])
def test_what_a_schedule_meant_is_meant_again(how: str, kept: bool, serve: Start, tmp_path: Path) -> None:
    code = tmp_path / "report.py"
    code.write_text(NIGHTLY.replace('"mended"', repr(str(tmp_path / "mended"))))
    server = serve(code)
    origin = poll(lambda: server.api.get("/v1/runs", state="failed").body["items"])[0]
    (tmp_path / "mended").touch()
    ended = server.api.end(again(server, origin["id"], how).run_id)
    assert (ended["scheduled_for"], ended["trigger"]) == (origin["scheduled_for"], {"kind": "manual", "name": None})
    assert [(step["name"], step["kept"]) for step in ended["steps"]] == [("load", kept)]
    loaded = server.api.look(origin["id"])["steps"][0]["result"]
    assert ended["result"] == ended["steps"][0]["result"] == loaded != "None"
    healthy(server)


@pytest.mark.parametrize(
    "name", ["gate.before_write", "gate.after_write", "writer.before_commit", "writer.after_commit"]
)
def test_a_resume_is_one_run_whatever_dies(
    name: str, serve: Start, inputs: dict[str, str], log: Path, mended: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    marker.touch()
    server = serve(TRYING, environment={"PULLCORD_FAILPOINTS": f"{name}@{marker}"})
    origin = server.api.result("once", inputs)
    mended.touch()
    marker.unlink()
    with pytest.raises(httpx2.TransportError):
        again(server, origin["id"], idempotency_key="morning")
    assert server.died() == -signal.SIGKILL
    server.start()
    ended = server.api.end(again(server, origin["id"], idempotency_key="morning").run_id)
    assert ended["result"] == ["before", "helped", "shaky"]
    assert len(server.api.get("/v1/runs", flow="once").body["items"]) == 2
    assert did(log, ended["id"])[0] == 0
    healthy(server)


# --- all that failed -------------------------------------------------------------------------------------------------


def test_a_server_that_is_lost_meanwhile_is_said_and_what_was_admitted_too(
    serve: Start, inputs: dict[str, str], mended: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "marker"
    marker.touch()
    server = serve(TRYING, environment={"PULLCORD_FAILPOINTS": f"gate.after_write@{marker}:50"})
    for number in range(20):
        server.api.end(server.api.run("once", inputs | {"mended": f"{mended}-{number}"}))
        mended.with_name(f"mended-{number}").touch()
    marker.unlink()
    for name in [name for name in os.environ if name.startswith("PULLCORD_")]:
        monkeypatch.delenv(name)
    command = ["runs", "retry-failed", "--since", "1h", "--rate", "1000", "--yes", "--data-dir", str(server.data_dir)]
    done = CliRunner().invoke(app, command)
    assert server.died() == -signal.SIGKILL
    assert done.exit_code == 5, done.output
    assert re.search("stopped after [0-9]+ of 20; the same command goes on with the others", done.stderr)
    assert "error: " in done.stderr
    server.start()
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    poll(lambda: not server.api.get("/v1/runs", flow="once", state="running").body["items"])
    runs = server.api.get("/v1/runs", flow="once", limit="1000").body["items"]
    assert Counter(run["resumed_from"] is None for run in runs) == {True: 20, False: 20}


@pytest.mark.parametrize("name", ["retry.before_ask", "gate.after_write", "writer.after_commit"])
def test_all_that_failed_is_asked_for_once_whatever_dies(
    name: str, serve: Start, inputs: dict[str, str], log: Path, mended: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    marker.touch()
    server = serve(TRYING, environment={"PULLCORD_FAILPOINTS": f"{name}@{marker}:2"})
    runs = [server.api.run("once", inputs | {"mended": f"{mended}-{number}"}) for number in range(30)]
    for number, run in enumerate(runs):
        assert server.api.end(run)["state"] == "failed"
        mended.with_name(f"mended-{number}").touch()
    wanted = {"since": "2020-01-01T00:00:00Z", "dry_run": False, "limit": 100}
    marker.unlink()
    with pytest.raises(httpx2.TransportError):
        server.api.post("/v1/runs/retry-failed", wanted)
    assert server.died() == -signal.SIGKILL
    server.start()
    done = server.api.post("/v1/runs/retry-failed", wanted).body
    assert all(it["receipt"]["outcome"] in ("admitted", "replayed") for it in done["receipts"])

    def resumed() -> list[dict[str, Any]]:
        items = server.api.get("/v1/runs", flow="once", state="succeeded", limit="1000").body["items"]
        return [item for item in items if item["resumed_from"] is not None]

    poll(lambda: len(resumed()) == len(runs))
    assert sorted(item["resumed_from"] for item in resumed()) == sorted(runs)
    assert server.api.post("/v1/runs/retry-failed", wanted).body["receipts"] == []
    healthy(server)
    with closing(sqlite3.connect(server.data_dir / "pullcord.db")) as db:
        assert db.execute("SELECT count(*) FROM runs WHERE flow = 'once'").fetchone()[0] == 2 * len(runs)

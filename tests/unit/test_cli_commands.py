"""The commands as a person or script meets them: real processes, a real server, exit statuses and output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pullcord.cli import retrying
from pullcord.cli.main import app
from pullcord.client import Client

FLOWS = '''
import time
from pathlib import Path
import pullcord as pc

@pc.step
def double(n: int) -> int:
    return 2 * n

@pc.flow(concurrency=None)
def twice(n: int, name: str = "you") -> dict:
    """Double a number."""
    pc.run().logger.info("doubling %d", n)
    return {name: double(n)}

@pc.flow(concurrency=None)
def fails() -> None:
    raise ValueError("on purpose")

@pc.flow(concurrency=None, tags=["shaky"])
def shaky(mended: str, n: int = 1) -> int:
    got = double(n)
    if not Path(mended).exists():
        raise ConnectionError("no answer")
    return got

@pc.flow(concurrency=None)
def sleeps(seconds: float = 60.0) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not pc.cancelled():
        time.sleep(0.02)
    return "awake"
'''


class Place:
    """A folder with flows, and commands in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "flows.py").write_text(FLOWS)
        source = str(Path(__file__).parents[2] / "src")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("PULLCORD_")}
        self.environment |= {"PYTHONPATH": source, "NO_COLOR": "1"}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pullcord", *arguments]
        return subprocess.Popen(
            command, cwd=self.folder, env=self.environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def call(self, *arguments: str, status: int = 0) -> Result:
        """Run a command in this process, which is quicker where the server is another one."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            for name in [name for name in os.environ if name.startswith("PULLCORD_")]:
                patch.delenv(name)
            for name, value in self.environment.items():
                if name.startswith("PULLCORD_"):
                    patch.setenv(name, value)
            done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == status, f"{arguments} ended with {done.exit_code}\n{done.output}"
        return done

    def call_json(self, *arguments: str, status: int = 0) -> Any:
        return json.loads(self.call(*arguments, "--json", status=status).stdout)

    def run(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        assert process.returncode == status, f"{arguments} ended with {process.returncode}\n{out}\n{err}"
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def until(process: subprocess.Popen[str], text: str) -> None:
    """Wait for what a command says to people."""
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"the command ended without saying {text!r}")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("served"))
    with place.start("serve", "--port", "0", "--workers", "1") as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line.startswith("Pullcord is ready at http://127.0.0.1:"), line
        assert "(4 flows; data in .pullcord)" in line
        yield place
        server.send_signal(signal.SIGTERM)
        out, err = server.communicate(timeout=60)
    assert (server.returncode, out) == (0, "")
    lines = [json.loads(line) for line in err.splitlines()]
    # How fast the disk is, is the machine's affair.
    assert {line["level"] for line in lines if "the disk or the database is slow" not in line["text"]} == {"info"}
    assert lines[-1]["text"] == "stopped"


@pytest.fixture
def alone(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_run_is_asked_for_waited_for_and_looked_at(served: Place) -> None:
    done = served.call("run", "twice", "--input", "n=21", "--input", "name=7", "--wait")
    assert json.loads(done.stdout) == {"7": 42}
    assert "✓ double" in done.stderr
    assert "twice succeeded" in done.stderr
    (item,) = served.call_json("runs", "list", "--flow", "twice", "--limit", "1")["items"]
    assert item["source"] == "cli"
    shown = served.call("runs", "show", item["id"]).stdout
    assert "succeeded" in shown
    assert "double" in shown
    assert served.call_json("runs", "logs", item["id"])["text"] == "doubling 21"
    again = served.call_json("runs", "rerun", item["id"], "--input", "n=1", "--wait")
    assert (again["result"], again["rerun_of"]) == ({"7": 2}, item["id"])


def test_a_run_is_resumed_and_run_again_with_a_reason_and_a_key(served: Place, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    failed = served.call_json("run", "shaky", "--input", f"mended={mended}", "--wait", status=1)
    refused = served.call_json("runs", "resume", failed["id"], "--wait", status=1)
    assert (refused["state"], refused["resumed_from"]) == ("failed", failed["id"])
    mended.touch()
    run = served.call_json("runs", "resume", failed["id"], "--reason", "mended", "--idempotency-key", "k1", "--wait")
    assert (run["result"], run["reason"], run["steps"][0]["kept"]) == (2, "mended", True)
    assert served.call_json("runs", "resume", failed["id"], "--idempotency-key", "k1")["replayed"]
    done = served.call("runs", "resume", run["id"], status=1)
    assert "has succeeded, so nothing of it is left to do" in done.stderr
    shown = served.call("runs", "show", run["id"]).stdout
    assert f"resumed from  {failed['id']}" in shown
    assert "double (kept)" in shown
    changed = served.call("runs", "rerun", failed["id"], "--input", "n=4", "--reason", "more", "--wait")
    assert "n: 1 → 4" in changed.stderr
    assert json.loads(changed.stdout) == 8
    why = served.call("why", "shaky").stdout
    assert f"again from the beginning of run {failed['id']} with n: 1 → 4" in why
    assert f"to go on with run {failed['id']}" in why
    assert served.call("runs", "resume", "nothing", status=3)


def test_all_that_failed_is_shown_and_asked_for_once(served: Place, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    many = [served.call_json("run", "shaky", "--input", f"mended={mended}", "--input", f"n={n}") for n in range(3)]
    for receipt in many:
        served.call("runs", "logs", "-f", receipt["run_id"])
    mended.touch()
    wanted = ["runs", "retry-failed", "--since", "1h", "--flow", "shaky", "--error", "ConnectionError"]
    plan = served.call_json(*wanted)
    ours = {receipt["run_id"] for receipt in many}
    assert ours <= set(plan["runs"])
    shown = served.call(*wanted)
    assert "nothing was done; --yes does it" in shown.stderr
    assert "ConnectionError" in shown.stdout
    served.call(*wanted, "--yes", "--limit", "1", "--rate", "1000")
    done = served.call_json(*wanted, "--yes")
    assert {it["outcome"] for it in done["receipts"]} == {"admitted"}
    assert len(done["receipts"]) == len(plan["runs"]) - 1
    again = served.call(*wanted, "--yes").stdout
    assert "already asked for again" in again
    assert f"0 of {plan['failed']} failed runs" in again
    nothing = served.call_json(*wanted, "--yes")
    assert (nothing["dry_run"], nothing["receipts"], nothing["errors"]) == (False, [], []), (
        "it was asked for in earnest"
    )
    assert served.call_json(*wanted)["dry_run"] is True
    assert (
        served.call("runs", "retry-failed", "--since", "1h", "--flow", "twice").stdout == "no run failed in that time\n"
    )
    assert "there is no flow 'nothing'" in served.call(*wanted[:4], "--flow", "nothing", status=3).stderr
    assert "exchange `since` and `until`" in served.call(*wanted[:4], "--until", "2h", status=2).stderr


def test_a_failed_run_that_cannot_be_asked_for_stops_no_other(
    served: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mended = tmp_path / "mended"
    for n in range(3):
        served.call("run", "shaky", "--input", f"mended={mended}", "--input", f"n={n}", "--wait", status=1)
    mended.touch()
    wanted = ["runs", "retry-failed", "--since", "1h", "--flow", "shaky", "--yes"]
    gone, ask = served.call_json(*wanted[:-1])["runs"][0], retrying._one
    asked_for = len(served.call_json(*wanted[:-1])["runs"])
    monkeypatch.setattr(
        retrying, "_one", lambda client, run, how: client.runs.get("pruned") if run == gone else ask(client, run, how)
    )
    done = served.call(*wanted, status=3)
    assert f"{asked_for - 1} admitted" in done.stdout
    assert "error: " in done.stderr and "pruned" in done.stderr
    done = served.call_json(*wanted, status=3)
    assert (done["receipts"], [(it["origin"], it["code"]) for it in done["errors"]]) == ([], [(gone, "not_found")])


def test_a_run_that_was_cancelled_before_its_time_was_never_queued(served: Place) -> None:
    with Client(data_dir=served.folder / ".pullcord") as client:
        run = client.run("sleeps", not_before="2990-01-01T12:00:00Z").run_id or ""

    def line() -> str:
        lines = served.call("runs", "list", "--flow", "sleeps").stdout.splitlines()
        return next(line for line in lines if run in line)

    assert "2990-" in line()
    served.call("runs", "cancel", run, "--wait")
    assert "cancelled" in line()
    assert "2990-" not in line()


def test_json_is_the_receipt_and_with_wait_the_ended_run(served: Place) -> None:
    receipt = served.call_json("run", "twice", "--input", "n=1", "--idempotency-key", "k")
    assert receipt["outcome"] == "admitted"
    run = served.call_json("run", "twice", "--input", "n=1", "--idempotency-key", "k", "--wait")
    assert (run["id"], run["state"]) == (receipt["run_id"], "succeeded")
    conflict = served.call_json("run", "twice", "--input", "n=2", "--idempotency-key", "k", status=2)
    assert conflict["code"] == "idempotency_conflict"


def test_exit_statuses(served: Place) -> None:
    failed = served.call("run", "fails", "--wait", status=1)
    assert "ValueError: on purpose" in failed.stderr
    assert failed.stdout == ""
    invalid = served.call("run", "twice", "--input", "n=x", status=2)
    assert "  n  Input should be a valid integer" in invalid.stderr
    missing = served.call("run", "twice", status=2)
    assert "  n  Field required" in missing.stderr
    assert "did you mean 'twice'" in served.call("run", "twise", status=3).stderr
    assert served.call_json("run", "twise", status=3)["code"] == "unknown_flow"
    served.call("runs", "show", "nope", status=3)
    served.call("flows", "show", "nope", status=3)
    served.call("why", "nope", status=3)
    served.call("bogus", status=2)
    served.environment["PULLCORD_API_KEY"] = "wrong"
    try:
        served.call("run", "twice", "--input", "n=1", status=4)
        served.call("runs", "list", status=4)
    finally:
        del served.environment["PULLCORD_API_KEY"]


def test_the_ledger_says_why(served: Place) -> None:
    served.call("run", "sleeps", "--input", "seconds=long", "--reason", "to see", status=2)
    shown = served.call("why", "sleeps").stdout
    assert "rejected" in shown
    assert "“to see”" in shown
    assert served.call_json("why", "sleeps")["items"][0]["outcome"] == "rejected"


def test_ctrl_c_leaves_a_run_of_the_server_alone(served: Place) -> None:
    process = served.start("run", "sleeps", "--wait")
    until(process, "running")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "goes on without you" in err
    (item,) = served.call_json("runs", "list", "--flow", "sleeps", "--state", "running")["items"]
    served.call("runs", "cancel", item["id"], "--reason", "enough")
    deadline = time.monotonic() + 60
    while served.call_json("runs", "show", item["id"])["state"] != "cancelled":
        assert time.monotonic() < deadline
    assert "ended already" in served.call("runs", "cancel", item["id"], status=1).stderr


def test_flows_are_listed_and_shown(served: Place) -> None:
    assert [flow["name"] for flow in served.call_json("flows", "list")["items"]] == [
        "fails",
        "shaky",
        "sleeps",
        "twice",
    ]
    shown = served.call("flows", "show", "twice").stdout
    assert "Double a number." in shown
    assert "required" in shown
    assert "all is well" in served.call("doctor").stdout


def test_figures_of_one_flow_and_of_all(served: Place) -> None:
    served.call("run", "twice", "--input", "n=2", "--wait")
    figures = served.call_json("stats", "twice", "--window", "1h,24h")
    assert [found["window"] for found in figures["windows"]] == ["1h", "24h"]
    assert figures["windows"][0]["states"]["succeeded"] >= 1
    shown = served.call("stats", "twice", "--window", "24h").stdout
    assert "usually takes" in shown
    assert "█" in shown
    every = served.call_json("stats", "--all")
    assert [item["flow"] for item in every["items"]] == sorted(item["flow"] for item in every["items"])
    (item,) = (item for item in every["items"] if item["flow"] == "twice")
    assert item["window"] == "7d"
    assert "twice" in served.call("stats", "--limit", "1000").stdout
    served.call("stats", "nobody", status=3)
    served.call("stats", "--window", "never", status=2)


def test_a_dry_run_makes_no_run(served: Place) -> None:
    before = [item["id"] for item in served.call_json("runs", "list")["items"]]
    assert served.call_json("run", "twice", "--input", "n=1", "--dry-run")["run_id"] is None
    assert [item["id"] for item in served.call_json("runs", "list")["items"]] == before


def test_without_a_server_the_run_happens_here(alone: Place) -> None:
    done = alone.run("run", "twice", "--input", "n=4")
    assert json.loads(done.stdout) == {"you": 8}
    assert not (alone.folder / ".pullcord" / "server.json").exists()
    assert alone.run("run", "nope", status=3)
    assert alone.run("run", "fails", status=1)
    assert "no server runs" in alone.run("runs", "list", status=5).stderr


def test_without_a_server_and_flows_there_is_advice(alone: Place) -> None:
    (alone.folder / "flows.py").unlink()
    assert "--flows" in alone.run("run", "twice", status=2).stderr
    assert not (alone.folder / ".pullcord").exists()


def test_ctrl_c_cancels_a_run_in_this_process(alone: Place) -> None:
    process = alone.start("run", "sleeps")
    until(process, "running")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "sleeps cancelled" in err


HELD = """
import time
from pathlib import Path
import pullcord as pc

@pc.flow(concurrency=None)
def held(by: str) -> str:
    while Path(by).exists():
        time.sleep(0.02)
    return by
"""


def test_a_second_command_joins_and_is_waited_for(alone: Place) -> None:
    (alone.folder / "flows.py").write_text(HELD)
    commands = []
    for name, options in (("one", []), ("two", ["--wait"])):
        (alone.folder / name).touch()
        commands.append(alone.start("run", "held", "--input", f"by={name}", *options))
        until(commands[-1], "running")
    first, second = commands
    (alone.folder / "one").unlink()
    until(first, "staying until the runs of other commands")
    # The first one goes as soon as the second one's run has ended, before that one has seen it.
    second.send_signal(signal.SIGSTOP)
    (alone.folder / "two").unlink()
    first.communicate(timeout=60)
    assert first.returncode == 0
    second.send_signal(signal.SIGCONT)
    out, err = second.communicate(timeout=60)
    assert (second.returncode, json.loads(out)) == (0, "two"), err


ONE_AT_A_TIME = """
import time
from pathlib import Path
import pullcord as pc

@pc.flow
def job() -> str:
    while Path("hold").exists():
        time.sleep(0.02)
    return "done"

@pc.flow(concurrency=None)
def asks() -> str:
    return job()
"""


def test_a_command_does_not_wait_for_what_a_killed_one_has_left(alone: Place) -> None:
    (alone.folder / "flows.py").write_text(ONE_AT_A_TIME)
    hold = alone.folder / "hold"
    hold.touch()
    process = alone.start("run", "job", "--idempotency-key", "k")
    until(process, "running")
    process.kill()
    process.communicate(timeout=60)
    hold.unlink()
    words = "of an earlier command has a slot of job, and `pullcord serve` finishes it"
    assert words in alone.run("run", "job", status=1).stderr
    assert words in alone.run("run", "job", "--dry-run", status=1).stderr
    assert words in alone.run("run", "asks", status=1).stderr
    same = alone.run("run", "job", "--idempotency-key", "k", status=1).stderr
    assert "of an earlier command that did not finish it; `pullcord serve` does" in same
    with alone.start("serve", "--port", "0") as server:
        assert server.stdout is not None and server.stdout.readline()
        done = [alone.start("run", "job", "--wait", *more) for more in (("--idempotency-key", "k"), ())]
        outputs = [one.communicate(timeout=60) for one in done]
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
    assert [(one.returncode, json.loads(out)) for one, (out, _) in zip(done, outputs, strict=True)] == [(0, "done")] * 2


def test_nobody_answers_at_a_wrong_address(alone: Place) -> None:
    alone.environment["PULLCORD_URL"] = "http://127.0.0.1:9"
    assert "no server answers" in alone.call("run", "twice", status=5).stderr
    assert json.loads(alone.call("runs", "list", "--json", status=5).stderr)["code"] == "server_unreachable"

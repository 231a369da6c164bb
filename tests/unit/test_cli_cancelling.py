"""`pullcord runs cancel` for several runs at once, as a person or script meets it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import pullcord
from tests.unit.test_cli_commands import Place

FLOWS = """
import time
from pathlib import Path
import pullcord as pc

@pc.step(writes="the list of {what}")
def hold(what: str) -> None:
    Path(f"begun-{pc.run().id}").touch()
    while not pc.cancelled() or Path("deaf").exists():
        time.sleep(0.02)
    raise SystemExit

@pc.flow
def holds(what: str = "orders") -> None:
    hold(what)

@pc.flow
def others() -> None:
    hold("others")
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    (tmp_path / "flows.py").write_text(FLOWS)
    with place.start("serve", "--port", "0", "--workers", "1") as server:
        assert server.stdout is not None
        assert "ready" in server.stdout.readline()
        yield place
        server.terminate()
        server.communicate(timeout=60)
    assert server.returncode == 0


def asked(place: Place, flow: str, count: int) -> list[str]:
    """Ask for runs of which only the first can start, and return their ids when its step has begun."""
    with pullcord.Client(data_dir=place.folder / ".pullcord") as client:
        ids = [receipt.run_id or "" for receipt in client.run_many([(flow, {})] * count)]
    deadline = time.monotonic() + 60
    while not (place.folder / f"begun-{ids[0]}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return ids


@contextmanager
def deaf(place: Place) -> Iterator[None]:
    """What is cancelled meanwhile goes on, so that it is seen on its way, and nothing takes its place."""
    (place.folder / "deaf").touch()
    yield
    (place.folder / "deaf").unlink()


def states(place: Place, flow: str) -> set[str]:
    return {item["state"] for item in place.call_json("runs", "list", "--flow", flow)["items"]}


def ended(place: Place, run: str) -> str:
    """Wait for a run to be cancelled; return what `runs show` says of it."""
    deadline = time.monotonic() + 60
    while place.call_json("runs", "show", run)["state"] != "cancelled":
        assert time.monotonic() < deadline
    return place.call("runs", "show", run).stdout


def test_runs_are_named_or_chosen(served: Place) -> None:
    for arguments in ((), ("abc", "--flow", "holds")):
        assert "--flow and --state" in served.call("runs", "cancel", *arguments, status=2).stderr
    assert "--state is one of" in served.call("runs", "cancel", "--state", "failed", status=2).stderr
    assert served.call("runs", "cancel", "--flow", "holds").stdout == "no runs\n"
    assert served.call_json("runs", "cancel", "--flow", "holds") == {"items": [], "errors": []}


def test_several_runs_are_cancelled_and_those_that_cannot_be_are_told(served: Place) -> None:
    first, second = asked(served, "holds", 2)
    with deaf(served):
        done = served.call("runs", "cancel", first, second, second, "--reason", "enough")
    assert sorted(done.stdout.splitlines()) == sorted(
        [f"holds is cancelling (run {first})", f"holds is cancelled (run {second})"]
    )
    shown = ended(served, first)
    assert "step hold was interrupted and may have left the list of orders half-written" in shown
    assert "by owner, " in shown and ": enough" in shown
    (third,) = asked(served, "others", 1)
    waited = served.call("runs", "cancel", third, "--wait").stdout.splitlines()
    assert waited == [
        f"others is cancelled (run {third})",
        "partial: step hold was interrupted and may have left the list of others half-written",
    ]
    (fourth,) = asked(served, "others", 1)
    left = served.call_json("runs", "cancel", second, fourth, "--wait", "unknown", status=3)
    assert [(run["id"], run["state"], run["partial"]["steps"]) for run in left["items"]] == [
        (fourth, "cancelled", ["hold"])
    ]
    assert {error["id"]: error["code"] for error in left["errors"]} == {
        second: "not_cancellable", "unknown": "not_found",
    }  # fmt: skip


def test_chosen_runs_are_cancelled_when_somebody_is_sure(served: Place) -> None:
    runs = asked(served, "holds", 12)
    asked(served, "others", 1)
    for form in ((), ("--json",)):
        refused = served.call("runs", "cancel", "--flow", "holds", "--state", "queued", *form, status=2)
        assert "this would cancel 11 runs; --yes" in refused.stderr
    assert states(served, "holds") == {"queued", "running"}
    done = served.call("runs", "cancel", "--flow", "holds", "--state", "queued", "--yes")
    assert done.stdout == "11 runs are cancelled\n"
    assert served.call_json("runs", "show", runs[0])["state"] == "running"
    with deaf(served):
        done = served.call("runs", "cancel", "--flow", "holds", "-y")
    assert done.stdout == "1 run is cancelling\n"
    ended(served, runs[0])
    assert states(served, "others") == {"running"}


@pytest.mark.parametrize("answer", ["y", "n", ""])
def test_on_a_terminal_they_are_shown_first(served: Place, answer: str) -> None:
    asked(served, "holds", 13)
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "pullcord", "runs", "cancel", "--flow", "holds", "--state", "queued"],
        cwd=served.folder, env=served.environment | {"TERM": "xterm", "COLUMNS": "150"},
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(slave)
        said = read(master, "[y/N]:")
        os.write(master, f"{answer}\n".encode())
        said += read(master, None)
    os.close(master)
    assert "… and 2 more; in all 12 queued" in said
    assert said.count("holds") == 10
    assert "Cancel 12 runs? [y/N]:" in said
    if answer == "y":
        assert (process.returncode, states(served, "holds")) == (0, {"running", "cancelled"})
        assert "12 runs are cancelled" in said
    else:
        assert (process.returncode, states(served, "holds")) == (1, {"running", "queued"})
        assert "nothing is cancelled" in said


def read(terminal: int, until: str | None) -> str:
    """Return what a terminal shows, until a text or the end of the command."""
    said, deadline = "", time.monotonic() + 60
    while until is None or until not in said:
        assert select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0], said
        try:
            data = os.read(terminal, 4096)
        except OSError:  # nobody has it open any more
            return said
        if not data:
            return said
        said += data.decode()
    return said

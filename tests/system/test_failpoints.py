"""A process dies by `kill -9` at each named point, in the middle of a load; nothing that was promised is lost."""

from __future__ import annotations

import ast
import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx2
import pytest

import pullcord
from pullcord.failpoints import NAMES
from pullcord.store.queries.invariants.examine import examine
from tests.system.harness import FLOWS, Server, Start
from tests.system.invariants import check_invariants, opened
from tests.system.load import Load
from tests.system.meeting import Meeting
from tests.system.processes import poll

WATCHFUL = FLOWS / "watchful.py"
LAST = 40
"""The last number of the event there."""

CANCEL = tuple(name for name in NAMES if name.startswith("cancel."))
STOP = ("worker.before_stop", "worker.after_stop")
FIRE = tuple(name for name in NAMES if name.startswith("fire."))
ELSEWHERE = tuple(
    name for name in NAMES if name.startswith(("artifact.", "prune.", "pause.", "deadline.", "retry.", "notify."))
)
"""A load passes none of these: only triggers do, who cancels, and the tests of these parts."""

WAITS = tuple(name for name in NAMES if name.startswith(("ask.", "park.", "answer.", "wake.")) or "_park" in name)
"""Nor these: what asks people does (`test_questions`)."""

OUTLIVED = ("worker.", "template.")
"""What begins so kills a process that the server outlives."""

NOTHING_LEFT = ("store.", "worker.after_finish")
"""Whoever dies here may have had no run any more."""


def rules_broken(data_dir: Path) -> list[str]:
    with opened(data_dir) as db:
        return [example for verdict in examine(db) for example in verdict.examples]


def provoke(name: str, server: Server, load: Load) -> None:
    """Bring about what the point is a part of, where a load alone does not."""
    area = name.partition(".")[0]
    if area in ("register", "takeover", "template"):
        server.kill_workers()
    elif area == "store":
        load.let_go()
        server.process.terminate()
    elif area == "start":
        server.kill()
        server.spawn()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in CANCEL + STOP + FIRE + WAITS + ELSEWHERE])
def test_nothing_is_lost_when_a_process_dies_at(name: str, serve: Start, tmp_path: Path, log: Path) -> None:
    marker = tmp_path / "marker"
    marker.touch()  # A point whose marker is there does not fire: removing it arms the point in mid-load.
    server = serve(environment={"PULLCORD_FAILPOINTS": f"{name}@{marker}"})
    with Load(server, log, ahead=10) as load:
        load.acknowledged(10)
        load.standing()
        marker.unlink()
        load.go_on()
        provoke(name, server, load)
        if not name.startswith(OUTLIVED):
            assert server.died() == -signal.SIGKILL
            load.restart()
        load.finish()
    assert marker.exists()
    assert server.stop() == 0
    check_invariants(server.data_dir, load.receipts, log, *load.crashes)
    assert rules_broken(server.data_dir) == []
    with opened(server.data_dir) as db:
        taken_over = db.execute("SELECT count(*) FROM runs WHERE takeovers > 0").fetchone()[0]
        assert taken_over or name.startswith(NOTHING_LEFT)


DEADLY = [(name, force) for name in CANCEL + STOP for force in (False, True) if force or name != "cancel.before_kill"]


@pytest.mark.parametrize("flow", ["stores", "stores-alone", "passes-on-a-child"])
@pytest.mark.parametrize(("name", "force"), DEADLY)
def test_a_run_is_cancelled_or_goes_on_when_a_process_dies_at(
    name: str, force: bool, flow: str, serve: Start, meeting: Meeting, log: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    server = serve(FLOWS / "cut.py", environment={"PULLCORD_FAILPOINTS": f"{name}@{marker}"})
    run = server.api.run(flow, {"port": meeting.port} | ({"path": "-"} if "alone" in flow else {"log": str(log)}))
    guest = meeting.guest()
    with contextlib.suppress(httpx2.TransportError):
        assert server.api.cancel(run, force=force).status == 202
    if name in STOP:
        poll(marker.exists)
    else:
        assert server.died() == -signal.SIGKILL
        server.start()
    if name == "cancel.before_write":
        guest = meeting.guest()
        assert server.api.cancel(run, force=force).status == 202
    with contextlib.suppress(OSError):  # it may be dead
        guest.go()
    assert server.api.end(run)["state"] == "cancelled"
    assert server.api.end(guest.run)["state"] == "cancelled"
    assert marker.exists()
    meeting.nobody()
    assert server.stop() == 0
    assert rules_broken(server.data_dir) == []
    with opened(server.data_dir) as db:
        assert {row[0] for row in db.execute("SELECT state FROM runs")} == {"cancelled"}


@pytest.mark.parametrize("when", [1, 9])
@pytest.mark.parametrize("name", [*FIRE, "writer.before_commit", "writer.after_commit", "journal.after_finish"])
def test_what_triggers_see_is_neither_lost_nor_doubled_when_the_server_dies_at(
    name: str, when: int, serve: Start, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    server = serve(WATCHFUL, environment={"PULLCORD_FAILPOINTS": f"{name}@{marker}:{when}"}, started=False)
    server.spawn()
    assert server.died() == -signal.SIGKILL
    assert marker.exists()
    server.start()
    everything = list(range(1, LAST + 1))

    def seen(flow: str) -> list[int]:
        items = server.api.get("/v1/runs", flow=flow, state="succeeded", limit="1000").body["items"]
        return sorted(item["inputs"]["n"] for item in items)

    poll(lambda: len(seen("followed")) >= LAST)
    assert server.stop() == 0
    server.start()  # what is left of ends that were noted would start something now
    assert seen("counted") == seen("followed") == everything
    assert server.stop() == 0
    assert rules_broken(server.data_dir) == []
    with opened(server.data_dir) as db:
        assert db.execute("SELECT count(*) FROM endings").fetchone()[0] == 0
        cursors = db.execute("SELECT cursor FROM trigger_state WHERE cursor IS NOT NULL").fetchall()
        assert [row[0] for row in cursors] == [str(LAST)]


def test_every_point_is_one_place_in_the_code() -> None:
    calls: Counter[str] = Counter()
    for path in Path(pullcord.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hit":
                (argument,) = node.args
                assert isinstance(argument, ast.Constant), f"{path}: the name of a fail point is a literal"
                calls[argument.value] += 1
    assert calls == Counter(NAMES)


def passes(spec: str, marker: Path, count: int) -> int:
    """Pass a point so often in a process of its own; return its exit status."""
    code = f"from pullcord.failpoints import hit\nfor _ in range({count}): hit('gate.before_write')"
    environment = os.environ | {"PULLCORD_FAILPOINTS": f"gate.before_write@{marker}{spec}"}
    return subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode


def test_a_point_fires_once_from_the_pass_on_that_is_named_or_by_chance(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    assert passes(":3", marker, 2) == 0
    assert passes(":3", marker, 3) == -signal.SIGKILL
    assert passes("", marker, 1) == 0, "it fires once"
    marker.unlink()
    assert passes(":0.0", marker, 100) == 0
    assert passes(":0.5", marker, 1000) == -signal.SIGKILL


def test_without_the_variable_a_point_is_a_function_that_does_nothing() -> None:
    from pullcord import failpoints

    assert failpoints.ARMED == {}
    assert failpoints.hit.__code__.co_code == (lambda name: None).__code__.co_code
    environment = os.environ | {"PULLCORD_FAILPOINTS": "gate.nowhere@marker"}
    done = subprocess.run(
        [sys.executable, "-c", "import pullcord.failpoints"], env=environment, capture_output=True, check=False
    )
    assert b"gate.nowhere@marker" in done.stderr

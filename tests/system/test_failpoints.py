"""A process dies by `kill -9` at each named point, in the middle of a load; nothing that was promised is lost."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from pullcord.failpoints import NAMES
from tests.system.harness import Start
from tests.system.invariants import check_invariants, opened
from tests.system.load import Load


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_lost_when_a_process_dies_at(name: str, serve: Start, tmp_path: Path, log: Path) -> None:
    marker = tmp_path / "marker"
    marker.touch()  # A point whose marker is there does not fire: removing it arms the point in mid-load.
    server = serve(environment={"PULLCORD_FAILPOINTS": f"{name}@{marker}"})
    with Load(server, log) as load:
        load.acknowledged(10)
        marker.unlink()
        if not name.startswith("worker."):
            assert server.died() == -signal.SIGKILL
            load.restart()
        load.finish()
    assert marker.exists()
    assert server.stop() == 0
    check_invariants(server.data_dir, load.receipts, log, *load.crashes)
    with opened(server.data_dir) as db:
        taken_over = db.execute("SELECT count(*) FROM runs WHERE takeovers > 0").fetchone()[0]
        assert taken_over or name in ("gate.before_write", "writer.before_commit", "writer.after_commit")

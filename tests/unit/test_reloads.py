"""Reloads at awkward moments, with real processes on the test's own loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from pullcord.app import App
from pullcord.engine.locations import CodeLocation, locate
from pullcord.engine.worker import SHARED, WorkerHandle

PATIENCE = 30.0
"""Seconds after which a test gives up waiting for what should long have happened."""

FLOWS = """
    import asyncio
    import pullcord as pc

    @pc.flow
    def quick() -> str:
        return "done"

    @pc.flow
    async def endless() -> None:
        await asyncio.Event().wait()
"""


def code(folder: Path) -> Path:
    """Write a code location."""
    folder.mkdir()
    (folder / "flows.py").write_text(dedent(FLOWS))
    return folder


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that the loop is about to do."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  there is no event for what a test looks at from outside
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def running(data_dir: Path, *flows: Path) -> AsyncIterator[App]:
    """Give an app whose code has loaded, with one run worker a location."""
    async with App(flows, data_dir, workers=1, stop_patience=0.0) as app:
        await app.ready()
        yield app
    # The loop must not end before it has seen the channels of the dead workers close.
    await until(lambda: not app.engine.workers())


class RetiredAtOnce(list[WorkerHandle]):
    """The workers of a fleet: the first new one is retired before it is connected, as an overlapping reload does."""

    def append(self, worker: WorkerHandle) -> None:
        """Add a worker."""
        super().append(worker)
        if worker.role == SHARED and not any(other.cause == "test" for other in self):
            worker.fleet.retire(worker, "a test wants it", "test")


async def test_a_worker_that_is_retired_before_it_is_connected_is_replaced(tmp_path: Path) -> None:
    async with running(tmp_path / "data", code(tmp_path / "etl")) as app:
        (fleet,) = app.engine.fleets.values()
        await until(lambda: fleet.settled)
        fleet.workers = RetiredAtOnce(fleet.workers)
        (first,) = [worker for worker in fleet.workers if worker.role == SHARED]
        fleet.retire(first, "it was first", "reload")
        await until(lambda: any(worker.cause == "test" for worker in fleet.workers))
        receipt = await app.run("quick", wait=PATIENCE)
        assert receipt.run is not None
        assert receipt.run["state"] == "succeeded"


async def test_a_location_whose_template_dies_while_it_leaves_has_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stays, goes = code(tmp_path / "stays"), tmp_path / "goes"
    goes.mkdir()
    (goes / "flows.py").write_text(dedent(FLOWS).replace("endless", "other").replace("quick", "another"))
    async with running(tmp_path / "data", stays, goes) as app:
        engine = app.engine
        await app.run("other", wait=PATIENCE, until="started")
        fleet = engine.fleets["goes"]
        await until(lambda: any(worker.assigned for worker in fleet.workers))
        (template,) = {psutil.Process(worker.pid).ppid() for worker in fleet.workers}
        app.reload([stays])
        await until(lambda: engine.leaving == [fleet] and len(fleet.workers) == 1)
        (worker,) = fleet.workers
        os.kill(template, signal.SIGKILL)
        await until(lambda: not engine.leaving and not worker.assigned)
    assert "its end was not seen" not in caplog.text


async def test_a_location_that_has_moved_is_reported_by_its_present_place(tmp_path: Path) -> None:
    old, new = code(tmp_path / "old"), code(tmp_path / "new")
    here, there = (CodeLocation("etl", "folder", str(folder)) for folder in (old, new))
    async with App([], tmp_path / "data", code=[here], workers=1, stop_patience=0.0) as app:
        await app.ready()
        await app.engine.deploys.reload([there])
        app.engine.catalog.fail("etl", "it is gone")
        assert [failure["place"] for failure in app.engine.catalog.failures] == [str(new)]
    await until(lambda: not app.engine.workers())


async def test_a_location_that_comes_later_is_watched_too(tmp_path: Path) -> None:
    first, later = code(tmp_path / "first"), tmp_path / "later"
    later.mkdir()
    async with App([first], tmp_path / "data", workers=1, reload=True, stop_patience=0.0) as app:
        await app.ready()
        await app.engine.deploys.reload([locate(str(later))])
        for name in ("one", "two"):
            (later / f"{name}.py").write_text(f"import pullcord as pc\n@pc.flow\ndef {name}() -> None: ...\n")
            await until(lambda name=name: app.engine.catalog.get(name) is not None)  # type: ignore[misc]
    await until(lambda: not app.engine.workers())

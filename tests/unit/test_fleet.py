"""The processes of a location: none is counted twice, and ending one holds nobody up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import pullcord
from pullcord.engine import template as template_module
from pullcord.engine.fleet import Fleet
from pullcord.engine.template import Template
from pullcord.engine.worker import SHARED

FLOWS = """
import pullcord as pc

@pc.flow
async def nothing() -> None:
    return None
"""


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    """Start an app with one location and one run worker."""
    flows = tmp_path / "flows.py"
    flows.write_text(FLOWS, encoding="utf-8")
    async with pullcord.App([flows], tmp_path / "data", workers=1) as app:
        await app.ready()
        await app.run("nothing", wait=True)
        (fleet,) = app.engine.fleets.values()
        yield fleet


async def test_a_worker_that_is_being_connected_is_counted_once(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were it counted twice, one that is lost meanwhile would not be replaced."""
    loop, entered, go = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    connect = loop.create_connection

    async def hesitate(*arguments: Any, **options: Any) -> Any:
        entered.set()
        await go.wait()
        return await connect(*arguments, **options)

    monkeypatch.setattr(loop, "create_connection", hesitate)
    (worker,) = [worker for worker in fleet.workers if worker.role == SHARED]
    fleet.retire(worker, "a test wants another", "reload")
    await entered.wait()
    assert fleet._wanting(SHARED) == 0
    go.set()


async def test_ending_a_template_that_does_not_answer_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_module, "PATIENCE", 0.05)
    deaf = tmp_path / "python"
    deaf.write_text("#!/bin/sh\nexec sleep 600\n", encoding="ascii")
    deaf.chmod(0o755)
    template = Template(str(deaf), tmp_path, tmp_path, lambda *_: None, lambda _: None)
    template.attach()
    template.close()
    assert not template.gone, "it is ended beside the loop"
    await template.ended()
    assert template.gone and template._process.returncode is not None

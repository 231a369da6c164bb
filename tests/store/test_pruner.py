"""The pruner over real stores: what is old goes, as each flow says, with its files; and a preview is what is done."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from pullcord.core.artifact import UNFINISHED, content_path
from pullcord.core.keep import DAY as ONE_DAY
from pullcord.core.keep import Retention
from pullcord.engine.logfiles import log_path
from pullcord.services.pace import LEAST, MOMENT, MOST, Pace
from pullcord.services.pruner import Pruner, Round
from pullcord.store.commands.artifacts import StoreArtifacts
from pullcord.store.commands.triggers import RegisterTriggers
from pullcord.store.queries.invariants.examine import examine
from pullcord.store.store import Store
from pullcord.store.transaction import ignore
from pullcord.wire import messages as kinds
from tests.store.harness import DAY, Database, DrivenClock, Server, admit, finished, note, spec
from tests.store.test_triggers import declared, fire, line

KEEP = Retention(runs=30 * ONE_DAY, logs=10 * ONE_DAY, artifacts=20 * ONE_DAY, ledger=60 * ONE_DAY)


def run(server: Server, folder: Path, flow: str, content: str | None = None, **changes: Any) -> str:
    """Make a run that has ended, with a log and an artifact; return its id."""
    (claimed,) = server.begin(admit(flow, limited=False, **changes))
    sha256 = (content or claimed.uuid.replace("-", "")).ljust(64, "0")
    for path, text in ((folder / "artifacts" / content_path(sha256), "12345"), (log(folder, claimed.uuid), "{}\n")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (1, 1))
    message = [kinds.ARTIFACT, claimed.id, claimed.token, "s", None, "a", sha256, 5, None, None]
    server.write(StoreArtifacts(folder / "artifacts", [message], ignore))
    server.finish(finished(claimed))
    return claimed.uuid


def keeping(**keep: Any) -> dict[str, Any]:
    return {"concurrency": None, "keep": keep}


def log(folder: Path, uuid: str) -> Path:
    return log_path(folder / "logs", uuid)


def folder_of(database: Database) -> Path:
    folder: Path = database.folder  # type: ignore[attr-defined]
    folder.mkdir(exist_ok=True)
    return folder


async def prune(database: Database, clock: DrivenClock, keep: Retention, look: bool = False) -> Round:
    store: Store = database.store(clock)
    store.start()
    try:
        pruner = Pruner(store, clock, keep)
        return await (pruner.preview() if look else pruner.prune())
    finally:
        await store.stop()


def told(done: Round) -> dict[tuple[str, str], int]:
    return dict(done.rows)


async def test_what_is_old_goes_with_its_files_as_each_flow_says(database: Database, clock: DrivenClock) -> None:
    folder = folder_of(database)
    server = Server(database, clock)
    kept = spec("kept", settings=keeping(runs="forever", logs="forever", artifacts=5 * ONE_DAY))
    few = spec("few", settings=keeping(count=2))
    server.register(spec("free", None), few, kept)
    server.write(RegisterTriggers("etl", None, [declared(1)], [], [], [], ignore))
    for number in range(3):
        server.write(fire(number=1, history=line("failed", f"no. {number}")))
    old = {flow: [run(server, folder, flow) for _ in range(3)] for flow in ("free", "few", "kept")}
    shared = [run(server, folder, "free", content="5a") for _ in range(2)]
    server.write(note(code="invalid_inputs", reason="n: is missing"))
    clock.advance(40 * DAY)
    new = run(server, folder, "free", content="5a")
    assert {verdict.broken for verdict in examine(server.connection)} == {0}
    server.close()

    seen = await prune(database, clock, KEEP, look=True)
    done = await prune(database, clock, KEEP)
    assert done.failure is None
    # Of `free` all old ones but for the last success, which is the new one; of `few` all but the two newest, of which
    # one is too old; of `kept` none.
    assert told(seen)["runs", "free"] == told(done)["runs", "free"] == 5
    assert told(seen)["runs", "few"] == told(done)["runs", "few"] == 2
    assert ("runs", "kept") not in told(done)
    assert told(seen)["artifacts", "kept"] == 2, "the last success keeps its own"
    assert seen.bytes["artifacts", "kept"] == 10
    contents = {("contents", ""): told(done)["contents", ""]}
    assert told(done) == +seen.rows | contents, "but for files that are shared, it is known before"
    assert {key: size for key, size in done.bytes.items() if size and key not in contents} == {
        key: size for key, size in seen.bytes.items() if size
    }
    assert told(done)["logs", "free"] == told(done)["artifacts", "free"] == 5
    left = {path.stem for path in (folder / "logs").rglob("*.jsonl")}
    assert left == {new, old["few"][-1], *old["kept"]}
    contents = [path for path in (folder / "artifacts").rglob("*") if path.is_file()]
    assert len(contents) == 3, "of the new one, the one of few, the last of kept"
    assert not any(log(folder, uuid).exists() for uuid in [*old["free"], *shared])
    again = await prune(database, clock, KEEP)
    assert told(again) == {}
    clock.advance(30 * DAY)
    seen = await prune(database, clock, KEEP, look=True)
    done = await prune(database, clock, KEEP)
    assert sum(count for (kind, _), count in done.rows.items() if kind == "requests") >= 8
    assert told(done) == +seen.rows
    server = Server(database, clock)
    assert {verdict.name for verdict in examine(server.connection) if verdict.broken} <= {
        "an owner is a server that was started"
    }
    server.close()


async def test_what_a_child_has_stays_while_its_parent_may_ask(database: Database, clock: DrivenClock) -> None:
    folder = folder_of(database)
    server = Server(database, clock)
    server.register(spec("free", None), spec("caller", None))
    (parent,) = server.begin(admit("caller", limited=False))
    child = run(server, folder, "free", parent_id=parent.id, ledger={"trigger_kind": "flow"})
    other = run(server, folder, "free")
    clock.advance(15 * DAY)
    run(server, folder, "free")
    server.close()
    keep = Retention(runs=float("inf"), logs=10 * ONE_DAY, artifacts=10 * ONE_DAY)
    seen = await prune(database, clock, keep, look=True)
    done = await prune(database, clock, keep)
    assert told(done) == +seen.rows | {("contents", ""): 1}
    assert told(done)["artifacts", "free"] == told(done)["logs", "free"] == 1
    assert (log(folder, child).exists(), log(folder, other).exists()) == (True, False)


async def test_nothing_goes_that_is_kept_for_ever(database: Database, clock: DrivenClock) -> None:
    folder = folder_of(database)
    server = Server(database, clock)
    server.register(spec("free", None))
    for _ in range(3):
        run(server, folder, "free")
    server.write(note(code="invalid_inputs", reason="n: is missing"))
    clock.advance(10_000 * DAY)
    server.close()
    for_ever = float("inf")
    assert told(await prune(database, clock, Retention(*[for_ever] * 5))) == {}


async def test_what_nothing_refers_to_is_swept_when_it_is_left_alone(database: Database, clock: DrivenClock) -> None:
    folder = folder_of(database)
    server = Server(database, clock)
    server.register(spec("free", None))
    uuid = run(server, folder, "free", content="5a")
    server.close()
    orphans = [
        folder / "artifacts" / content_path("5b" * 32),
        folder / "artifacts" / UNFINISHED / "part",
        log(folder, "01a1f000-0000-7000-8000-000000000000"),
    ]
    for path in orphans:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("orphan")
    assert told(await prune(database, clock, KEEP)) == {}
    for path in orphans:
        os.utime(path, (1, 1))
    done = told(await prune(database, clock, KEEP))
    assert done == {("contents", ""): 2, ("logs", ""): 1}
    assert not any(path.exists() for path in orphans)
    assert log(folder, uuid).exists()
    assert (folder / "artifacts" / content_path("5a".ljust(64, "0"))).exists()


async def test_other_parts_may_prune_in_the_same_round(database: Database, clock: DrivenClock) -> None:
    store: Store = database.store(clock)
    store.start()
    try:
        pruner = Pruner(store, clock, KEEP)

        async def messages(asked: Any) -> int:
            assert asked is pruner
            return 7

        pruner.further["notifications"] = messages
        assert told(await pruner.prune()) == {("notifications", ""): 7}
        assert pruner.totals["notifications"] == 7
    finally:
        await store.stop()


@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.parametrize("turns", range(4))
async def test_it_stops_also_where_a_round_was_asked_for_just_before(
    store: Store, clock: DrivenClock, kind: str, turns: int
) -> None:
    """Before Python 3.12 `asyncio.wait_for` swallows a cancel that comes together with what it waits for."""
    pruner = Pruner(store, clock, KEEP)
    pruner.start()
    await asyncio.sleep(0)
    pruner.prune_now()
    for _ in range(turns):
        await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await pruner.stop()


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_a_failure_ends_the_round_and_says_why(database: Database, clock: DrivenClock, kind: str) -> None:
    store: Store = database.store(clock)
    store.start()
    pruner = Pruner(store, clock, KEEP)
    await store.stop()
    done = await pruner.prune()
    assert done.failure is not None
    assert done.ended is not None


def test_the_pace_follows_what_a_transaction_takes() -> None:
    pace = Pace()
    for _ in range(20):
        pace.rest(MOMENT / 100, MOMENT, busy=False)
    assert pace.size == MOST
    pace.rest(MOMENT * 10, 1.0, busy=True)
    assert pace.size == MOST // 10, "it shrinks at once"
    for _ in range(20):
        pace.rest(1.0, 1.0, busy=True)
    assert pace.size == LEAST
    assert pace.rest(0.001, 0.01, busy=True) > pace.rest(0.001, 0.01, busy=False) > 0
    assert pace.rest(1.0, 60.0, busy=True) == 1.0

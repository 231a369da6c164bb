"""Artifacts in the store: a row for each whose content is there, and contents that go when no row has them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pullcord.core.artifact import TRASH, content_path
from pullcord.store.commands.artifacts import DropContents, NotStored, StoreArtifacts, copy_artifacts
from pullcord.store.commands.claim import Claimed
from pullcord.store.commands.prune import PruneArtifacts, PruneRuns
from pullcord.store.queries.artifacts import find_artifact, list_artifacts
from pullcord.store.queries.retention import Kept, known_contents, prunable_artifacts
from pullcord.store.transaction import Transaction, ignore
from pullcord.wire import messages as kinds
from tests.store.harness import Server, admit, finished, step

ONE, TWO = "0a" * 32, "0b" * 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where two contents are, old enough to be swept."""
    for sha256 in (ONE, TWO):
        path = tmp_path / content_path(sha256)
        path.parent.mkdir(parents=True)
        path.write_text("bytes")
        os.utime(path, (1, 1))
    return tmp_path


def begin(server: Server, flow: str = "free") -> Claimed:
    (run,) = server.begin(admit(flow, limited=False))
    return run


def message(run: Claimed, name: str = "a.txt", sha256: str = ONE, identity: str = "s1", **changes: Any) -> list[Any]:
    facts = {"step": "work", "size": 5, "media_type": "text/plain", "description": None} | changes
    return [kinds.ARTIFACT, run.id, run.token, identity, facts["step"], name, sha256, facts["size"],
            facts["media_type"], facts["description"]]  # fmt: skip


def keep(server: Server, folder: Path, *messages: list[Any]) -> NotStored:
    result: NotStored = server.write(StoreArtifacts(folder, list(messages), ignore))
    return result


def drop(server: Server, folder: Path, *contents: str, before: float = 2.0) -> int:
    moved: int = server.write(DropContents(folder, list(contents), before, ignore))
    return moved


def test_it_is_listed_with_what_is_known_of_it(server: Server, folder: Path) -> None:
    run = begin(server)
    assert keep(server, folder, message(run), message(run, "b", TWO, description="two", step=None)).refused == []
    first, second = list_artifacts(server.connection, run.uuid)
    assert {key: first[key] for key in ("name", "size", "sha256", "media_type", "description", "step")} == {
        "name": "a.txt", "size": 5, "sha256": ONE, "media_type": "text/plain", "description": None, "step": "work",
    }  # fmt: skip
    assert (second["name"], second["description"], second["step"]) == ("b", "two", None)
    assert find_artifact(server.connection, run.uuid, "b") == second
    assert find_artifact(server.connection, run.uuid, "c") is None
    assert list_artifacts(server.connection, "another") == []


def test_without_its_content_there_is_no_row_and_its_neighbours_have_theirs(server: Server, folder: Path) -> None:
    run = begin(server)
    result = keep(server, folder, message(run, sha256="0c" * 32), message(run, "cut", size=6), message(run, "good"))
    assert [(number, token) for number, token, _ in result.refused] == [(run.id, run.token)] * 2
    assert [item["name"] for item in list_artifacts(server.connection, run.uuid)] == ["good"]


def test_of_equal_names_the_last_one_counts(server: Server, folder: Path) -> None:
    run = begin(server)
    keep(server, folder, message(run, identity="s1"), message(run, identity="s2", sha256=TWO))
    assert [item["sha256"] for item in list_artifacts(server.connection, run.uuid)] == [TWO]
    keep(server, folder, message(run, identity="s1"))
    assert [item["sha256"] for item in list_artifacts(server.connection, run.uuid)] == [ONE]
    keep(server, folder, message(run, identity="s1", sha256=TWO), message(run, identity="s1"))
    assert server.count("artifacts") == 2


def test_a_stale_token_stores_nothing(server: Server, folder: Path) -> None:
    run = begin(server)
    server.lose(run, blame=0)
    server.claim()
    assert keep(server, folder, message(run)).refused == []
    assert server.count("artifacts") == 0
    ended = begin(server)
    server.finish(finished(ended))
    keep(server, folder, message(ended))
    assert server.count("artifacts") == 0


def test_a_run_that_goes_on_from_the_records_of_another_has_what_these_stored(server: Server, folder: Path) -> None:
    origin, copy = begin(server), begin(server)
    keep(server, folder, message(origin, identity="s1"), message(origin, "lost", TWO, identity="s2"))
    keep(server, folder, message(origin, identity="s2", sha256=TWO))
    server.record(step(copy, "s1"))
    server.connection.begin()
    copy_artifacts(Transaction(server.connection, 1, 1, server.hints), origin.id, copy.id)
    server.connection.commit()
    (item,) = list_artifacts(server.connection, copy.uuid)
    assert (item["name"], item["sha256"]) == ("a.txt", ONE), "as the step that is kept has stored it"
    server.finish(finished(origin))
    pruned = server.write(PruneRuns([origin.id], 0, ignore))
    assert drop(server, folder, *pruned.contents) == 1
    assert (folder / content_path(ONE)).exists()


def test_a_content_goes_when_no_run_has_it(server: Server, folder: Path) -> None:
    first, second = begin(server), begin(server)
    keep(server, folder, message(first), message(second), message(first, "b", TWO))
    server.finish(finished(first), finished(second))
    assert server.write(PruneArtifacts([first.id], ignore)).contents == [ONE, TWO]
    assert drop(server, folder, ONE, TWO) == 1
    assert (folder / content_path(ONE)).exists()
    assert (folder / TRASH / TWO).exists()
    assert known_contents(server.connection, [ONE, TWO]) == {ONE}
    assert [item["name"] for item in list_artifacts(server.connection, second.uuid)] == ["a.txt"]
    server.write(PruneRuns([second.id], 0, ignore))
    assert drop(server, folder, ONE, ONE) == 1
    assert server.count("artifacts") == 0


def test_a_content_that_was_touched_just_now_stays(server: Server, folder: Path) -> None:
    os.utime(folder / content_path(ONE), (10, 10))
    assert drop(server, folder, ONE, before=10.0) == 0
    assert drop(server, folder, ONE, before=11.0) == 1
    assert drop(server, folder, ONE, before=11.0) == 0


def test_a_row_of_the_same_transaction_keeps_its_content(server: Server, folder: Path) -> None:
    run = begin(server)
    stored, dropped = server.transact(
        DropContents(folder, [ONE], 2.0, ignore), StoreArtifacts(folder, [message(run)], ignore)
    )[0]
    assert (stored, dropped.refused) == (0, [])
    assert (folder / content_path(ONE)).exists()


def test_artifacts_go_by_the_age_of_their_run(server: Server, folder: Path) -> None:
    old, running = begin(server), begin(server, "g")
    keep(server, folder, message(old), message(old, "b", TWO), message(running))
    server.finish(finished(old))
    later = server.clock.now() + 1
    rule = Kept(0, 0, later, 0, frozenset())
    part, sizes = prunable_artifacts(server.connection, {"free": rule, "g": rule}, 0)
    assert (part.ids, part.about, sizes) == ([old.id], ["free"], [[5, 5]])
    assert prunable_artifacts(server.connection, {"free": Kept(0, 0, 1, 0, frozenset())}, 0)[0].ids == []
    assert prunable_artifacts(server.connection, {"free": Kept(0, 0, later, 0, frozenset({old.id}))}, 0)[0].ids == []
    assert prunable_artifacts(server.connection, {}, running.id)[0].after is None

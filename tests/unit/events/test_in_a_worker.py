"""Ready-made events as a worker loads and polls them: parameters and contexts travel as JSON."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.events.site import Site
from tests.unit.events.tables import Tables
from tests.unit.polling.harness import ServerEnd

CODE = """
import os
SITE, DATABASE = {site!r}, {database!r}

inbox = pc.events.files(HERE / "in", "*.csv", flow=report, details=True)
page = pc.events.endpoint(SITE, watch="json:version", flow=report, headers={{"X-Colour": "red"}})
orders = pc.events.rows(DATABASE, "SELECT id, at FROM orders WHERE id > :cursor ORDER BY id", flow=report)
jobs = pc.events.depth(DATABASE, "SELECT count(*) FROM orders", 2, flow=report)
service = pc.events.health(SITE, failures=1, flow=report)

@pc.event(flow=report, parameters={{"threshold": 3}})
class Backlog(pc.events.QueueDepth):
    "A queue of its own."
    def depth(self) -> int:
        return 3

twin = pc.events.files("in", flow="twice", name="inbox-of-twice")

@pc.flow(triggers=[pc.events.files("elsewhere", name="attached")])
def attached(path: str) -> None:
    pass
"""


@pytest.fixture
def worker(tmp_path: Path, site: Site, tables: Tables) -> Iterator[ServerEnd]:
    end = ServerEnd(tmp_path, CODE.format(site=site.url, database=tables.address))
    yield end
    end.close()


def test_all_are_declared_and_polled(worker: ServerEnd, tmp_path: Path, site: Site, tables: Tables) -> None:
    assert worker.manifest["failures"] == []
    triggers = {item["name"]: item for item in worker.manifest["triggers"]}
    assert set(triggers) == {
        "report-files", "report-endpoint", "report-rows", "report-depth", "report-health", "Backlog",
        "inbox-of-twice", "attached",
    }  # fmt: skip
    assert triggers["report-files"]["kind"] == "event"
    assert {Path(item["place"].rpartition(":")[0] or item["place"]).name for item in triggers.values()} == {
        "triggers.py"
    }
    assert triggers["report-files"]["parameters"]["folder"] == str(tmp_path / "in")
    assert triggers["attached"]["flows"] == ["attached"]
    assert "file that is new in a folder" in triggers["report-files"]["description"]

    tables.order(1, 2)
    given = {name: item["parameters"] for name, item in triggers.items()}
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.csv"
    path.write_text("x")
    old = time.time() - 60
    os.utime(path, (old, old))
    outcome, cursor, ((context, _),), *_ = worker.poll("report-files", None, given["report-files"])
    assert (outcome, json.loads(context)["path"], json.loads(context)["size"]) == ("fire", str(path), 1)
    assert worker.poll("report-files", json.loads(cursor), given["report-files"])[:3] == ["skip", cursor, "nothing new"]

    site.body = b'{"version": 1}'
    outcome, cursor, *_ = worker.poll("report-endpoint", None, given["report-endpoint"])
    assert (outcome, json.loads(cursor)["value"]) == ("skip", 1)
    site.body = b'{"version": 2}'
    outcome, _, detail, *_ = worker.poll("report-endpoint", json.loads(cursor), given["report-endpoint"])
    assert (outcome, detail) == ("fire", [['{"value":2}', "1"]])

    outcome, cursor, detail, *_ = worker.poll("report-rows", None, given["report-rows"])
    assert (outcome, cursor, len(detail)) == ("fire", "2", 2)
    assert json.loads(detail[0][0])["at"].startswith("2026-01-02")
    assert worker.poll("report-rows", 2, given["report-rows"])[0] == "skip"

    assert worker.poll("report-depth", None, given["report-depth"])[:3:2] == ["fire", [['{"depth":2}', "1"]]]
    assert worker.poll("Backlog", None, {"threshold": 3})[:3:2] == ["fire", [['{"depth":3}', "1"]]]
    assert worker.poll("report-health", None, given["report-health"])[:3:2] == ["skip", "up"]


def test_parameters_can_be_changed_at_run_time(worker: ServerEnd, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    seen = worker.poll("report-files", None, {"folder": str(tmp_path / "other")})
    assert seen[:3] == ["skip", "[]", "nothing new"]
    outcome, _, detail, *_ = worker.poll("report-files", None, {"folder": str(tmp_path / "missing")})
    assert (outcome, detail["permanent"]) == ("failed", False)
    assert "is missing; make it" in detail["message"]
    outcome, _, detail, *_ = worker.poll("report-files", None, {"folder": "in", "pattern": "../*"})
    assert (outcome, "is none within the folder" in detail["message"]) == ("failed", True)


def test_a_parameter_of_the_wrong_type_names_the_file(serve_code: Callable[[str], ServerEnd]) -> None:
    end = serve_code("inbox = pc.events.files('in', flow=report, details='perhaps')")
    (failure,) = end.manifest["failures"]
    assert "details" in failure["message"]
    assert failure["place"].endswith("triggers.py")

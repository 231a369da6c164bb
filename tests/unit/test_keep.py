"""How long things are kept: what a flow says goes before the settings, and nothing outlives its run."""

from __future__ import annotations

from datetime import timedelta
from math import inf
from pathlib import Path
from typing import Any

import pytest

import pullcord as pc
from pullcord.core.artifact import LIMIT
from pullcord.core.errors import DefinitionError, UsageError
from pullcord.core.keep import DAY, Keep, Retention, retention_of
from pullcord.core.manifest import FlowSpec
from pullcord.settings import load_settings


def test_a_flow_says_what_it_wants() -> None:
    keep = Keep(runs="30d", count=1000, logs=timedelta(days=7), artifacts="forever")
    assert keep.as_json() == {"runs": 30 * DAY, "logs": 7 * DAY, "artifacts": "forever", "count": 1000}
    assert Keep().as_json() == {}
    assert Keep(logs=0).as_json() == {"logs": 0.0}


@pytest.mark.parametrize(
    "wrong", [{"runs": "soon"}, {"runs": -1}, {"count": 0}, {"count": True}, {"count": 1.5}, {"logs": "1 fortnight"}]
)
def test_what_makes_no_sense_is_refused_where_it_is_declared(wrong: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match=r"pc\.Keep"):
        Keep(**wrong)


def test_only_a_keep_is_one() -> None:
    with pytest.raises(DefinitionError, match=r"pc\.Keep"):
        pc.flow(keep="30d")  # type: ignore[call-overload]


def test_what_a_flow_says_goes_before_the_settings_and_nothing_outlives_its_run() -> None:
    rule = Retention(runs=90 * DAY, logs=30 * DAY, artifacts=60 * DAY, count=50)
    assert rule.of(None) == rule
    short = rule.of({"runs": 7 * DAY})
    assert (short.runs, short.logs, short.artifacts, short.count) == (7 * DAY, 7 * DAY, 7 * DAY, 50)
    long = rule.of({"runs": "forever", "artifacts": "forever", "count": 3})
    assert (long.runs, long.logs, long.artifacts, long.count) == (inf, 30 * DAY, inf, 3)
    assert long.as_json()["runs"] == "forever"
    assert rule.of({"logs": 1.0, "ledger": 5}).ledger == rule.ledger, "the ledger is nobody's own"


def test_what_a_flow_says_survives_its_manifest() -> None:
    @pc.flow(keep=pc.Keep(runs="2d"))
    def kept() -> None: ...

    spec = FlowSpec("kept", "here", "v", "", "", {}, kept.settings.as_json(), False)
    assert Retention().of(spec.settings["keep"]).runs == 2 * DAY


def test_settings_are_read_from_the_file(tmp_path: Path) -> None:
    assert load_settings({}, {}, tmp_path).retention == Retention()
    assert load_settings({}, {}, tmp_path).artifact_limit == LIMIT
    text = 'artifact_limit = 1000\n[retention]\nruns = "1h"\nledger = "forever"\ncount = 7\n'
    (tmp_path / "pullcord.toml").write_text(text)
    settings = load_settings({}, {}, tmp_path)
    assert settings.retention == Retention(runs=3600.0, ledger=inf, count=7)
    assert settings.artifact_limit == 1000
    assert load_settings({}, {"PULLCORD_ARTIFACT_LIMIT": "5"}, tmp_path).artifact_limit == 5


@pytest.mark.parametrize("wrong", [{"run": "1d"}, {"runs": "long"}, {"count": "many"}, "90d", ["90d"], {"runs": None}])
def test_settings_that_make_no_sense_are_refused(wrong: Any) -> None:
    with pytest.raises(UsageError):
        retention_of(wrong)

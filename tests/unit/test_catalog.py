"""The catalog: which flows there are, what to say when there is none of that name, and clashes between locations."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pullcord.core.errors import UnavailableError
from pullcord.core.manifest import FlowSpec, LoadFailure
from pullcord.engine import catalog as catalog_module
from pullcord.engine.catalog import Catalog, UnknownFlowError
from pullcord.engine.locations import CodeLocation


def location(name: str) -> CodeLocation:
    """Make a folder location."""
    return CodeLocation(name, "folder", f"/code/{name}")


def flow(name: str, file: str = "main.py") -> dict[str, Any]:
    """Make a flow as a manifest has it."""
    return {
        "name": name, "version": "1", "place": f"/code/{file}:3", "description": "", "input_schema": {}, "settings": {},
        "is_async": False,
    }  # fmt: skip


def manifest(*names: str, broken: str | None = None, file: str = "main.py") -> dict[str, Any]:
    """Make a location's manifest."""
    failures = [{"place": f"/code/{broken}:7", "message": "SyntaxError: no", "traceback": ""}] if broken else []
    return {"flows": [flow(name, file) for name in names], "failures": failures}


def loaded(*names: str) -> Catalog:
    """Make a catalog of one location that has loaded."""
    result = Catalog([location("etl")], {})
    result.update("etl", manifest(*names))
    return result


async def test_a_flow_is_found_by_its_name() -> None:
    catalog = loaded("load", "store")
    spec = await catalog.resolve("load")
    assert (spec.name, spec.location, spec.place) == ("load", "etl", "/code/main.py:3")
    assert set(catalog.flows) == {"load", "store"}
    assert catalog.get("nothing") is None


@pytest.mark.parametrize("asked", ["nightly-reprot", "Nightly-report", "nightly_report"])
async def test_an_unknown_flow_suggests_the_nearest(asked: str) -> None:
    catalog = loaded("nightly-report", "backup")
    with pytest.raises(UnknownFlowError, match=f"no flow '{asked}'; did you mean 'nightly-report'"):
        await catalog.resolve(asked)


async def test_an_unknown_flow_far_from_all_suggests_the_list() -> None:
    with pytest.raises(UnknownFlowError) as caught:
        await loaded("backup").resolve("x" * 5000)
    assert caught.value.code == "unknown_flow"
    assert "did you mean" not in caught.value.message
    assert "flows list" in caught.value.message
    assert len(caught.value.message) < 300


async def test_a_name_that_two_locations_have_stays_with_the_first_and_both_places_are_named() -> None:
    catalog = Catalog([location("one"), location("two")], {})
    catalog.update("one", manifest("twin", "a", file="one/x.py"))
    flows, complete = catalog.update("two", manifest("twin", "b", file="two/y.py"))
    assert [spec.name for spec in flows] == ["b"]
    assert complete
    assert (await catalog.resolve("twin")).location == "one"
    assert set(catalog.flows) == {"twin", "a", "b"}
    (failure,) = catalog.failures
    assert failure["location"] == "two"
    assert failure["place"] == "/code/two/y.py:3"
    assert "/code/one/x.py:3 and /code/two/y.py:3" in failure["message"]


async def test_a_location_may_load_again_without_clashing_with_itself() -> None:
    catalog = loaded("f", "old")
    flows, _ = catalog.update("etl", manifest("f", "new"))
    assert [spec.name for spec in flows] == ["f", "new"]
    assert set(catalog.flows) == {"f", "new"}
    assert catalog.failures == []


async def test_a_flow_whose_file_broke_is_unavailable_not_unknown() -> None:
    catalog = loaded("f", "g")
    catalog.remember(list(catalog.flows.values()))
    _, complete = catalog.update("etl", manifest("g", broken="main.py"))
    assert not complete
    assert (await catalog.resolve("g")).name == "g"
    with pytest.raises(UnavailableError, match=r"'f' cannot be loaded now: SyntaxError: no \(/code/main\.py:7\)"):
        await catalog.resolve("f")
    with pytest.raises(UnknownFlowError):
        await catalog.resolve("never-there")


async def test_a_location_that_cannot_load_at_all_says_why() -> None:
    catalog = Catalog([location("etl")], {"f": FlowSpec(location="etl", **flow("f"))})
    before = catalog.ready
    catalog.fail("etl", "the interpreter is gone")
    assert (before, catalog.ready) == (False, True)
    assert catalog.failures[0]["message"] == "the interpreter is gone"
    with pytest.raises(UnavailableError, match="the interpreter is gone"):
        await catalog.resolve("f")


async def test_a_request_waits_for_code_that_is_loading() -> None:
    catalog = Catalog([location("one"), location("two")], {})
    asked = asyncio.create_task(catalog.resolve("late"))
    catalog.update("one", manifest("early"))
    assert (await catalog.resolve("early")).name == "early", "what is there needs no waiting"
    assert not asked.done()
    catalog.update("two", manifest("late"))
    assert (await asked).location == "two"


async def test_a_request_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "PATIENCE", 0.0)
    catalog = Catalog([location("one")], {})
    with pytest.raises(UnavailableError, match="try again"):
        await catalog.resolve("f")


def test_new_code_that_breaks_a_served_flow_loses_it() -> None:
    catalog = loaded("f", "g")
    assert catalog.lost("etl", manifest("f", "g", broken="new.py")) == [], "a broken file beside takes nothing away"
    assert catalog.lost("etl", manifest("g")) == [], "what loads well may leave flows out"
    assert catalog.lost("etl", manifest("g", broken="main.py")) == ["f"]
    assert catalog.lost("etl", manifest(broken="main.py")) == ["f", "g"]


def test_what_was_broken_already_holds_no_deploy_up() -> None:
    catalog = Catalog([location("etl")], {})
    catalog.update("etl", manifest("f", "g", broken="other.py"))
    again = manifest("g", broken="other.py")
    again["failures"][0]["place"] = "/code/other.py:99"
    assert catalog.lost("etl", again) == []
    assert catalog.lost("etl", manifest("g", broken="main.py")) == ["f"]


async def test_refused_code_leaves_the_flows_and_shows_what_failed_until_it_is_mended() -> None:
    catalog = loaded("f", "g")
    broken = manifest("g", broken="main.py")
    for _ in range(2):  # to try again makes it no better
        assert catalog.lost("etl", broken) == ["f"]
        catalog.keep("etl", [LoadFailure(**failure) for failure in broken["failures"]], ["f"])
    assert (await catalog.resolve("f")).name == "f"
    assert [failure["message"] for failure in catalog.failures] == ["SyntaxError: no"]
    assert not catalog.awaits("etl", "f")
    assert catalog.awaits("etl", "f", afresh=True), "a new process would load the broken code"
    assert not catalog.awaits("etl", "g", afresh=True)
    catalog.update("etl", manifest("f", "g"))
    assert catalog.failures == []
    assert not catalog.awaits("etl", "f", afresh=True)


async def test_a_removed_flow_is_unknown_and_the_message_says_since_when() -> None:
    catalog = loaded("f", "g")
    catalog.remember(list(catalog.flows.values()))
    catalog.update("etl", manifest("g"))
    catalog.forget([FlowSpec(location="etl", **flow("f"))], 1_800_000_000_000_000)
    with pytest.raises(UnknownFlowError, match=r"'f' was removed from etl at 2027-01-15T08:00:00.*its runs are kept"):
        await catalog.resolve("f")
    catalog.remember([FlowSpec(location="etl", **flow("f"))])
    catalog.update("etl", manifest("f", "g"))
    assert (await catalog.resolve("f")).name == "f"
    assert catalog.removed == {}


async def test_a_flow_that_moved_is_not_removed_by_the_location_that_it_left() -> None:
    catalog = Catalog([location("one"), location("two")], {})
    catalog.remember([FlowSpec(location="two", **flow("f"))])
    catalog.forget([FlowSpec(location="one", **flow("f"))], 1)
    assert catalog.removed == {}


async def test_a_flow_of_a_location_that_is_not_served_says_so() -> None:
    catalog = Catalog([location("two")], {"f": FlowSpec(location="one", **flow("f"))})
    catalog.update("two", manifest("g"))
    with pytest.raises(UnknownFlowError, match="'f' comes from the code location one, which is not served now"):
        await catalog.resolve("f")


def test_what_a_location_had_is_known_from_the_last_server_until_it_has_loaded() -> None:
    catalog = Catalog([location("etl")], {"f": FlowSpec(location="etl", **flow("f"))})
    catalog.remember([FlowSpec(location="other", **flow("o"))])
    assert set(catalog.known("etl")) == {"f"}
    catalog.fail("etl", "no interpreter")
    assert set(catalog.known("etl")) == {"f"}
    catalog.update("etl", manifest("g"))
    assert set(catalog.known("etl")) == {"g"}


async def test_waiting_goes_on_while_locations_come_and_go() -> None:
    catalog = Catalog([location("etl"), location("slow")], {})
    waiting = asyncio.ensure_future(catalog.wait_ready())
    await asyncio.sleep(0)
    catalog.add(location("new"))
    catalog.update("etl", manifest("a"))
    catalog.remove("slow")
    await asyncio.sleep(0)
    assert not waiting.done(), "the new one has not reported"
    catalog.update("new", manifest("b"))
    await waiting

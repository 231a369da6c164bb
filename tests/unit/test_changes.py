"""What differs between two manifests."""

from __future__ import annotations

from typing import Any

import pytest

from pullcord.core.changes import FlowChange, compare
from pullcord.core.manifest import FlowSpec

STRING, NUMBER = {"type": "string"}, {"type": "number"}


def flow(name: str = "f", version: str = "1", **more: Any) -> dict[str, FlowSpec]:
    """Make a manifest of one flow."""
    facts: dict[str, Any] = {
        "place": "f.py:3", "description": "", "input_schema": {"properties": {"day": STRING}},
        "settings": {"timeout": None, "tags": []}, "is_async": False,
    }  # fmt: skip
    return {name: FlowSpec(name=name, location="etl", version=version, **(facts | more))}


def inputs(**properties: Any) -> dict[str, Any]:
    """Make an input schema."""
    return {"properties": properties}


def test_the_same_is_no_change() -> None:
    assert compare({}, {}) == []
    assert compare(flow(), flow()) == []
    assert compare(flow(), flow(place="f.py:99", description="other words")) == []


def test_flows_come_and_go_in_the_order_of_their_names() -> None:
    before, after = flow("b") | flow("c"), flow("a", "7") | flow("c")
    added, removed = compare(before, after)
    assert added == FlowChange("a", "added", (None, "7"))
    assert removed == FlowChange("b", "removed", ("1", None))
    assert (added.sentence(), removed.sentence()) == ("a added", "b removed")


def test_another_version_alone_is_a_change() -> None:
    (change,) = compare(flow(), flow(version="2"))
    assert change.as_json() == {
        "flow": "f", "change": "changed", "version": {"before": "1", "after": "2"}, "inputs": {}, "settings": {},
    }  # fmt: skip
    assert change.sentence() == "f changed (version 1 to 2)"


REFERRED = {"properties": {"day": {"$ref": "#/$defs/Day"}, "plain": STRING}}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (inputs(day=STRING), inputs(day=STRING, shop=STRING), {"shop": "added"}),
        (inputs(day=STRING), inputs(), {"day": "removed"}),
        (inputs(day=STRING), {}, {"day": "removed"}),
        (inputs(day=STRING), inputs(day=NUMBER), {"day": "changed"}),
        (inputs(day=STRING), {**inputs(day=STRING), "required": ["day"]}, {"day": "changed"}),
        ({**REFERRED, "$defs": {"Day": STRING}}, {**REFERRED, "$defs": {"Day": NUMBER}}, {"day": "changed"}),
        (inputs(old=STRING, day=NUMBER), inputs(new=STRING, day=NUMBER), {"new": "added", "old": "removed"}),
    ],
)
def test_inputs_are_compared_one_by_one(before: Any, after: Any, expected: dict[str, str]) -> None:
    (change,) = compare(flow(input_schema=before), flow(input_schema=after))
    assert change.inputs == expected
    assert all(f"input {name} {what}" in change.sentence() for name, what in expected.items())


def test_settings_are_shown_before_and_after() -> None:
    after = {"timeout": 300.0, "tags": ["a", "b"], "isolated": True}
    (change,) = compare(flow(), flow(settings=after, is_async=True))
    assert change.as_json()["settings"] == {
        "async": {"before": False, "after": True}, "isolated": {"before": None, "after": True},
        "tags": {"before": [], "after": ["a", "b"]}, "timeout": {"before": None, "after": 300.0},
    }  # fmt: skip
    words = "async off to on, isolated none to on, tags none to a, b, timeout none to 300.0"
    assert change.sentence() == f"f changed ({words})"

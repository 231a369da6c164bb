"""Completion triggers: what can be declared, and circles of flows that would start one another."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pullcord as pc
from pullcord.core.completion import CompletionTrigger, cycles
from pullcord.core.errors import DefinitionError
from pullcord.core.manifest import TriggerSpec


def spec(target: str, *of: str, name: str = "", kind: str = "completion") -> TriggerSpec:
    settings = json.dumps({"of": list(of), "on": ["succeeded"], "mapped": False})
    return TriggerSpec(
        name or f"{target}-after-{'-'.join(of)}", kind, "etl", (target,), "f.py:1", "", True, "{}", settings
    )


def closed(*fresh: TriggerSpec, known: tuple[TriggerSpec, ...] = ()) -> list[tuple[str, list[str]]]:
    return [(item.name, path) for item, path in cycles(fresh, known)]


def test_what_goes_on_and_on_is_no_circle() -> None:
    assert closed(spec("b", "a"), spec("c", "a", "b"), spec("d", "b", "c"), spec("z", "y")) == []


def test_the_one_that_closes_a_circle_is_told_with_the_way() -> None:
    assert closed(spec("b", "a"), spec("c", "b"), spec("a", "c")) == [("a-after-c", ["c", "a", "b", "c"])]


def test_a_flow_after_itself_is_a_circle() -> None:
    assert closed(spec("a", "a"), spec("b", "b", "a")) == [("a-after-a", ["a", "a"]), ("b-after-b-a", ["b", "b"])]


def test_what_is_known_already_stays_and_what_is_refused_closes_nothing() -> None:
    assert closed(spec("a", "b"), spec("c", "b"), known=(spec("b", "a"),)) == [("a-after-b", ["b", "a", "b"])]
    assert [name for name, _ in closed(spec("a", "a", "b"), spec("b", "a"))] == ["a-after-a-b"]


def test_other_kinds_start_nothing_here() -> None:
    assert closed(spec("a", "a", kind="event")) == []


def test_a_chain_of_thousands_of_flows_is_no_trouble() -> None:
    chain = [spec(str(number + 1), str(number)) for number in range(5000)]
    ((name, path),) = closed(spec("0", "5000", name="last"), known=tuple(chain))
    assert (name, len(path)) == ("last", 5002)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=25))
def test_what_is_let_through_never_goes_round(edges: list[tuple[int, int]]) -> None:
    specs = [spec(str(b), str(a), name=f"t{number}") for number, (a, b) in enumerate(edges)]
    found = cycles(specs, [])
    refused = {item.name for item, _ in found}
    left = [edge for number, edge in enumerate(edges) if f"t{number}" not in refused]
    remaining = set(range(7))
    while True:  # take away what starts nothing that is left
        ends = {flow for flow in remaining if not any(a == flow and b in remaining for a, b in left)}
        if not ends:
            break
        remaining -= ends
    assert not remaining
    for item, path in found:
        assert path[0] == path[-1] and path[1] == item.flows[0]


@pytest.mark.parametrize(
    ("of", "options", "says"),
    [
        ([], {}, "needs the flow"),
        (7, {}, "the flow that ends"),
        (["a", None], {}, "the flow that ends"),
        ("a", {"on": "running"}, "running"),
        ("a", {"on": []}, "on="),
        ("a", {"on": ["succeeded", "lost"]}, "succeeded"),
        ("a", {"inputs": "made"}, "inputs="),
        ("a", {"inputs": len}, "inputs="),
        ("a", {"name": "two words"}, "no trigger name"),
        ("a", {"parameters": {"at": object()}}, "JSON"),
        ("a", {"enabled": 1}, "enabled"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_declared(of: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        pc.completion(of, **options)


def test_flows_are_named_by_themselves_or_by_name() -> None:
    @pc.flow
    def one() -> None: ...

    trigger = CompletionTrigger([one, "two", "one"], on=["failed", "cancelled"])
    assert trigger.settings() == {"of": ["one", "two"], "on": ["failed", "cancelled"], "mapped": False}

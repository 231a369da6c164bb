"""What steps say about being cancelled, and what runs say about steps that were cut off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pullcord as pc
from pullcord.core.errors import DefinitionError
from pullcord.core.interruption import MOST, filled, partial_of
from pullcord.core.step import Step


def store(path: Path, part: int = 1, *more: str, **options: str) -> None:
    """Stand for a step that writes."""


def step(**how: Any) -> Step[..., Any]:
    declared: Step[..., Any] = pc.step(**how)(store)
    return declared


def test_a_step_stops_unless_it_says_otherwise() -> None:
    assert not step().finishes
    assert not step(on_cancel="stop").finishes
    assert step(on_cancel="finish").finishes
    assert step().writes == ()


@pytest.mark.parametrize("value", ["never", "", None, True])
def test_cancelling_means_nothing_else(value: Any) -> None:
    with pytest.raises(DefinitionError, match="on_cancel must be 'stop' or 'finish'"):
        step(on_cancel=value)


@pytest.mark.parametrize(
    ("writes", "said"),
    [
        ("orders.parquet", ["orders.parquet"]),
        ("{path}", ["a/b.txt"]),
        ("{path.name}, part {part:03d}", ["b.txt, part 001"]),
        (["{path}", "{path}.index"], ["a/b.txt", "a/b.txt.index"]),
        (("{more[0]}",), ["{more[0]}"]),
        ("{options[x]}{{}}", ["{options[x]}{{}}"]),
        ("{part:%Y}", ["{part:%Y}"]),
    ],
)
def test_what_a_step_writes_is_a_pattern_over_its_parameters(writes: Any, said: list[str]) -> None:
    assert step(writes=writes).written_by((Path("a/b.txt"),), {}) == said


def test_a_call_that_does_not_fit_the_signature_says_the_patterns() -> None:
    assert step(writes="{path}").written_by((), {}) == ["{path}"]


@pytest.mark.parametrize("writes", ["", [], [""], 7, ["a", 7], {"a"}, "{", "{nothing}", "{}", "{0}", "{nothing.name}"])
def test_a_pattern_that_cannot_work_is_refused_where_it_is_declared(writes: Any) -> None:
    with pytest.raises(DefinitionError, match="writes of step 'store'"):
        step(writes=writes)


def test_what_an_argument_says_of_itself_does_no_harm() -> None:
    class Rude:
        def __format__(self, spec: str) -> str:
            raise RuntimeError(spec)

    said = filled(["{rude}", "{fine}"], {"rude": Rude(), "fine": "a\0b\ud800"})
    assert said == ["{rude}", "a\N{REPLACEMENT CHARACTER}b?"]
    assert len(filled(["{long}"], {"long": "x" * 10_000})[0]) == 500


def test_a_partial_run_names_each_step_once_and_what_it_writes() -> None:
    assert partial_of([("load", []), ("store", ["a", "b"]), ("load", []), ("store", ["b", "c"])]) == {
        "steps": ["load", "store"],
        "text": "step load was interrupted in 2 calls; "
        "step store was interrupted in 2 calls and may have left a, b, c half-written",
    }


def test_very_many_things_are_counted() -> None:
    text = partial_of([("store", [str(number) for number in range(MOST + 5)])])["text"]
    assert text.endswith(f"{MOST - 1} and 5 more half-written")


@given(st.lists(st.tuples(st.text(min_size=1), st.lists(st.text()))))
def test_every_interrupted_step_is_named(interrupted: list[tuple[str, list[str]]]) -> None:
    partial = partial_of(interrupted)
    assert set(partial["steps"]) == {name for name, _ in interrupted}
    assert len(partial["steps"]) == len(set(partial["steps"]))
    assert all(f"step {name} was interrupted" in partial["text"] for name in partial["steps"])

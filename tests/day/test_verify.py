"""What must be true after a day: each check finds what it is there for, and is silent where all is well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pullcord.clock import rfc3339
from tests.day import verify
from tests.day.operations import OPERATIONS, available
from tests.day.pace import MINUTE, Pace
from tests.day.verify import QUARTER
from tests.day.world import Facts

NOON = 1_800_000_000_000_000


def run(number: int, flow: str = "chain", state: str = "succeeded", **more: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "id": f"run{number}", "flow": flow, "state": state, "error": None, "inputs": {"intent": number},
        "parent_id": None, "rerun_of": None, "resumed_from": None, "takeovers": 0, "test": False,
        "request_id": f"request{number}",
        "trigger": {"kind": "manual", "name": None},
    }  # fmt: skip
    return facts | more


def noted(number: int, *steps: int, flow: str = "chain", at: float = 0.0) -> list[dict[str, Any]]:
    return [
        {"run": f"run{number}", "flow": flow, "kind": "step", "what": step, "at": at + place}
        for place, step in enumerate(steps)
    ]


def by_id(*runs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["id"]: item for item in runs}


def receipt(number: int, flow: str = "chain", request: int | None = None) -> dict[str, Any]:
    return {"run_id": f"run{number}", "flow": flow, "request_id": f"request{request or number}", "replayed": False}


ENDS = [
    (run(1), True),
    (run(1, state="running"), False),
    (run(1, state="cancelled"), False),
    (run(7, state="cancelled"), True),
    (run(8, "child", "cancelled", parent_id="run7"), True),
    (run(1, state="failed", error={"type": "ByChanceError", "message": "by chance"}), True),
    (run(1, state="failed", error={"type": "KeyError", "message": "x"}), False),
    (run(1, state="failed", error={"type": "worker_lost", "message": "gone"}, takeovers=3), True),
    (run(1, state="failed", error={"type": "worker_lost", "message": "gone"}, takeovers=2), False),
]


@pytest.mark.parametrize(("item", "good"), ENDS)
def test_ends(item: dict[str, Any], good: bool) -> None:
    facts = Facts(cancelled={"run7"})
    runs = by_id(run(7, state="cancelled"), item)
    assert bool(list(verify._ends(facts, runs))) is not good


@pytest.mark.parametrize(
    ("given", "good"),
    [(receipt(1), True), (receipt(2), False), (receipt(1, "x"), False), (receipt(1, "chain", 9), False)],
)
def test_receipts(given: dict[str, Any], good: bool) -> None:
    assert bool(list(verify._receipts(Facts(receipts=[given]), by_id(run(1))))) is not good


def test_one_intent_is_one_run() -> None:
    one, two = run(1), run(2, inputs={"intent": 1})
    assert not list(verify._once(Facts(), [one, run(3), two | {"rerun_of": "run1"}]))
    assert list(verify._once(Facts(), [one, two]))
    numbers = [run(number, "counted", inputs={"number": number}) for number in (1, 2)]
    assert not list(verify._once(Facts(numbers=2), numbers))
    assert list(verify._once(Facts(numbers=3), numbers))


def tick(at: int, name: str = "steady") -> dict[str, Any]:
    trigger = {"kind": "cron", "name": name}
    return {"scheduled_for": rfc3339(at), "outcome": "admitted", "trigger": trigger, "origin": None}


def test_ticks() -> None:
    began = NOON - NOON % QUARTER
    ticks = [tick(began + number * QUARTER) for number in range(1, 9)]
    ended = began + 8 * QUARTER + MINUTE
    assert not list(verify._ticks(ticks, began, ended))
    assert list(verify._ticks(ticks[:3] + ticks[4:], began, ended))
    assert list(verify._ticks([*ticks, ticks[3]], began, ended))
    assert not list(verify._ticks([*ticks, ticks[3] | {"origin": {"resumed_from": "run1"}}], began, ended))


def test_followers() -> None:
    after = run(2, "follower", inputs={"of": "run1"}, trigger={"kind": "completion", "name": "follow"})
    assert not list(verify._followers([run(1), after, run(3, test=True)]))
    assert list(verify._followers([run(1)]))
    assert list(verify._followers([run(1), after, after | {"id": "run9"}]))


def executed(*steps: int, **more: Any) -> Iterator[str]:
    return verify._executions(by_id(run(1, **more)), noted(1, *steps))


def test_executions() -> None:
    assert not list(executed(0, 1, 2))
    assert not list(executed(0, 1, 1, 2, takeovers=1))
    assert list(executed(0, 1, 1, 2))
    assert list(executed(0, 1, 0, 1, 2, takeovers=1)), "a step that had a record ran again"
    assert list(executed(0, 1)), "it succeeded without its last step"
    assert list(executed(1, 2))
    assert not list(executed(1, 2, resumed_from="run0"))
    assert list(verify._executions({}, noted(1, 0)))
    assert not list(verify._executions({}, noted(1, 2, flow="brief"))), (
        "it is forgotten, and went on with another's steps"
    )


def test_overlaps() -> None:
    one, two = noted(1, 0, 1, 2, flow="single"), noted(2, 0, 1, 2, flow="single", at=1.5)
    assert not list(verify._overlaps([*one, *noted(2, 0, 1, 2, flow="single", at=3.0)]))
    assert list(verify._overlaps([*one, *two]))
    assert list(verify._overlaps([one[0] | {"kind": "overlap"}]))


def test_overlaps_are_counted_by_key_and_by_group() -> None:
    def begun(number: int, flow: str, key: str = "") -> list[dict[str, Any]]:
        lines = noted(number, 0, 1, 2, flow=flow)
        return [lines[0] | {"kind": "begin", "what": key}, *lines]

    apart = [line for number, key in enumerate("abcd") for line in begun(number, "regional", key)]
    assert not list(verify._overlaps(apart))
    assert list(verify._overlaps([*apart, *begun(9, "regional", "a")]))
    assert list(verify._overlaps([*apart, *begun(9, "member")])), "the group has four places"


def test_a_clock_that_is_fast() -> None:
    pace = Pace(NOON, 240.0)
    assert pace.environment == {"PULLCORD_TEST_PACE": f"{NOON} 240.0"}


def test_what_a_server_does_not_have_is_left_out() -> None:
    assert set(available({("post", "/v1/runs")})) < set(OPERATIONS)
    assert "rerun" not in available({("post", "/v1/runs")})

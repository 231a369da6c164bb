"""Whatever a flow says, its worker lives: what the server could not read is refused where it is said."""

from __future__ import annotations

from tests.system.harness import FLOWS, Start, together

ENDS = {
    "deep details": "UsageError",
    "long number": "UsageError",
    "recipient": "UsageError",
    "described": "UsageError",
    "deep schema": "UsageError",
    "deep child": "InvalidInputsError",
    "long child": "InvalidInputsError",
    "deep result": "ResultError",
    "deep error": "StepFailedError",
    "numbered logger": "said",
    "logger": "said",
    "progress": "said",
}


def test_what_the_server_could_not_read_costs_no_worker(serve: Start) -> None:
    server = serve(FLOWS / "saying.py")
    ways = list(ENDS)
    runs = together(len(ways), lambda number: server.api.result("says", {"way": ways[number]}))
    assert {way: run["result"] for way, run in zip(ways, runs, strict=True)} == ENDS
    assert [run["takeovers"] for run in runs] == [0] * len(runs)
    assert "broke the protocol" not in server.says

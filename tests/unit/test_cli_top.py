"""What `pullcord top` makes of metrics, and how it fits a screen."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pullcord.cli.snapshot import Figures, Watcher
from pullcord.cli.topview import screen
from pullcord.client import Page
from pullcord.histogram import RUN_SECONDS, Histogram


def exposed(histogram: Histogram, name: str = "h") -> Figures:
    """Return a histogram as Prometheus shows it."""
    lines = [f"# TYPE {name} histogram"]
    lines += [f'{name}_bucket{{le="{bound}"}} {count}' for bound, count in histogram.buckets()]
    return Figures("\n".join([*lines, f"{name}_sum {histogram.sum}", f"{name}_count {histogram.count}", ""]))


@given(st.lists(st.floats(0, RUN_SECONDS[-1]), min_size=1), st.floats(0.01, 1.0))
def test_a_quantile_lies_in_the_bucket_that_the_value_lies_in(values: list[float], share: float) -> None:
    histogram = Histogram(RUN_SECONDS)
    for value in values:
        histogram.observe(value)
    found = exposed(histogram).quantile("h", share)
    assert found is not None
    bounds = [0.0, *RUN_SECONDS]
    wanted = share * len(values)
    upper = next(bound for bound in RUN_SECONDS if sum(value <= bound for value in values) >= wanted)
    assert bounds[bounds.index(upper) - 1] <= found <= upper * (1 + 1e-9)


def test_a_quantile_of_nothing_is_none_and_beyond_the_last_bound_it_is_that() -> None:
    histogram = Histogram(RUN_SECONDS)
    assert exposed(histogram).quantile("h", 0.95) is None
    assert Figures("").quantile("h", 0.95) is None
    histogram.observe(1e9)
    assert exposed(histogram).quantile("h", 0.95) == RUN_SECONDS[-1]


class Told:
    """A client whose server has admitted so many requests."""

    def __init__(self, *admitted: int) -> None:
        self._admitted = iter(admitted)
        self.runs = self

    def ready(self) -> dict[str, Any]:
        return {"ready": True, "locations": {}, "failures": [], "parts": []}

    def metrics(self) -> str:
        return (
            "# TYPE pullcord_requests_total counter\n"
            f'pullcord_requests_total{{code="",outcome="admitted",trigger="manual"}} {next(self._admitted)}\n'
        )

    def list(self, **_: Any) -> Page:
        return Page()


def test_rates_are_over_the_last_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 101.0, 103.0, 110.0, 111.0])
    # Not `time.monotonic` itself: a thread that another test has left would take one of them.
    monkeypatch.setattr("pullcord.cli.snapshot.time", SimpleNamespace(monotonic=lambda: next(times)))
    watcher = Watcher(Told(10, 30, 40, 180, 5))  # type: ignore[arg-type]
    rates = [watcher.look()["rates"]["admitted"] for _ in range(4)]
    assert rates == [None, 20.0, 10.0, 20.0]  # the last one since 103 s, of which more than five seconds have passed
    assert watcher.look()["rates"]["admitted"] is None  # another server counts from zero


def shot(flows: int = 40, locations: int = 3, failures: int = 8) -> dict[str, Any]:
    """Return a snapshot of a server with much to do and in trouble."""
    return {
        "version": "1", "uptime": 93784.2, "ready": False,
        "parts": [{"name": "store", "ready": False, "detail": "the disk is full"}],
        "runs": {"running": 1200, "queued": 53000}, "queue_oldest": 4000.0,
        "rates": {"admitted": 1234.5, "refused": 3.2, "ended": 900.1, "failed": 0.0, "commits": 88.0},
        "store": {"up": False, "size_bytes": 12_345_678_901, "free_bytes": 0, "write_queue": 3, "commit_p95": 0.2},
        "flows": [
            {"flow": f"flow-{number}", "longest": None, "p95": 0.3, "ended": number, "failed": 0}
            for number in range(flows)
        ],
        "locations": [
            {
                "location": f"place-{number}", "up": number != 1, "flows": 12, "failures": int(number == 2),
                "workers": 5, "runs": 200,
                "room": 1132, "room_used": 200, "resident_bytes": 4e8, "loop_lag": 0.0, "replaced": 0,
            }
            for number in range(locations)
        ],
        "failures": [
            {
                "run_id": "01a1fc28-9ab2-77a6-8da0-363ad2883a51", "flow": "flow-1", "ended_at": "2026-11-21T03:26:52Z",
                "error": {"type": "ValueError", "message": "two\nlines \x1b[2J and tricks " + "x" * 200},
            }
        ] * failures,
    }  # fmt: skip


@pytest.mark.parametrize("width", [76, 80, 100, 140])
@pytest.mark.parametrize("height", [24, 30, 50])
def test_it_fits_the_screen(width: int, height: int) -> None:
    target = Console(width=width, height=height, file=io.StringIO(), force_terminal=True, color_system=None)
    with target.capture() as capture:
        target.print(screen(shot(), "http://127.0.0.1:8321", "no server answers", (width, height)))
    lines = capture.get().splitlines()
    assert len(lines) <= height
    assert all(len(line.rstrip()) <= width for line in lines)
    text = "\n".join(lines)
    for needed in ("not ready", "the disk is full", "CANNOT WRITE", "53,000 queued", "no server", "flow-0", "place-2"):
        assert needed in text
    assert "\x1b[2J" not in text


def test_with_room_enough_all_is_shown() -> None:
    target = Console(width=200, file=io.StringIO())
    with target.capture() as capture:
        target.print(screen(shot(), "here"))
    text = capture.get()
    assert all(f"flow-{number}" in text for number in range(40))
    assert text.count("01a1fc28-9ab2-77a6-8da0-363ad2883a51") == 8
    assert "1 not loaded" in text and "down" in text and "1,234/s" in text and "3.2/s" in text

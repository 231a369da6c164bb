"""What `pullcord top` shows, as plain values: gathered from `/readyz`, `/metrics` and the list of failed runs."""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from pullcord.client import Client

WINDOW: Final = 5.0
"""Seconds that rates are taken over."""

FAILURES: Final = 8
"""How many failed runs are shown."""

Labels = dict[str, str]


class Figures:
    """The samples of one scrape.

    Args:
        text: Prometheus' text format.
    """

    def __init__(self, text: str) -> None:
        self._samples: dict[str, list[tuple[Labels, float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples.setdefault(sample.name, []).append((sample.labels, sample.value))

    def all(self, name: str, **labels: str) -> list[tuple[Labels, float]]:
        """Return the samples of a name that have these labels."""
        return [each for each in self._samples.get(name, []) if labels.items() <= each[0].items()]

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of a name that have these labels."""
        return sum(value for _, value in self.all(name, **labels))

    def by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """Return the sums for each value of a label."""
        result: dict[str, float] = {}
        for found, value in self.all(name, **labels):
            result[found[label]] = result.get(found[label], 0.0) + value
        return result

    def quantile(self, name: str, share: float, **labels: str) -> float | None:
        """Return the value that a share of a histogram's values lies below, taken to lie evenly in their bucket.

        None where there are no values; above the last bound it is that bound.
        """
        buckets = sorted((float(found["le"]), value) for found, value in self.all(f"{name}_bucket", **labels))
        total = buckets[-1][1] if buckets else 0.0
        if not total:
            return None
        wanted, lower, before = share * total, 0.0, 0.0
        for bound, count in buckets:
            if count >= wanted:
                if bound == float("inf"):
                    return lower
                return lower + (bound - lower) * (wanted - before) / (count - before)
            lower, before = bound, count
        return lower


class Watcher:
    """Looks at a server again and again, and knows what has changed.

    Args:
        client: speaks to the server.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._earlier: deque[tuple[float, dict[str, float]]] = deque()

    def look(self) -> dict[str, Any]:
        """Return how the server is now; the rates are None the first time.

        Raises:
            PullcordError: it does not answer, or not as it should.
        """
        ready = self._client.ready()
        figures = Figures(self._client.metrics())
        failures = self._client.runs.list(state="failed", limit=FAILURES)
        started = figures.sum("process_start_time_seconds")
        build = figures.all("pullcord_build_info")
        return {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "version": build[0][0]["version"] if build else None,
            "uptime": round(max(0.0, time.time() - started), 1) if started else None,
            "ready": ready["ready"],
            "parts": ready["parts"],
            "runs": {state: int(value) for state, value in figures.by("pullcord_runs", "state").items()},
            "queue_oldest": figures.sum("pullcord_queue_oldest_seconds"),
            "rates": self._rates(figures),
            "store": _store(figures),
            "flows": _flows(figures),
            "locations": _locations(figures),
            "failures": [
                {"run_id": run["id"], "flow": run["flow"], "ended_at": run["ended_at"], "error": run["error"]}
                for run in failures
            ],
        }

    def _rates(self, figures: Figures) -> dict[str, float | None]:
        now = time.monotonic()
        totals = {
            "admitted": figures.sum("pullcord_requests_total", outcome="admitted"),
            "refused": figures.sum("pullcord_requests_total", outcome="rejected"),
            "ended": figures.sum("pullcord_runs_ended_total"),
            "failed": figures.sum("pullcord_runs_ended_total", state="failed"),
            "commits": figures.sum("pullcord_commits_total"),
        }
        if self._earlier and any(totals[name] < value for name, value in self._earlier[-1][1].items()):
            self._earlier.clear()  # another server counts from zero
        while len(self._earlier) > 1 and now - self._earlier[1][0] >= WINDOW:
            self._earlier.popleft()
        self._earlier.append((now, totals))
        at, before = self._earlier[0]
        return {
            name: round((value - before[name]) / (now - at), 2) if now > at else None for name, value in totals.items()
        }


def _store(figures: Figures) -> dict[str, Any]:
    return {
        "up": figures.sum("pullcord_store_up") == 1,
        "size_bytes": int(figures.sum("pullcord_store_size_bytes")),
        "free_bytes": int(figures.sum("pullcord_data_free_bytes")),
        "write_queue": int(figures.sum("pullcord_write_queue")),
        "commit_p95": figures.quantile("pullcord_commit_duration_seconds", 0.95),
    }


def _flows(figures: Figures) -> list[dict[str, Any]]:
    """Return all flows that have run since the server started; those with the oldest run, then the slowest, first."""
    ended = figures.by("pullcord_runs_ended_total", "flow")
    failed = figures.by("pullcord_runs_ended_total", "flow", state="failed")
    longest = figures.by("pullcord_run_longest_seconds", "flow")
    flows = [
        {
            "flow": name,
            "longest": longest.get(name),
            "p95": figures.quantile("pullcord_run_duration_seconds", 0.95, flow=name),
            "ended": int(number),
            "failed": int(failed.get(name, 0)),
        }
        for name, number in ended.items()
    ]
    return sorted(flows, key=lambda each: (-(each["longest"] or 0.0), -(each["p95"] or 0.0), each["flow"]))


def _locations(figures: Figures) -> list[dict[str, Any]]:
    return [
        {
            "location": name,
            "up": up == 1,
            "flows": int(figures.sum("pullcord_flows", location=name)),
            "failures": int(figures.sum("pullcord_location_failures", location=name)),
            "workers": int(figures.sum("pullcord_workers", location=name)),
            "runs": int(figures.sum("pullcord_worker_runs", location=name)),
            "room": int(figures.sum("pullcord_worker_room", location=name)),
            "room_used": int(figures.sum("pullcord_worker_room_used", location=name)),
            "resident_bytes": int(figures.sum("pullcord_worker_resident_bytes", location=name)),
            "loop_lag": figures.sum("pullcord_worker_loop_lag_seconds", location=name),
            "replaced": int(figures.sum("pullcord_worker_replacements_total", location=name)),
        }
        for name, up in figures.by("pullcord_location_up", "location").items()
    ]

"""`/metrics` in Prometheus' text format. Imported with the first scrape: the client library takes a while to load.

On the way of runs only plain integers are counted, where things happen; here they become Prometheus' samples.
"""

from __future__ import annotations

import asyncio
import platform
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import CollectorRegistry

import pullcord
from pullcord.api.metrics import COUNTER, GAUGE, METRICS
from pullcord.api.traffic import Traffic
from pullcord.app import App
from pullcord.core.errors import StoreError
from pullcord.core.states import ENDED, RunState, StepState
from pullcord.histogram import Histogram
from pullcord.services.pruner import LOGS
from pullcord.store.commands.prune import ARTIFACTS, HISTORY, REQUESTS, RUNS
from pullcord.store.connection import Connection
from pullcord.store.queries.flows import counts, oldest_queued
from pullcord.store.queries.outbox import outbox_figures

ROLES: Final = ("control", "shared", "alone")

PATIENCE: Final = 2.0
"""Seconds to wait for the store; then the metrics are told without it."""

_ENDS: Final = (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED)

Values = Mapping[Any, float | Histogram]
"""A figure for each combination of label values: a text, a tuple of texts, or `()` without labels."""


Stored = tuple[dict[str, int], int | None, int, dict[str, Any]]
"""Runs by state, when the oldest queued run was queued, the database's size, and how much is in the outbox."""


class Exposition:
    """Everything that is measured in one server.

    Args:
        app: the running app.
        traffic: its HTTP calls.
    """

    def __init__(self, app: App, traffic: Traffic) -> None:
        self._app = app
        self._traffic = traffic
        self._registry = CollectorRegistry(auto_describe=False)
        PlatformCollector(registry=self._registry)
        ProcessCollector(registry=self._registry)
        self._stored: Stored | None = None
        self._reading: asyncio.Future[Stored] | None = None
        self._registry.register(self)

    async def text(self) -> bytes:
        """Return the metrics; without those that only the store knows while it cannot be read."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._app.store.read(_stored))
        # A database that hangs gets one question, not one from every scrape.
        await asyncio.wait({self._reading}, timeout=PATIENCE)
        self._stored = None
        if self._reading.done():
            reading, self._reading = self._reading, None
            with suppress(StoreError):
                self._stored = await reading
        return await asyncio.to_thread(generate_latest, self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics of Pullcord's own; called by the client library, on a thread."""
        values = {**self._runs(), **self._triggers(), **self._workers(), **self._store(), **self._server()}
        for name in METRICS:
            if name in values:
                yield _family(name, values[name])

    def _runs(self) -> dict[str, Values]:
        now, statistics = self._app.clock.now(), self._app.engine.statistics
        flows = dict(statistics.flows)
        return self._from_the_store(now) | {
            "pullcord_requests_total": {
                (outcome, code or "", trigger): number
                for (outcome, code, trigger), number in self._app.gate.decided.copy().items()
            },
            "pullcord_runs_ended_total": {
                (flow, state): each.ended[state] for flow, each in flows.items() for state in _ENDS
            },
            "pullcord_run_retries_total": {flow: each.retries for flow, each in flows.items()},
            "pullcord_run_queue_seconds": {flow: each.waited for flow, each in flows.items()},
            "pullcord_run_duration_seconds": {flow: each.took for flow, each in flows.items()},
            "pullcord_run_longest_seconds": statistics.longest(now),
            "pullcord_run_takeovers_total": {
                reason: statistics.takeovers[reason] for reason in ("crashed", "moved", "restart")
            },
            "pullcord_steps_total": {
                state: statistics.steps[state] for state in (StepState.SUCCEEDED, StepState.FAILED, StepState.RETRYING)
            },
        }

    def _from_the_store(self, now: int) -> dict[str, Values]:
        if self._stored is None:
            return {}
        states, oldest, size, outbox = self._stored
        unsent = outbox["oldest"]
        return {
            "pullcord_runs": {state: states.get(state, 0) for state in RunState if state not in ENDED},
            "pullcord_queue_oldest_seconds": {(): 0 if oldest is None else max(0.0, (now - oldest) / 1_000_000)},
            "pullcord_store_size_bytes": {(): size},
            "pullcord_notifications": {state: outbox[state] for state in ("pending", "failed")},
            "pullcord_notification_oldest_seconds": {(): 0 if unsent is None else max(0.0, (now - unsent) / 1_000_000)},
        }

    def _triggers(self) -> dict[str, Values]:
        now, registry, kinds = self._app.clock.now(), self._app.registry, self._app.kinds
        known = Counter((record.kind, record.health(now, registry.served(record))) for record in registry.all())
        return {
            "pullcord_triggers": known,
            "pullcord_polls_total": kinds.events.polled.copy(),
            "pullcord_poll_lateness_seconds": {(): kinds.events.lateness},
            "pullcord_schedule_lateness_seconds": {(): kinds.schedules.lateness},
            "pullcord_notifications_sent_total": self._app.notifier.sent.copy(),
        }

    def _workers(self) -> dict[str, Values]:
        engine = self._app.engine
        fleets = {name: list(fleet.workers) for name, fleet in engine.fleets.items()}
        states = engine.catalog.states
        room = [(*lane.rpartition("#")[::2], capacity, taken) for lane, capacity, taken in engine.room.usage()]
        return {
            "pullcord_location_up": {
                name: int(state.reported.is_set() and state.down is None) for name, state in states.items()
            },
            "pullcord_location_failures": {name: len(state.failures) for name, state in states.items()},
            "pullcord_flows": {name: len(state.flows) for name, state in states.items()},
            "pullcord_workers": {
                (name, role): sum(worker.role == role and worker.ready for worker in workers)
                for name, workers in fleets.items()
                for role in ROLES
            },
            "pullcord_worker_runs": {
                name: sum(len(worker.assigned) for worker in workers) for name, workers in fleets.items()
            },
            "pullcord_worker_room": {(location, way): capacity for location, way, capacity, _ in room},
            "pullcord_worker_room_used": {(location, way): taken for location, way, _, taken in room},
            "pullcord_worker_resident_bytes": {
                name: sum(worker.resident for worker in workers) for name, workers in fleets.items()
            },
            "pullcord_worker_loop_lag_seconds": {
                name: max((worker.behind for worker in workers), default=0) for name, workers in fleets.items()
            },
            "pullcord_worker_replacements_total": engine.statistics.replacements.copy(),
        }

    def _store(self) -> dict[str, Values]:
        store = self._app.store
        written = store.statistics
        return {
            "pullcord_store_up": {(): int(written.failing is None and store.alive and self._stored is not None)},
            "pullcord_commits_total": {(): written.seconds.count},
            "pullcord_commit_duration_seconds": {(): written.seconds},
            "pullcord_commit_commands": {(): written.commands},
            "pullcord_write_queue": {(): store.waiting},
            "pullcord_store_failures_total": written.failures.copy(),
            "pullcord_pruned_total": {
                kind: self._app.pruner.totals[kind] for kind in (RUNS, REQUESTS, HISTORY, ARTIFACTS, LOGS)
            },
            "pullcord_data_free_bytes": {(): shutil.disk_usage(self._app.data_dir).free},
        }

    def _server(self) -> dict[str, Values]:
        traffic = self._traffic
        answers: Counter[tuple[str, str, int]] = traffic.answers.copy()
        return {
            "pullcord_http_requests_total": {
                (method, route, str(status)): number for (method, route, status), number in answers.items()
            },
            "pullcord_http_request_duration_seconds": dict(traffic.seconds),
            "pullcord_http_streams": {(): traffic.streams},
            "pullcord_loop_lag_seconds": {(): self._app.lag.seconds},
            "pullcord_build_info": {(pullcord.__version__, platform.python_version()): 1},
        }


def _stored(connection: Connection) -> Stored:
    return counts(connection), oldest_queued(connection), connection.size(), outbox_figures(connection)


def _family(name: str, values: Values) -> Metric:
    metric = METRICS[name]
    family: Any
    if metric.kind == COUNTER:
        family = CounterMetricFamily(name.removesuffix("_total"), metric.help, labels=metric.labels)
    elif metric.kind == GAUGE:
        family = GaugeMetricFamily(name, metric.help, labels=metric.labels)
    else:
        family = HistogramMetricFamily(name, metric.help, labels=metric.labels)
    for labels, value in values.items():
        texts = list(labels) if isinstance(labels, tuple) else [str(labels)]
        if isinstance(value, Histogram):
            family.add_metric(texts, value.buckets(), value.sum)
        else:
            family.add_metric(texts, value)
    result: Metric = family
    return result

"""The names of all metrics, with their types, labels and meanings. `exposition` fills them in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: as Prometheus shows it; counters end in `_total`.
        kind: `counter`, `gauge` or `histogram`. Counters and histograms begin anew with the server.
        help: what it says.
        labels: what its figures are divided by.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


METRICS: Final = {
    metric.name: metric
    for metric in (
        # requests and runs
        Metric(
            "pullcord_requests_total", COUNTER,
            "Requests that the gate decided on, dry runs left out. `code` is empty unless something was refused.",
            ("outcome", "code", "trigger"),
        ),
        Metric("pullcord_runs", GAUGE, "Runs that have not ended, by state.", ("state",)),
        Metric("pullcord_queue_oldest_seconds", GAUGE, "How long the oldest queued run has waited; 0 without one."),
        Metric(
            "pullcord_runs_ended_total", COUNTER, "Runs that ended, test runs left out, by the state they ended in.",
            ("flow", "state"),
        ),
        Metric("pullcord_run_retries_total", COUNTER, "Further attempts of runs that failed.", ("flow",)),
        Metric(
            "pullcord_run_queue_seconds", HISTOGRAM, "Time from being queued to the first start, test runs left out.",
            ("flow",),
        ),
        Metric(
            "pullcord_run_duration_seconds", HISTOGRAM, "Time from the first start to the end, test runs left out.",
            ("flow",),
        ),
        Metric(
            "pullcord_run_longest_seconds", GAUGE, "How long the oldest run in a worker has been going, by flow.",
            ("flow",),
        ),
        Metric(
            "pullcord_run_takeovers_total", COUNTER,
            "Runs that lost their worker and were taken from it. `crashed`: its process died, and the run may be why; "
            "`moved`: the worker had to go for another reason; `restart`: an earlier server left them.",
            ("reason",),
        ),
        Metric("pullcord_steps_total", COUNTER, "Step records that were written.", ("state",)),
        # triggers
        Metric(
            "pullcord_triggers", GAUGE, "Triggers that are known, those that have left the code as `orphaned`.",
            ("kind", "health"),
        ),
        Metric("pullcord_polls_total", COUNTER, "Polls of events: `fire`, `skip` or `failed`.", ("outcome",)),
        Metric("pullcord_poll_lateness_seconds", HISTOGRAM, "How much later than it was due a poll of an event left."),
        Metric(
            "pullcord_schedule_lateness_seconds", HISTOGRAM,
            "Time from the moment a tick of a schedule was due until its request was on disk.",
        ),
        # notifications
        Metric(
            "pullcord_notifications", GAUGE, "Notifications that are `pending`, and those given up as `failed`.",
            ("state",),
        ),
        Metric("pullcord_notification_oldest_seconds", GAUGE, "How long the oldest pending notification has waited."),
        Metric(
            "pullcord_notifications_sent_total", COUNTER,
            "Tries to send a notification: `delivered`, `retried` (it will be tried again) or `failed` (given up).",
            ("channel", "outcome"),
        ),
        # locations and workers
        Metric("pullcord_location_up", GAUGE, "1 when a location's code is loaded, else 0.", ("location",)),
        Metric("pullcord_location_failures", GAUGE, "Places in a location that could not be loaded.", ("location",)),
        Metric("pullcord_flows", GAUGE, "Flows that can run.", ("location",)),
        Metric("pullcord_workers", GAUGE, "Worker processes that are ready.", ("location", "role")),
        Metric("pullcord_worker_runs", GAUGE, "Runs in the workers of a location, waiting ones too.", ("location",)),
        Metric(
            "pullcord_worker_room", GAUGE, "How many runs the ready workers can take at once, by way of running.",
            ("location", "way"),
        ),
        Metric("pullcord_worker_room_used", GAUGE, "How much of that room is taken.", ("location", "way")),
        Metric("pullcord_worker_resident_bytes", GAUGE, "Memory of a location's workers.", ("location",)),
        Metric(
            "pullcord_worker_loop_lag_seconds", GAUGE, "How late the latest event loop of a location's workers is.",
            ("location",),
        ),
        Metric(
            "pullcord_worker_replacements_total", COUNTER,
            "Workers that another one replaced: `crashed`, `reload`, `memory`, `silent`, `blocked` (its event loop), "
            "`stuck` (a thread that does not stop), `protocol`, `template` (the process it was forked from died).",
            ("location", "reason"),
        ),
        # the store
        Metric("pullcord_store_up", GAUGE, "0 when the last write failed, else 1."),
        Metric("pullcord_commits_total", COUNTER, "Transactions that were committed."),
        Metric("pullcord_commit_duration_seconds", HISTOGRAM, "Time that a transaction took, until it was on disk."),
        Metric("pullcord_commit_commands", HISTOGRAM, "Commands written by one transaction."),
        Metric("pullcord_write_queue", GAUGE, "Commands that wait for the next transaction."),
        Metric(
            "pullcord_store_failures_total", COUNTER, "Commands that could not be written, by error code.", ("code",)
        ),
        Metric("pullcord_store_size_bytes", GAUGE, "Size of the database."),
        Metric(
            "pullcord_pruned_total", COUNTER,
            "Runs, requests, lines of histories, artifacts and logs that were kept long enough and deleted.", ("kind",),
        ),
        Metric("pullcord_data_free_bytes", GAUGE, "Free space on the disk of the data folder."),
        # the server
        Metric("pullcord_http_requests_total", COUNTER, "HTTP calls, by route.", ("method", "route", "status")),
        Metric(
            "pullcord_http_request_duration_seconds", HISTOGRAM,
            "Time of HTTP calls, what they wait for included; streams of events are left out.", ("route",),
        ),
        Metric("pullcord_http_streams", GAUGE, "Streams of events that are open."),
        Metric("pullcord_loop_lag_seconds", HISTOGRAM, "How late the server's event loop is, measured twice a second."),
        Metric("pullcord_build_info", GAUGE, "Always 1; the labels say what runs.", ("version", "python")),
    )
}  # fmt: skip
"""Every metric of Pullcord's own, by name, in the order in which they are shown."""

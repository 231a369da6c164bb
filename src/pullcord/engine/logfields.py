"""The fields that log lines about workers and runs carry, so that a log can be searched by them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pullcord.engine.worker import WorkerHandle
    from pullcord.store.commands.claim import Claimed


def worker_fields(worker: WorkerHandle) -> dict[str, Any]:
    """Return what a line about a worker says: `location`, `worker_pid`, `role`."""
    return {"location": worker.fleet.location.name, "worker_pid": worker.pid, "role": worker.role}


def run_fields(run: Claimed) -> dict[str, Any]:
    """Return what a line about a run says: `run_id`, `request_id`, `flow`, `location`."""
    return {
        "run_id": run.uuid,
        "request_id": run.request_uuid,
        "flow": run.flow,
        "location": run.lane.rpartition("#")[0],
    }

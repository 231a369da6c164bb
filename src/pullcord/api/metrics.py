"""`/metrics` in Prometheus' text format: what the store and the workers say now."""

from __future__ import annotations

from pullcord.app import App
from pullcord.core.states import ENDED, RunState
from pullcord.store.queries.flows import counts


async def exposition(app: App) -> bytes:
    """Return the metrics."""
    states = await app.store.read(counts)
    lines = [
        "# HELP pullcord_runs Runs that have not ended, by state.",
        "# TYPE pullcord_runs gauge",
        *(f'pullcord_runs{{state="{state}"}} {states.get(state, 0)}' for state in RunState if state not in ENDED),
        "# HELP pullcord_commits_total Transactions since the server started.",
        "# TYPE pullcord_commits_total counter",
        f"pullcord_commits_total {app.store.commits}",
        "# HELP pullcord_workers Worker processes, by location and role.",
        "# TYPE pullcord_workers gauge",
    ]
    for name, fleet in app.engine.fleets.items():
        label = name.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        for role in ("control", "shared", "alone"):
            number = sum(worker.role == role and worker.ready for worker in fleet.workers)
            lines.append(f'pullcord_workers{{location="{label}",role="{role}"}} {number}')
    return ("\n".join(lines) + "\n").encode()

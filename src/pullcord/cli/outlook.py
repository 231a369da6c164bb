"""What is ahead of a flow, for people: when it runs next, what keeps it from running, and what waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pullcord.cli.cadence import cadence
from pullcord.cli.details import draw_facts, quotas
from pullcord.cli.output import local
from pullcord.cli.pausing import paused
from pullcord.core.errors import NotFoundError

if TYPE_CHECKING:
    from pullcord.client import Client

COUNTED: Final = 100
"""Waiting runs are counted up to here."""


def outlook(client: Client, flow: str) -> dict[str, Any] | None:
    """Return a flow's triggers, next runs, and how many runs wait and go on; None when it is not in the code.

    It is `{"next_runs", "paused", "settings", "triggers", "queued", "running"}`.
    """
    try:
        item = client.flows.get(flow)
    except NotFoundError:
        return None
    return {
        "next_runs": item["next_runs"],
        "paused": item["paused"],
        "settings": item["settings"],
        "triggers": [item for item in client.triggers.iter(flow=flow) if item["removed_at"] is None],
        "queued": len(client.runs.list(flow=flow, state="queued", limit=COUNTED)),
        "running": len(client.runs.list(flow=flow, state="running", limit=COUNTED)),
    }


def draw_outlook(ahead: dict[str, Any]) -> None:
    """Draw what is ahead of a flow; nothing where nothing is."""
    facts: list[tuple[str, Any]] = [("flow", paused(ahead)), ("limits", ", ".join(quotas(ahead["settings"])))]
    for item in sorted(ahead["triggers"], key=lambda item: (item["next_due"] or "9", item["name"])):
        asks = cadence(item["kind"], item["settings"])
        late = ", and is skipped while the flow is paused" if ahead["paused"] and item["health"] == "ok" else ""
        facts.append(
            (item["name"], f"{_future(item)}{late}" + (f" ({item['kind']}, {asks})" if asks else f" ({item['kind']})"))
        )
    waiting = [f"{_counted(ahead[what])} {what}" for what in ("queued", "running") if ahead[what]]
    facts.append(("runs", ", ".join(waiting)))
    if any(text for _, text in facts):
        draw_facts(facts)
        draw_facts([("", " ")])


def _future(item: dict[str, Any]) -> str:
    """Return in words what a trigger does next."""
    override = item["override"] or {"enabled": None}
    if item["health"] == "unserved":
        return f"does nothing: {item['location']} is not served"
    if item["health"] == "disabled":
        if override["enabled"] is None:
            return "does nothing: it is not enabled in the code"
        until = f" until {local(override['until'])}" if override["until"] else f" at {local(override['at'])}"
        return f"does nothing: {override['by']} disabled it{until}" + _because(override["reason"])
    if item["health"] == "failing":
        count = item["consecutive_errors"]
        times = "the last poll failed" if count == 1 else f"{count} polls in a row failed"
        return f"is failing: {times}, {item['error']}; it is tried again {local(item['next_due'])}"
    if item["kind"] == "event":
        return "looks again " + local(item["next_due"])
    return f"asks next {local(item['next_due'])}" if item["next_due"] else "waits"


def _because(reason: str | None) -> str:
    return f": {reason}" if reason else ""


def _counted(number: int) -> str:
    return f"{COUNTED} or more" if number >= COUNTED else str(number)

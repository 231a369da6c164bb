"""Triggers, their histories and previews, for people."""

from __future__ import annotations

import json
from typing import Any

from pullcord.cli.cadence import cadence
from pullcord.cli.details import draw_facts
from pullcord.cli.failing import clean
from pullcord.cli.output import ago, coloured, draw, local, narrow, parse_time, table
from pullcord.core.trigger import AT, SCHEDULES, WEBHOOK


def draw_list(items: list[dict[str, Any]]) -> None:
    """Draw triggers: what they start, when they ask, and how they are."""
    small = narrow(150)
    headers = ["trigger", "kind", "flows", "asks", "next", "last fired", "health"]
    rows = [_row(item, small) for item in items]
    draw(table(*headers, rows=rows, whole=("trigger", "kind", "next", "last fired", "health")))


def _row(item: dict[str, Any], small: bool) -> list[Any]:
    due, fired = item["next_due"], item["last_fired_at"]
    asks = cadence(item["kind"], item["settings"])
    if item["override"] is not None and item["override"]["settings"]:
        asks += " (changed)"
    return [
        item["name"],
        item["kind"],
        ", ".join(item["flows"]),
        asks,
        ago(due) if small else local(due),
        ago(fired) if small else local(fired),
        coloured(item["health"]),
    ]


def draw_trigger(item: dict[str, Any]) -> None:
    """Draw a trigger: facts, and beside what people changed the code's value, who changed it, when and why."""
    declared, override = item["declared"], item["override"]
    draw_facts(
        [
            ("trigger", item["name"]),
            ("id", item["id"]),
            ("kind", item["kind"]),
            ("flows", ", ".join(item["flows"])),
            ("asks", cadence(item["kind"], item["settings"])),
            ("address", f"POST /v1/hooks/{item['name']}" if item["kind"] == WEBHOOK else None),
            ("health", coloured(item["health"])),
            ("left code", _left(item)),
            ("enabled", _enabled(item)),
            ("next", local(item["next_due"])),
            ("last poll", local(item["last_poll_at"])),
            ("last fired", local(item["last_fired_at"])),
            ("errors", f"{item['consecutive_errors']} in a row" if item["consecutive_errors"] else None),
            ("error", item["error"]),
            ("cursor", _cursor(item)),
            ("place", item["place"]),
            ("location", item["location"]),
        ]
    )
    if item["description"]:
        draw_facts([("", item["description"])])
    for title in ("settings", "parameters"):
        if item[title] or declared[title]:
            rows = [
                [f"  {name}", _json(item[title], name), _json(declared[title], name) if differs else ""]
                for name in sorted(item[title].keys() | declared[title].keys())
                for differs in [_json(item[title], name) != _json(declared[title], name)]
            ]
            draw(table(f"\n{title}", "\nvalue", "\nin the code", rows=rows))
    if override is not None:
        why = f": {override['reason']}" if override["reason"] else ""
        draw_facts([("", ""), ("changed", f"by {override['by']}, {local(override['at'])}{why}")])


def _left(item: dict[str, Any]) -> str | None:
    if item["removed_at"] is None:
        return None
    return f"{local(item['removed_at'])}; it does nothing any more, and its history is kept"


def _enabled(item: dict[str, Any]) -> str:
    text, override = "yes" if item["enabled"] else "no", item["override"] or {"enabled": None, "until": None}
    if override["until"] is not None:
        text += f", until {local(override['until'])}"
    if override["enabled"] is not None and override["enabled"] != item["declared"]["enabled"]:
        text += f" (in the code: {'yes' if item['declared']['enabled'] else 'no'})"
    return text


def _cursor(item: dict[str, Any]) -> str | None:
    if item["cursor"] is None or item["kind"] == AT:
        return None
    return local(item["cursor"]) if item["kind"] in SCHEDULES else json.dumps(item["cursor"], ensure_ascii=False)


def _json(values: dict[str, Any], name: str) -> str:
    return json.dumps(values[name], ensure_ascii=False) if name in values else ""


def draw_history(items: list[dict[str, Any]]) -> None:
    """Draw lines of a history."""
    small = narrow(110)
    rows = [
        [
            ago(item["last_at"]) if small else local(item["last_at"]),
            coloured(item["outcome"]),
            _said(item),
        ]
        for item in items
    ]
    draw(table("time", "outcome", "what", rows=rows, whole=("time", "outcome")))


def _said(item: dict[str, Any]) -> str:
    """Return what a line says, how often, who changed something, and which runs there were."""
    detail = item["detail"] if isinstance(item["detail"], dict) else {}
    text = item["reason"] or ""
    if item["count"] > 1:
        text += f" ({item['count']} times since {parse_time(item['at']).astimezone():%Y-%m-%d %H:%M:%S})"
    if item["outcome"] == "changed" and "by" in detail:
        text += f" (by {detail['by']})"
    return "\n".join([text.strip(), *(f"run {run}" for run in detail.get("runs", []))]).strip()


def draw_preview(preview: dict[str, Any]) -> None:
    """Draw what a trigger would do: coming ticks and what clocks and blackouts do to them, or what a poll saw."""
    if "ticks" in preview:
        rows = [[tick["local"], _tick(tick), ", ".join(tick["notes"])] for tick in preview["ticks"]]
        if rows:
            draw(table("tick", "", "notes", rows=rows, whole=("tick", "")))
        else:
            draw("it asks no more")
        return
    from rich.text import Text

    error = preview["error"] or {}
    draw_facts(
        [
            ("outcome", coloured({"fire": "fired", "skip": "skipped"}.get(preview["outcome"], preview["outcome"]))),
            ("reason", preview["reason"]),
            ("error", f"{error['type']}: {error['message']}" if error else None),
            ("cursor", json.dumps(preview["cursor"], ensure_ascii=False)),
            ("took", f"{preview['took_ms']:g} ms"),
        ]
    )
    if error.get("traceback"):
        draw(Text(clean(error["traceback"].rstrip())))
    if preview["fires"]:
        rows = [[fire["key"] or "", json.dumps(fire["context"], ensure_ascii=False)] for fire in preview["fires"]]
        draw(table("key", "inputs", rows=rows))


def _tick(tick: dict[str, Any]) -> Any:
    if not tick["fires"]:
        return coloured("skipped")
    return f"fires at {parse_time(tick['due']).astimezone():%H:%M:%S}" if tick["due"] != tick["at"] else "fires"

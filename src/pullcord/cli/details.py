"""One run or flow in full, for people."""

from __future__ import annotations

import json
from typing import Any

from pullcord.cli.again import changed_inputs
from pullcord.cli.failing import clean
from pullcord.cli.follow import error_line
from pullcord.cli.inputs import accepted_types, property_of
from pullcord.cli.output import STYLES, coloured, draw, duration, length, local, table, trigger, when, who
from pullcord.cli.pausing import paused


def draw_run(run: dict[str, Any]) -> None:
    """Draw a run: facts, inputs, steps, result or error."""
    facts: list[tuple[str, Any]] = [
        ("run", run["id"]),
        ("flow", f"{run['flow']} (version {run['flow_version']})"),
        ("state", coloured(run["state"])),
        ("asked by", f"{who(run['invoker'])} through {run['source']} ({trigger(run['trigger'])})"),
        ("reason", run["reason"]),
        ("queued", when(run["queued_at"])),
        ("not before", when(run["not_before"])),
        ("expires", when(run["expires_at"]) if run["started_at"] is None else None),
        ("started", when(run["started_at"])),
        ("ended", when(run["ended_at"])),
        ("took", duration(run["started_at"], run["ended_at"])),
        ("progress", _progress(run["progress"])),
        ("attempt", str(run["attempt"]) if run["attempt"] > 1 else None),
        ("take-overs", str(run["takeovers"]) if run["takeovers"] else None),
        ("parent", run["parent_id"]),
        ("re-run of", run["rerun_of"]),
        ("resumed from", run["resumed_from"]),
        ("test", "yes" if run["test"] else None),
        ("waits for", (run["waiting_for"] or {}).get("text")),
        ("partial", (run["partial"] or {}).get("text")),
        ("cancel", _cancel(run["cancel"])),
    ]
    draw_facts(facts)
    if run["changes"]:
        _heading("changed inputs")
        for line in changed_inputs(run["changes"]):
            _text(f"  {line}")
    if len(run["attempts"]) > 1:
        _heading("attempts")
        draw(table("  #", "state", "started", "took", "error", rows=[_attempt(it) for it in run["attempts"]]))
    if run["inputs"]:
        _heading("inputs")
        draw_facts([(f"  {name}", json.dumps(value, ensure_ascii=False)) for name, value in run["inputs"].items()])
    if run["steps"]:
        _heading("steps")
        draw(table("  #", "step", "state", "try", "took", "result", rows=[_step(step) for step in run["steps"]]))
    if run["error"] is not None:
        _heading("error")
        _text(run["error"].get("traceback") or error_line(run["error"]), STYLES["failed"])
    elif run["state"] == "succeeded":
        _heading("result")
        _text(json.dumps(run["result"], ensure_ascii=False, indent=2))


def draw_flow(flow: dict[str, Any]) -> None:
    """Draw a flow: facts, description, inputs."""
    last = flow["last_run"]
    draw_facts(
        [
            ("flow", flow["name"]),
            ("version", flow["version"]),
            ("place", flow["place"]),
            ("tags", ", ".join(flow["tags"]) or None),
            ("settings", _settings(flow["settings"])),
            ("paused", paused(flow)),
            ("triggers", ", ".join(map(_trigger, flow["triggers"])) or None),
            ("tells", _told(flow["settings"])),
            ("next runs", "\n".join(map(local, flow["next_runs"])) or None),
            ("last run", last and f"{last['state']}, {when(last['queued_at'])}"),
        ]
    )
    if flow["description"]:
        _heading("")
        _text(flow["description"])
    schema = flow["input_schema"]
    names = list(schema.get("properties", {}))
    if not names:
        return
    _heading("inputs")
    rows = [_input(schema, name) for name in names]
    draw(table("  name", "type", "default", "description", rows=rows))


def _told(settings: dict[str, Any]) -> str | None:
    """Return what the code tells to whom; `pullcord notify rules` has the rules of settings and people too."""
    rules = settings.get("notify") or []
    return ", ".join(f"{rule['event']} to {' and '.join(rule['channels'])}" for rule in rules) or None


def _trigger(item: dict[str, Any]) -> str:
    return f"{item['name']} ({item['kind']}" + (")" if item["health"] == "ok" else f", {item['health']})")


def draw_facts(facts: list[tuple[str, Any]]) -> None:
    """Draw names and values; those without a value are left out."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts:
        if value:
            grid.add_row(Text(clean(name)), Text(clean(value)) if isinstance(value, str) else value)
    draw(grid)


def _attempt(attempt: dict[str, Any]) -> list[Any]:
    took = duration(attempt["started_at"], attempt["ended_at"])
    shown = error_line(attempt["error"]) if attempt["error"] else ""
    return [f"  {attempt['attempt']}", coloured(attempt["state"]), when(attempt["started_at"]), took, shown]


def _step(step: dict[str, Any]) -> list[Any]:
    shown = error_line(step["error"]) if step["error"] else _short(step["result"])
    took = duration(step["started_at"], step["ended_at"])
    name = step["name"]
    if step["kept"]:
        name += " (kept)"
    elif step["set_aside"] is not None:
        name += f" (attempt {step['set_aside']})"
    return [f"  {step['seq']}", name, coloured(step["state"]), str(step["attempt"]), took, shown]


def _input(schema: dict[str, Any], name: str) -> list[str]:
    part = property_of(schema, name)
    choices = part.get("enum")
    kind = "/".join(map(str, choices)) if choices else " or ".join(sorted(accepted_types(part))) or "any"
    rules = [part[word] for word in ("format", "pattern") if word in part]
    default = "required" if name in schema.get("required", []) else _short(part.get("default"))
    return [f"  {name}", " ".join([kind, *map(str, rules)]), default, str(part.get("description", ""))]


def _settings(settings: dict[str, Any]) -> str:
    retries = (settings.get("retries") or {}).get("limit")
    parts = [_concurrency(settings.get("concurrency") or {})]
    if retries:
        anew = " from the beginning" if settings["retries"].get("start") == "beginning" else ""
        parts.append(f"up to {retries} retr{'ies' if retries > 1 else 'y'}{anew}")
    if settings.get("timeout"):
        parts.append(f"timeout {length(settings['timeout'])}")
    if settings.get("isolated"):
        parts.append("a process for each run")
    return ", ".join(parts + quotas(settings))


def quotas(settings: dict[str, Any]) -> list[str]:
    """Return in words what a flow takes at most."""
    parts = []
    rate = settings.get("rate")
    if rate:
        whose = " of each invoker" if rate["by"] == "invoker" else ""
        late = "later ones are delayed" if rate["on_limit"] == "delay" else "more are refused"
        parts.append(f"{rate['limit']} requests{whose} in {length(rate['per'])}, {late}")
    if settings.get("max_queued") is not None:
        parts.append(f"at most {settings['max_queued']} wait")
    if settings.get("queue_ttl"):
        parts.append(f"none waits longer than {length(settings['queue_ttl'])}")
    if settings.get("suspend_after"):
        parts.append(f"paused after {settings['suspend_after']} failures in a row")
    return parts


_POLICIES = {
    "skip": "others are skipped",
    "reject": "others are refused",
    "buffer_one": "one more waits, others are skipped",
    "cancel_running": "a new one takes the place of the oldest",
}


def _concurrency(rule: dict[str, Any]) -> str:
    """Say in words how many runs may be active at once."""
    limit, key, group = rule.get("limit"), rule.get("key"), rule.get("group")
    words = "any number of runs at once" if limit is None else f"{limit} run{'s' if limit > 1 else ''} at once"
    if key is not None:
        words += f" for each {key}"
    if limit is not None and rule.get("on_conflict") in _POLICIES:
        words += f" ({_POLICIES[rule['on_conflict']]})"
    return words if group is None else f"{words}, sharing the limit of the group {group['name']}"


def _progress(progress: dict[str, Any] | None) -> str | None:
    if progress is None:
        return None
    count = f"{progress['done']:,.15g}" + ("" if progress["total"] is None else f" of {progress['total']:,.15g}")
    return f"{count} {progress['text'] or ''}".rstrip()


def _cancel(cancel: dict[str, Any] | None) -> str | None:
    if cancel is None:
        return None
    how = ", by force" if cancel["force"] else ""
    return f"by {cancel['by']}, {when(cancel['at'])}{how}" + (f": {cancel['reason']}" if cancel["reason"] else "")


def _short(value: Any, limit: int = 60) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _heading(text: str) -> None:
    from rich.text import Text

    draw(Text(f"\n{text}" if text else "", style="bold"))


def _text(text: str, style: str = "") -> None:
    from rich.text import Text

    draw(Text(clean(text.rstrip()), style=style))

"""How `pullcord top` looks: a screen made of what a snapshot says."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pullcord.cli.failing import clean
from pullcord.cli.follow import error_line
from pullcord.cli.output import STYLES, ago, length

FEWEST_FLOWS: Final = 3
"""So many flows are shown on the smallest screen."""

NARROW: Final = 100
"""A screen with fewer columns shows less of each thing."""


def screen(
    shot: dict[str, Any], where: str, trouble: str | None = None, size: tuple[int, int] | None = None
) -> RenderableType:
    """Draw a snapshot.

    Args:
        shot: what `Watcher.look` returned.
        where: what server it is, in words.
        trouble: why there is nothing newer, or None.
        size: columns and lines that there are; None shows all.
    """
    head = [_title(shot, where), *_parts(shot), _runs(shot), _rates(shot["rates"]), _store(shot)]
    if trouble is not None:
        head.append(Text(clean(trouble), style="bold red", no_wrap=True, overflow="ellipsis"))
    narrow = size is not None and size[0] < NARROW
    left = None if size is None else size[1] - len(head) - len(shot["locations"]) - 7
    failures = shot["failures"] if left is None else shot["failures"][: max(0, left // 3)]
    room = None if left is None else max(FEWEST_FLOWS, left - len(failures))
    blocks: list[RenderableType] = [*head, Text(""), _locations(shot["locations"], narrow), Text("")]
    blocks.append(_flows(shot["flows"][:room]))
    if failures:
        blocks += [Text(""), _failures(failures, narrow)]
    return Group(*blocks)


def _title(shot: dict[str, Any], where: str) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append("pullcord", "bold")
    line.append(f" {shot['version'] or ''} ")
    line.append("ready" if shot["ready"] else "not ready", "green" if shot["ready"] else "bold red")
    if shot["uptime"] is not None:
        line.append(f", up {length(shot['uptime'])}")
    line.append(f", at {clean(where)}")
    return line


def _parts(shot: dict[str, Any]) -> list[Text]:
    """Return a line for each part that is not ready."""
    return [
        Text(clean(f"  {part['name']}: {part['detail']}"), style="red", no_wrap=True, overflow="ellipsis")
        for part in shot["parts"]
        if not part["ready"]
    ]


def _runs(shot: dict[str, Any]) -> Text:
    runs = shot["runs"]
    line = Text(no_wrap=True, overflow="ellipsis")
    for state in ("running", "waiting", "queued", "scheduled", "cancelling"):
        number = runs.get(state, 0)
        if not number and state not in ("running", "queued"):
            continue
        line.append(f"{number:,} ", "bold" if number else "dim")
        line.append(state, STYLES.get(state, "") if number else "dim")
        if state == "queued" and number:
            line.append(f" (for {length(shot['queue_oldest'])})", "yellow" if shot["queue_oldest"] > 60 else "")
        line.append("   ")
    return line


def _rates(rates: dict[str, float | None]) -> Text:
    line = Text(no_wrap=True, overflow="ellipsis")
    for name in ("admitted", "ended", "failed", "refused"):
        rate = rates[name]
        line.append(f"{name} ", "dim")
        line.append(f"{_rate(rate)}   ", "red" if name in ("failed", "refused") and rate else "")
    return line


def _store(shot: dict[str, Any]) -> Text:
    store = shot["store"]
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append("store ", "dim")
    line.append("writes" if store["up"] else "CANNOT WRITE", "" if store["up"] else "bold red")
    line.append(f"   {_size(store['size_bytes'])}, {_size(store['free_bytes'])} free")
    line.append(f"   {_rate(shot['rates']['commits'])} commits")
    if store["commit_p95"] is not None:
        line.append(f", 95 % within {length(store['commit_p95'])}")
    line.append(f"   {store['write_queue']:,} writes wait")
    return line


def _locations(locations: list[dict[str, Any]], narrow: bool) -> Table:
    more = () if narrow else ("replaced",)
    table = _table(("location", ""), ("flows", "workers", "runs", "room", "memory", "late", *more))
    for each in locations:
        state = Text("up", "green") if each["up"] else Text("down", "bold red")
        if each["up"] and each["failures"]:
            state = Text(f"{each['failures']} not loaded", "yellow")
        table.add_row(
            Text(clean(each["location"]), no_wrap=True, overflow="ellipsis"), state, f"{each['flows']:,}",
            f"{each['workers']:,}", f"{each['runs']:,}", f"{each['room_used']:,} of {each['room']:,}",
            _size(each["resident_bytes"]), length(each["loop_lag"]), *([] if narrow else [f"{each['replaced']:,}"]),
        )  # fmt: skip
    return table


def _flows(flows: list[dict[str, Any]]) -> Table:
    table = _table(("flow",), ("longest now", "95 % within", "ended", "failed"))
    for each in flows:
        table.add_row(
            Text(clean(each["flow"]), no_wrap=True, overflow="ellipsis"),
            "" if each["longest"] is None else length(each["longest"]),
            "" if each["p95"] is None else length(each["p95"]),
            f"{each['ended']:,}", Text(f"{each['failed']:,}", "red" if each["failed"] else "dim"),
        )  # fmt: skip
    return table


def _failures(failures: list[dict[str, Any]], narrow: bool) -> Table:
    table = _table(("failed", "flow", "why") if narrow else ("failed", "run", "flow", "why"))
    table.columns[0].min_width = len("59 min ago")
    if not narrow:
        table.columns[1].min_width = len(failures[0]["run_id"])
    for each in failures:
        why = "" if each["error"] is None else error_line(each["error"])
        flow = Text(clean(each["flow"]), no_wrap=True, overflow="ellipsis")
        text = Text(why.replace("\n", " "), "red", no_wrap=True, overflow="ellipsis")
        table.add_row(ago(each["ended_at"]), *([] if narrow else [each["run_id"]]), flow, text)
    return table


def _table(texts: tuple[str, ...], numbers: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for header in texts:
        table.add_column(header, no_wrap=True)
    for header in numbers:
        table.add_column(header, justify="right", no_wrap=True)
    return table


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}/s" if value >= 10 else f"{value:.1f}/s"


def _size(number: int) -> str:
    size = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"

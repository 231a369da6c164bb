"""`pullcord stats`: figures of one flow or of all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pullcord.cli.connect import connect
from pullcord.cli.options import All, DataDir, Json, Limit

if TYPE_CHECKING:
    from rich.text import Text

_BARS: Final = "▁▂▃▄▅▆▇█"
_NOTHING: Final = "·"
"""A period in which no run ended."""

WIDEST: Final = 40
"""Periods in a line of bars; neighbours are put together where there are more."""


def stats(
    flow: Annotated[
        str | None, typer.Argument(metavar="[FLOW]", help="One flow; all of them unless given.", show_default=False)
    ] = None,
    window: Annotated[
        str | None,
        typer.Option("--window", help="How far back, like 7d; for one flow several, like 24h,30d.", show_default=False),
    ] = None,
    limit: Limit = 200,
    everything: All = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show how runs ended, how long they took and waited, and what they processed; tests are left out."""
    from pullcord.cli.output import emit

    with connect(data_dir) as client:
        if flow is not None:
            answer = client.flows.stats(flow, window)
        else:
            page = client.flows.all_stats(window, limit=1000 if everything else limit)
            answer = page.as_json()
            while everything and page.next is not None:
                page = client.flows.all_stats(window, limit=1000, cursor=page.next)
                answer = {"items": answer["items"] + list(page), "next": page.next}
    if as_json:
        emit(answer)
    elif flow is not None:
        _draw_flow(answer)
    else:
        _draw_all(answer)


def _draw_all(answer: dict[str, Any]) -> None:
    from pullcord.cli.output import ago, draw, table
    from pullcord.cli.runs import say_more

    items = answer["items"]
    if not items:
        typer.echo("no flows")
        return
    rows = [
        [
            item["flow"], str(item["runs"]), share(item["success_rate"]), seconds(item["duration"]["median"]),
            seconds(item["duration"]["p95"]), streak(item["streak"]),
            ago((item["last_success"] or {"ended_at": None})["ended_at"]), outcomes(item["series"]),
        ]
        for item in items
    ]  # fmt: skip
    headers = ("flow", "runs", "success", "median", "p95", "in a row", "last success", f"last {items[0]['window']}")
    draw(table(*headers, rows=rows, whole=("flow", headers[-1])))
    say_more(answer["next"])


def _draw_flow(answer: dict[str, Any]) -> None:
    from pullcord.cli.details import draw_facts
    from pullcord.cli.output import draw, table, when

    windows = answer["windows"]
    last = {name: when((answer[name] or {"ended_at": None})["ended_at"]) for name in ("last_success", "last_failure")}
    facts = [
        ("flow", answer["flow"]),
        ("last success", last["last_success"] or "none"),
        ("last failure", last["last_failure"] or "none"),
        ("in a row", streak(answer["streak"]) or "none"),
        ("usually takes", seconds(answer["usual_duration"]) or "not known yet"),
        ("figures since", when(answer["since"]) or "no run has ended"),
    ]
    draw_facts(facts)
    typer.echo("")
    lines: list[tuple[str, Any]] = [
        ("runs", lambda item: str(item["runs"])),
        ("succeeded", lambda item: str(item["states"]["succeeded"])),
        ("failed", lambda item: str(item["states"]["failed"])),
        ("cancelled", lambda item: str(item["states"]["cancelled"])),
        ("success", lambda item: share(item["success_rate"])),
        ("took, median", lambda item: seconds(item["duration"]["median"])),
        ("took, p95", lambda item: seconds(item["duration"]["p95"])),
        ("took, mean", lambda item: seconds(item["duration"]["mean"])),
        ("took, longest", lambda item: seconds(item["duration"]["longest"])),
        ("queued, median", lambda item: seconds(item["queue_time"]["median"])),
        ("queued, p95", lambda item: seconds(item["queue_time"]["p95"])),
        ("records", lambda item: "" if item["records"] is None else f"{item['records']:,.0f}"),
        ("retries", lambda item: str(item["retries"])),
        ("take-overs", lambda item: str(item["takeovers"])),
        ("outcomes", lambda item: outcomes(item["series"])),
        ("durations", lambda item: durations(item["series"])),
    ]
    rows = [[label, *(cell(item) for item in windows)] for label, cell in lines]
    draw(table("", *(item["window"] for item in windows), rows=rows, whole=("",)))


def share(rate: float | None) -> str:
    """Return a rate in per cent; never 100 % where something failed, nor 0 % where something succeeded."""
    if rate is None:
        return ""
    return f"{rate:.0%}" if rate in (0, 1) else f"{min(max(100 * rate, 0.1), 99.9):.1f}%"


def seconds(value: float | None) -> str:
    """Return a length of time, or nothing."""
    from pullcord.cli.output import length

    return "" if value is None else length(value)


def streak(value: dict[str, Any] | None) -> str:
    """Return how many runs in a row ended alike: `12 succeeded`, `at least 12 succeeded`."""
    return "" if value is None else f"{'at least ' if value['at_least'] else ''}{value['count']} {value['state']}"


def outcomes(series: list[dict[str, Any]]) -> Text:
    """Return a bar for each period: how many runs ended in it, red where one failed."""
    from rich.text import Text

    parts = _joined(series)
    most = max((_count(part) for part in parts), default=0)
    words = Text(no_wrap=True)
    for part in parts:
        count, failed = _count(part), any(period["failed"] for period in part)
        words.append(bar(count, most), style="red" if failed else "green" if count else "dim")
    return words


def durations(series: list[dict[str, Any]]) -> Text:
    """Return a bar for each period: how long its runs took, the longest of the medians where some are put together."""
    from rich.text import Text

    longest = [max((period["median"] or 0 for period in part), default=0) for part in _joined(series)]
    return Text("".join(bar(value, max(longest)) for value in longest), no_wrap=True)


def bar(value: float, most: float) -> str:
    """Return a character as high as a value, of the highest one."""
    return _BARS[min(len(_BARS) - 1, int(value / most * len(_BARS)))] if value and most else _NOTHING


def _count(part: list[dict[str, Any]]) -> int:
    return sum(period[state] for period in part for state in ("succeeded", "failed", "cancelled"))


def _joined(series: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    size = max(1, -(-len(series) // WIDEST))
    return [series[start : start + size] for start in range(0, len(series), size)]

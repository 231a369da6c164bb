"""`pullcord limits`: how many runs may be active at once, how many are, and how it is changed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pullcord.cli.connect import connect
from pullcord.cli.failing import Group, clean
from pullcord.cli.options import DataDir, Json, Reason
from pullcord.core.errors import UsageError

Name = Annotated[str, typer.Argument(metavar="LIMIT", help="A flow's name, or group:NAME.", show_default=False)]

app = typer.Typer(cls=Group, no_args_is_help=True, help="See how many runs may be active at once, and change it.")


@app.command("list")
def list_limits(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the limits of flows and groups, and how much of each is taken."""
    from pullcord.cli.output import draw, emit, table

    with connect(data_dir) as client:
        page = {"items": list(client.limits.list()), "next": None}
    if as_json:
        emit(page)
        return
    if not page["items"]:
        typer.echo("no limits")
        return
    draw(
        table(
            "limit", "at once", "active", "queued", "for each", "said by",
            rows=[
                [item["name"], _limit(item), str(item["held"]), str(item["queued"]), item["key"] or "", _by(item)]
                for item in page["items"]
            ],
        )
    )  # fmt: skip


@app.command("set")
def set_limit(
    name: Name,
    limit: Annotated[str, typer.Argument(metavar="N", help="How many runs, or `none` for no limit.")],
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Change a limit while the server runs; it holds at once, and until it is reset."""
    with connect(data_dir) as client:
        _say(client.limits.set(name, _number(limit), reason), as_json)


@app.command("reset")
def reset(name: Name, reason: Reason = None, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Have the limit of code and settings hold again."""
    with connect(data_dir) as client:
        _say(client.limits.reset(name, reason), as_json)


def _number(text: str) -> int | None:
    if text.lower() == "none":
        return None
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 2**31 - 1:
        raise UsageError(f"a limit is a whole number of at least 1, or none for no limit, not {text!r}")
    return int(text)


def _say(item: dict[str, Any], as_json: bool) -> None:
    from pullcord.cli.output import emit

    if as_json:
        emit(item)
    else:
        taken = f"{item['held']} active, {item['queued']} queued"
        typer.echo(f"{clean(item['name'])}: {_limit(item)} at once ({_by(item)}); {taken}")


def _limit(item: dict[str, Any]) -> str:
    return "no limit" if item["limit"] is None else str(item["limit"])


def _by(item: dict[str, Any]) -> str:
    override = item["override"]
    if override is not None:
        why = f": {override['reason']}" if override["reason"] else ""
        return clean(f"{override['by']}{why}")
    if item["configured"] is not None:
        return "settings"
    return "code" if item["declared"] is not None else "default"

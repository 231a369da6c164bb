"""`pullcord runs cancel`: one run, several, or all of a flow or state after a look at them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from pullcord.cli.asking import on_terminal, read_line
from pullcord.cli.connect import connect_async
from pullcord.cli.failing import clean, complain, say, status_of
from pullcord.cli.output import ago, coloured, console, draw, emit, table, who
from pullcord.core.errors import NotCancellableError, NotFoundError, PullcordError, UsageError
from pullcord.core.states import ENDED, RunState

if TYPE_CHECKING:
    from pullcord.client import AsyncClient

TOGETHER: Final = 32
"""How many runs are cancelled at once."""

SHOWN: Final = 10
"""How many runs a preview shows."""

_OPEN: Final = tuple(state for state in RunState if state not in ENDED)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asked for.

    Attributes:
        ids: runs by their ids.
        flow: or all runs of a flow that have not ended.
        state: or all runs in a state; with a flow, of that flow.
        force: whether worker processes may be killed.
        reason: why.
        sure: whether not to ask.
        wait: whether to wait until the runs have ended.
        as_json: whether to write JSON.
    """

    ids: Sequence[str]
    flow: str | None
    state: str | None
    force: bool
    reason: str | None
    sure: bool
    wait: bool
    as_json: bool


@dataclass(slots=True)
class Tally:
    """What became of runs that were to be cancelled.

    Attributes:
        runs: those that are cancelled, or on the way to it.
        errors: why others are not, by id.
    """

    runs: list[dict[str, Any]] = field(default_factory=list)
    errors: dict[str, PullcordError] = field(default_factory=dict)


async def cancel_runs(wanted: Wanted, data_dir: Path | None) -> int:
    """Cancel what is wanted and return the exit status.

    Raises:
        UsageError: it is not clear which runs are meant, or nobody is there to say yes.
        PullcordError: a single run that was named cannot be cancelled, or the server cannot be reached.
    """
    chosen = wanted.flow is not None or wanted.state is not None
    if bool(wanted.ids) == chosen:
        raise UsageError("name the runs by their ids, or choose them with --flow and --state")
    if wanted.state is not None and wanted.state not in _OPEN:
        raise UsageError(f"runs that are {wanted.state!r} cannot be cancelled; --state is one of {', '.join(_OPEN)}")
    async with connect_async(data_dir) as client:
        if len(wanted.ids) == 1:
            run = await _cancel(client, wanted.ids[0], wanted)
            emit(run) if wanted.as_json else show(run)
            return 0
        ids = list(dict.fromkeys(wanted.ids)) if wanted.ids else await _choose(client, wanted)
        tally = await _cancel_all(client, ids, wanted)
    if wanted.as_json:
        errors = [{"id": run, "code": e.code, "detail": e.message} for run, e in tally.errors.items()]
        emit({"items": tally.runs, "errors": errors})
    else:
        _report(tally, wanted)
    return max((status_of(error.code) for error in tally.errors.values()), default=0)


def show(run: dict[str, Any]) -> None:
    """Say where a cancelled run is, and what it may have left half done."""
    typer.echo(f"{clean(run['flow'])} is {run['state']} (run {run['id']})")
    if run["partial"] is not None:
        typer.echo(f"partial: {clean(run['partial']['text'])}")


async def _choose(client: AsyncClient, wanted: Wanted) -> list[str]:
    """Return the ids of the runs that are meant, when somebody has seen them and said yes."""
    before = await _find(client, wanted)
    if not before:
        if not wanted.as_json:
            typer.echo("no runs")
        return []
    if wanted.sure:
        return list(before)
    if not on_terminal() or wanted.as_json:
        raise UsageError(f"this would cancel {_count(len(before))}; --yes says that you are sure")
    _preview(list(before.values()))
    console(stderr=True).print(f"Cancel {_count(len(before))}{' by force' if wanted.force else ''}? \\[y/N]: ", end="")
    if (await read_line()).strip().lower() not in ("y", "yes"):
        say("nothing is cancelled")
        raise typer.Exit(1)
    # While somebody read, some may have begun or ended: those are not what was agreed to.
    now = await _find(client, wanted)
    kept = [run for run in before if run in now and now[run]["state"] == before[run]["state"]]
    if len(kept) < len(before):
        say(f"{_count(len(before) - len(kept))} moved on meanwhile, and left alone")
    return kept


async def _find(client: AsyncClient, wanted: Wanted) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for state in _OPEN if wanted.state is None else (wanted.state,):
        if wanted.state is None and state == RunState.CANCELLING and not wanted.force:
            continue
        async for run in client.runs.iter(flow=wanted.flow, state=state):
            found[run["id"]] = run
    return found


def _preview(runs: list[dict[str, Any]]) -> None:
    rows = [
        [
            run["id"],
            run["flow"],
            coloured(run["state"]),
            ago(run["queued_at"] or run["not_before"]),
            who(run["invoker"]),
        ]
        for run in runs[:SHOWN]
    ]
    draw(table("run", "flow", "state", "queued", "who", rows=rows, whole=("run", "state", "queued")))
    if len(runs) > SHOWN:
        states = Counter(run["state"] for run in runs)
        say(f"… and {len(runs) - SHOWN} more; in all " + ", ".join(f"{states[state]} {state}" for state in states))


async def _cancel(client: AsyncClient, run_id: str, wanted: Wanted) -> dict[str, Any]:
    run = await client.runs.cancel(run_id, force=wanted.force, reason=wanted.reason)
    return await client.runs.wait(run_id) if wanted.wait and run["state"] not in ENDED else run


async def _cancel_all(client: AsyncClient, ids: list[str], wanted: Wanted) -> Tally:
    tally, left = Tally(), iter(ids)

    async def work() -> None:
        for run in left:
            try:
                tally.runs.append(await _cancel(client, run, wanted))
            except NotCancellableError as error:
                if wanted.ids:  # a run that was chosen, not named, has ended meanwhile: as it should
                    tally.errors[run] = error
            except NotFoundError as error:
                tally.errors[run] = error
            bar.done()

    async with _progress(len(ids), quiet=wanted.as_json) as bar:
        await asyncio.gather(*(work() for _ in range(min(TOGETHER, len(ids)))))
    return tally


class _Bar:
    """A bar on a terminal, or nothing."""

    def __init__(self, advance: Any = None) -> None:
        self._advance = advance

    def done(self) -> None:
        """One more is done."""
        if self._advance is not None:
            self._advance()


@asynccontextmanager
async def _progress(total: int, quiet: bool) -> AsyncIterator[_Bar]:
    target = console(stderr=True)
    if quiet or not target.is_terminal or total < 2:
        yield _Bar()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("cancelling"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=target, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield _Bar(lambda: bar.advance(task))


def _report(tally: Tally, wanted: Wanted) -> None:
    if wanted.ids:
        for run in tally.runs:
            show(run)
    elif tally.runs:
        states = Counter(run["state"] for run in tally.runs)
        for state, count in states.items():
            typer.echo(f"{_count(count)} {'is' if count == 1 else 'are'} {state}")
        for run in tally.runs:
            if run["partial"] is not None:
                typer.echo(f"{run['id']} is partial: {clean(run['partial']['text'])}")
    for run_id, error in tally.errors.items():
        say(f"run {clean(run_id)}:")
        complain(error)


def _count(number: int) -> str:
    return "1 run" if number == 1 else f"{number:,} runs"

"""`pullcord runs retry-failed`: the morning after an outage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pullcord.cli.failing import FAILED, INTERRUPTED, UNREACHABLE, clean, complain, say, status_of
from pullcord.cli.options import DataDir, Json, Reason
from pullcord.core.errors import PullcordError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pullcord.client import AsyncClient
    from pullcord.gate.request import Receipt

AT_A_TIME: Final = 8
"""So many requests are on their way at once."""

SHOWN: Final = 5
"""So many kinds of refusals and errors are shown at most."""

WHY: Final = {
    "already_retried": "already asked for again",
    "child": "of a run that is itself asked for again, or succeeded",
    "test": "a test run",
    "succeeded_since": "a later run with the same inputs succeeded",
    "code_changed": "the code has changed",
    "unknown_flow": "the flow is gone",
    "flow_paused": "the flow is paused",
    "forbidden": "not permitted",
    "location_unavailable": "the code cannot be loaded now",
}
"""Why runs are left alone, in words; other codes stand for themselves."""


def retry_failed(
    since: Annotated[str, typer.Option("--since", help="Those that failed since a time, or a duration ago, like 12h.")],
    until: Annotated[
        str | None, typer.Option("--until", help="And before a time, or a duration ago.", show_default=False)
    ] = None,
    flow: Annotated[str | None, typer.Option("--flow", help="Of one flow.", show_default=False)] = None,
    error: Annotated[
        str | None, typer.Option("--error", help="With one type of error, like TimeoutError.", show_default=False)
    ] = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="Run them from the beginning; do not keep their recorded steps.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Keep the recorded steps also where the code has changed since.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most as many, the oldest first.")] = 10_000,
    rate: Annotated[float, typer.Option("--rate", min=0.01, help="At most as many in a second.")] = 50.0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    reason: Reason = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Ask again for all runs that failed: first shows which, and which not and why; then asks before it does so.

    Each failed run is resumed: a new run keeps its recorded steps. However often this is done, there is one new run for
    each, and another where that was cancelled. Without --yes, and where there is nobody to ask, it only shows what it
    would do.
    """
    import asyncio

    from pullcord.cli.moments import moment

    wanted = {
        "since": moment(since),
        "until": moment(until),
        "flow": flow,
        "error": error,
        "from_beginning": from_beginning,
        "force": force,
        "reason": reason,
    }
    raise typer.Exit(asyncio.run(_retry(wanted, limit, rate, yes, data_dir, as_json)))


async def _retry(
    wanted: dict[str, Any], limit: int, rate: float, yes: bool, data_dir: Path | None, as_json: bool
) -> int:
    from pullcord.cli.connect import connect_async
    from pullcord.cli.output import emit

    async with connect_async(data_dir) as client:
        plan = await client.runs.retry_failed(dry_run=True, **wanted)
        wanted = wanted | {"cancelled": plan["cancelled"]}
        runs: list[str] = plan["runs"][:limit]
        if not as_json:
            _draw_plan(plan)
        if not runs or not (yes or await _agreed(len(runs), wanted["from_beginning"], as_json)):
            if as_json:
                emit(plan | {"dry_run": False, "errors": []} if yes else plan)
            elif runs:
                say("nothing was done; --yes does it")
            return 0
        receipts: dict[str, Receipt] = {}
        errors: dict[str, PullcordError] = {}
        whole = await _ask_for(client, runs, wanted, rate, receipts, errors, quiet=as_json)
    if as_json:
        asked = [{"origin": run} | receipt.as_json() for run, receipt in receipts.items()]
        failed = [{"origin": run, "code": error.code, "detail": error.message} for run, error in errors.items()]
        emit(plan | {"dry_run": False, "receipts": asked, "errors": failed})
    else:
        _draw_outcome(receipts, plan["more"] or len(runs) < len(plan["runs"]))
    for error in list({error.message: error for error in errors.values()}.values())[:SHOWN]:
        complain(error, as_json)
    if not whole:
        ended = "stopped" if _lost(errors) else "interrupted"
        say(f"{ended} after {len(receipts)} of {len(runs)}; the same command goes on with the others")
        return UNREACHABLE if _lost(errors) else INTERRUPTED
    refused = any(receipt.refused for receipt in receipts.values())
    return FAILED if refused else max((status_of(error.code) for error in errors.values()), default=0)


def _lost(errors: dict[str, PullcordError]) -> bool:
    """Say whether no server answers any more."""
    return any(status_of(error.code) == UNREACHABLE for error in errors.values())


async def _agreed(count: int, from_beginning: bool, as_json: bool) -> bool:
    from pullcord.cli.asking import on_terminal, read_line
    from pullcord.cli.output import console

    if as_json or not on_terminal():
        return False
    what = "run" if from_beginning else "resume"
    question = (
        f"{what.capitalize()} {count} run{'' if count == 1 else 's'}{' again' if from_beginning else ''}? [y/N]: "
    )
    console(stderr=True).print(question, end="", markup=False)
    return (await read_line()).strip().lower() in ("y", "yes")


async def _ask_for(
    client: AsyncClient,
    runs: list[str],
    wanted: dict[str, Any],
    rate: float,
    receipts: dict[str, Receipt],
    errors: dict[str, PullcordError],
    quiet: bool,
) -> bool:
    """Ask for runs again, no faster than wanted; say whether all of them were asked for.

    One that cannot be asked for does not stop the others, unless no server answers any more.
    """
    import asyncio
    import signal

    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, stopped.set)
    slots, began = asyncio.Semaphore(AT_A_TIME), loop.time()

    async def one(run: str, shown: Callable[[], None]) -> None:
        async with slots:
            try:
                receipts[run] = await _one(client, run, wanted)
            except PullcordError as error:
                errors[run] = error
                if status_of(error.code) == UNREACHABLE:
                    stopped.set()
            shown()

    try:
        with _progress(len(runs), quiet) as shown:
            async with asyncio.TaskGroup() as group:
                for number, run in enumerate(runs):
                    pause = began + number / rate - loop.time()
                    if pause > 0:
                        await _pause(stopped, pause)
                    async with slots:
                        pass
                    if stopped.is_set():
                        return False
                    group.create_task(one(run, shown))
    finally:
        loop.remove_signal_handler(signal.SIGINT)
    return not _lost(errors)


async def _pause(stopped: Any, seconds: float) -> None:
    import asyncio
    from contextlib import suppress

    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopped.wait()


async def _one(client: AsyncClient, run: str, wanted: dict[str, Any]) -> Receipt:
    from pullcord.core.retry import retry_key

    key = retry_key(run, wanted["cancelled"].get(run))
    options = {"reason": wanted["reason"], "idempotency_key": key, "raise_on_refusal": False}
    if wanted["from_beginning"]:
        return await client.runs.rerun(run, **options)
    return await client.runs.resume(run, force=wanted["force"], **options)


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Callable[[], None]]:
    import sys

    if quiet or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.progress import Progress

    from pullcord.cli.output import console

    with Progress(console=console(stderr=True)) as bar:
        task = bar.add_task("asking", total=total)
        yield lambda: bar.advance(task)


def _draw_plan(plan: dict[str, Any]) -> None:
    from pullcord.cli.output import draw, table

    groups = plan["groups"]
    if not groups:
        typer.echo("no run failed in that time")
        return
    rows = [
        [group["flow"], group["error"].rpartition(".")[2], str(group["retryable"] or ""), _skipped(group["skipped"])]
        for group in groups
    ]
    draw(table("flow", "error", "again", "left alone", rows=rows, whole=("flow", "error")))
    reasons = {text for group in groups for text in group["reasons"].values()}
    for text in sorted(reasons):
        say(clean(text))
    more = ", and there are more" if plan["more"] else ""
    typer.echo(f"{plan['retryable']} of {plan['failed']} failed runs{more}")
    if before := len(plan["cancelled"]):
        typer.echo(f"{before} of them {'was' if before == 1 else 'were'} asked for before, and cancelled then")


def _skipped(skipped: dict[str, int]) -> str:
    return "\n".join(f"{count}: {WHY.get(code, code)}" for code, count in sorted(skipped.items()))


def _draw_outcome(receipts: dict[str, Receipt], more: bool) -> None:
    outcomes = Counter(str(receipt.outcome) for receipt in receipts.values() if not receipt.refused)
    for outcome, count in outcomes.most_common():
        typer.echo(f"{count} {outcome}")
    left = [receipt for receipt in receipts.values() if receipt.refused]
    refused = Counter((receipt.code or str(receipt.outcome), receipt.reason) for receipt in left)
    for (code, text), count in refused.most_common(SHOWN):
        say(f"{count} refused, {code}: {clean(text)}")
    if more:
        say("… there are more: the same command goes on with them")

"""`pullcord runs resume` and `pullcord runs rerun`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pullcord.cli.failing import INTERRUPTED, clean, complain, say, status_of
from pullcord.cli.options import DataDir, Inputs, InputsFile, Json, Reason, Wait
from pullcord.core.errors import NotFoundError

if TYPE_CHECKING:
    from pullcord.client import AsyncClient
    from pullcord.gate.request import Receipt

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.", show_default=False)]
Key = Annotated[
    str | None,
    typer.Option(
        "--idempotency-key",
        metavar="KEY",
        help="Asked again with the same key, it is the same run.",
        show_default=False,
    ),
]


def resume(
    run_id: RunId,
    force: Annotated[
        bool, typer.Option("--force", help="Keep the recorded steps although the code has changed since.")
    ] = False,
    idempotency_key: Key = None,
    reason: Reason = None,
    wait: Wait = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Go on with a run that failed or was cancelled: a new run that keeps its recorded steps and does the rest."""
    import asyncio

    async def ask(client: AsyncClient) -> Receipt:
        return await client.runs.resume(
            run_id, force=force, reason=reason, idempotency_key=idempotency_key, raise_on_refusal=False
        )

    raise typer.Exit(asyncio.run(_see_through(ask, wait, data_dir, as_json)))


def rerun(
    run_id: RunId,
    inputs: Inputs = None,
    inputs_file: InputsFile = None,
    idempotency_key: Key = None,
    reason: Reason = None,
    wait: Wait = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Run it again from the beginning as a new run, with the same inputs, those given changed."""
    import asyncio

    async def ask(client: AsyncClient) -> Receipt:
        changes = await _changes(client, run_id, inputs, inputs_file)
        receipt = await client.runs.rerun(
            run_id, changes, reason=reason, idempotency_key=idempotency_key, raise_on_refusal=False
        )
        if changes and receipt.run_id is not None and not as_json:
            for line in changed_inputs((await client.runs.get(receipt.run_id))["changes"]):
                say(line)
        return receipt

    raise typer.Exit(asyncio.run(_see_through(ask, wait, data_dir, as_json)))


def changed_inputs(changes: dict[str, dict[str, Any]] | None) -> list[str]:
    """Return a line for each input that a re-run has changed."""
    import json

    def word(change: dict[str, Any], when: str) -> str:
        return json.dumps(change[when], ensure_ascii=False) if when in change else "(not given)"

    return [clean(f"{name}: {word(it, 'before')} → {word(it, 'after')}") for name, it in (changes or {}).items()]


async def _changes(client: AsyncClient, run_id: str, pairs: list[str] | None, file: str | None) -> dict[str, Any]:
    from pullcord.cli.inputs import read_inputs

    schema = None
    if pairs:
        flow = (await client.runs.get(run_id))["flow"]
        try:
            schema = (await client.flows.get(flow))["input_schema"]
        except NotFoundError:
            schema = None
    return read_inputs(pairs, file, schema)


async def _see_through(
    ask: Callable[[AsyncClient], Awaitable[Receipt]], wait: bool, data_dir: Path | None, as_json: bool
) -> int:
    """Ask for the new run, wait for it where that is wanted, and return the exit status."""
    from pullcord.cli.connect import connect_async
    from pullcord.cli.outcome import ended, show_receipt
    from pullcord.cli.output import emit
    from pullcord.cli.session import Session
    from pullcord.cli.watching import watch
    from pullcord.gate.request import RefusedError

    async with connect_async(data_dir) as client:
        receipt = await ask(client)
        if receipt.refused:
            if as_json:
                emit(receipt.as_json())
            error = RefusedError(receipt)
            complain(error)
            return status_of(error.code)
        if receipt.run_id is None or not wait:
            emit(receipt.as_json()) if as_json else show_receipt(receipt)
            return 0
        item = await watch(Session(client, False, datetime.now(UTC)), receipt.run_id, as_json)
        if item is None:
            return INTERRUPTED
        if as_json:
            emit(item)
        return ended(item, as_json)

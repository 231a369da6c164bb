"""`pullcord runs rerun`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pullcord.cli.connect import connect_async
from pullcord.cli.failing import INTERRUPTED, complain, status_of
from pullcord.cli.inputs import read_inputs
from pullcord.cli.outcome import ended, show_receipt
from pullcord.cli.output import emit
from pullcord.cli.session import Session
from pullcord.cli.watching import watch
from pullcord.core.errors import NotFoundError
from pullcord.gate.request import RefusedError


async def run_again(
    run_id: str, pairs: list[str] | None, file: str | None, wait: bool, data_dir: Path | None, as_json: bool
) -> int:
    """Ask for the new run, wait for it where that is wanted, and return the exit status."""
    async with connect_async(data_dir) as client:
        schema = None
        if pairs:
            flow = (await client.runs.get(run_id))["flow"]
            try:
                schema = (await client.flows.get(flow))["input_schema"]
            except NotFoundError:
                schema = None
        changes = read_inputs(pairs, file, schema)
        receipt = await client.runs.rerun(run_id, changes, raise_on_refusal=False)
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

"""`pullcord run`: ask for a run, and see it through where that is wanted."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID, uuid4

import typer

from pullcord.cli.failing import FAILED, clean, complain, say, status_of
from pullcord.cli.options import DataDir, Inputs, InputsFile, Json, Reason, Wait
from pullcord.core.errors import NotFoundError, PullcordError
from pullcord.core.states import ENDED

if TYPE_CHECKING:
    from pullcord.cli.session import Session
    from pullcord.gate.request import Receipt

TRIES: Final = 3
"""How often to look for a server, or be it, when the one that was joined has just gone."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the command line asked for.

    Attributes:
        flow: the flow.
        pairs: `name=value`.
        file: a file of inputs, or `-`.
        wait: whether to wait for the run.
        as_json: whether to write JSON.
        options: what `Client.run` takes besides.
    """

    flow: str
    pairs: list[str] | None
    file: str | None
    wait: bool
    as_json: bool
    options: dict[str, Any]


def run(
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="The flow's name.", show_default=False)],
    inputs: Inputs = None,
    inputs_file: InputsFile = None,
    wait: Wait = False,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            "--idempotency-key",
            metavar="KEY",
            help="Asked again with the same key, it is the same run.",
            show_default=False,
        ),
    ] = None,
    reason: Reason = None,
    priority: Annotated[
        int | None, typer.Option("--priority", help="Higher goes first. (default: 0)", show_default=False)
    ] = None,
    expires_in: Annotated[
        str | None,
        typer.Option(
            "--expires-in",
            metavar="DURATION",
            help="How long it may wait to start, like 10m; then it is cancelled.",
            show_default=False,
        ),
    ] = None,
    test: Annotated[bool, typer.Option("--test", help="A test run: no notifications, not in the statistics.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    flows: Annotated[
        list[str] | None,
        typer.Option(
            "--flows",
            metavar="PLACE",
            show_default=False,
            help="Module, file or folder with flows, where no server is running. (default: like serve)",
        ),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Run a flow.

    Where a server is up, it runs the flow, and --wait waits for it. Where none is, the run happens in this process.
    Missing inputs are asked for on a terminal. Exit status: 0 done, 1 the run failed or was cancelled, 2 invalid
    inputs, 3 no such flow, 4 not permitted, 5 cannot reach the server.
    """
    options = {
        "idempotency_key": idempotency_key,
        "reason": reason,
        "priority": priority,
        "expires_in": expires_in,
        "test": test,
        "dry_run": dry_run,
        "request_id": str(uuid4()),
    }
    wanted = Wanted(flow, inputs, inputs_file, wait, as_json, options)
    raise typer.Exit(asyncio.run(_with_session(wanted, data_dir, flows)))


async def _with_session(wanted: Wanted, data_dir: Path | None, flows: list[str] | None) -> int:
    from pullcord.cli.session import open_session
    from pullcord.client.errors import ServerUnreachableError

    given: dict[str, Any] | None = None
    for left in range(TRIES, 0, -1):
        async with open_session(data_dir, flows) as session:
            try:
                given = given if given is not None else await _gather(session, wanted)
                receipt = await session.client.run(wanted.flow, given, raise_on_refusal=False, **wanted.options)
            except ServerUnreachableError:
                if session.own or left == 1:
                    raise
                continue
            return await _see_through(session, wanted, receipt)
    return FAILED


def _made_at(run_id: str) -> datetime:
    """Return when a run was made, which its id says (UUIDv7)."""
    return datetime.fromtimestamp(int.from_bytes(UUID(run_id).bytes[:6]) / 1000, UTC)


async def _gather(session: Session, wanted: Wanted) -> dict[str, Any]:
    """Return the inputs, asking for what is missing where there is a person to ask."""
    from pullcord.cli import asking
    from pullcord.cli.inputs import read_inputs

    ask = asking.on_terminal() and not wanted.as_json and wanted.file != "-"
    schema = None
    if wanted.pairs or ask:
        try:
            schema = (await session.client.flows.get(wanted.flow))["input_schema"]
        except NotFoundError:
            ask = False  # the request itself is refused, and leaves its row in the ledger
    inputs = read_inputs(wanted.pairs, wanted.file, schema)
    return await asking.complete(session.client, wanted.flow, schema, inputs) if ask and schema is not None else inputs


async def _see_through(session: Session, wanted: Wanted, receipt: Receipt) -> int:
    from pullcord.cli.outcome import ended, show_receipt
    from pullcord.cli.output import emit
    from pullcord.cli.watching import linger, watch
    from pullcord.gate.request import RefusedError

    if receipt.refused:
        if wanted.as_json:
            emit(receipt.as_json())
        error = RefusedError(receipt)
        complain(error)
        return status_of(error.code)
    if receipt.run_id is None or not (wanted.wait or session.own):
        emit(receipt.as_json()) if wanted.as_json else show_receipt(receipt)
        return 0
    if receipt.replayed and not wanted.as_json:
        say(clean(receipt.reason))
    if session.own and receipt.state not in ENDED and _made_at(receipt.run_id) < session.began:
        if wanted.as_json:
            emit(receipt.as_json())
        complain(
            PullcordError(
                f"run {receipt.run_id} is of an earlier command that did not finish it; `pullcord serve` does"
            )
        )
        return FAILED
    item = await watch(session, receipt.run_id, wanted.as_json)
    if item is None:
        return 130
    if wanted.as_json:
        receipt.run, receipt.state = item, item["state"]
        emit(item if wanted.wait else receipt.as_json())
    status = ended(item, wanted.as_json)
    await linger(session, wanted.as_json)
    return status

"""The ledger: what became of every request, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pullcord.clock import rfc3339
from pullcord.store.commands.keys import Identity, Original, lookup_parameters, lookup_sql, originals
from pullcord.store.connection import Connection
from pullcord.store.queries.page import Listed, Page, fetch_page
from pullcord.store.queries.runs import equal_conditions, parsed

_SELECT = """
SELECT t.id, t.uuid, t.flow, t.inputs, t.outcome, t.code, t.reason, t.errors, coalesce(r.uuid, t.pruned_run),
    t.trigger_kind, t.trigger_name, t.invoker, t.invoker_kind, t.on_behalf_of, t.source, t.note, t.idempotency_key,
    t.dry_run, t.at, t.last_at, t.count, r.state, t.scheduled_for, t.pruned_run,
    t.origin
FROM requests t LEFT JOIN runs r ON r.id = coalesce(t.original_id, t.id)"""


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """Which requests a list shows; None shows all.

    Attributes:
        flow: one flow.
        outcome: an outcome.
        trigger: a trigger kind.
        invoker: an invoker's id.
        since: first asked at or after, microseconds.
        until: first asked before, microseconds.
    """

    flow: str | None = None
    outcome: str | None = None
    trigger: str | None = None
    invoker: str | None = None
    since: int | None = None
    until: int | None = None


def list_requests(connection: Connection, which: RequestFilter, page: Page) -> dict[str, Any]:
    """Return a page of the ledger."""
    equal = {"flow": which.flow, "outcome": which.outcome, "trigger_kind": which.trigger, "invoker": which.invoker}
    filters, parameters = equal_conditions(equal)
    listed = Listed({"t": "requests"}, _SELECT, filters, [], parameters, which.since, which.until)
    return fetch_page(connection, listed, page, _item)


def get_request(connection: Connection, uuid: str, invoker: str) -> dict[str, Any] | None:
    """Return a request by its id, the invoker's own first, an admitted one before refused ones."""
    row = connection.execute(
        f"{_SELECT} WHERE t.uuid = :uuid "
        "ORDER BY t.invoker = :invoker DESC, t.outcome IN ('admitted', 'expired') DESC, t.id DESC LIMIT 1",
        {"uuid": uuid, "invoker": invoker},
    ).fetchone()
    return None if row is None else _item(row)


def find_originals(connection: Connection, identities: list[Identity], now: int) -> dict[Identity, Original]:
    """Return the requests that came first under these identities."""
    found = connection.array(lookup_sql(), lookup_parameters(identities, now))
    return originals(found, identities)


def newest_request(connection: Connection) -> int:
    """Return when the newest request was made, microseconds; 0 when there was none."""
    row = connection.execute("SELECT at FROM requests ORDER BY id DESC LIMIT 1").fetchone()
    return 0 if row is None else int(row[0])


def _item(row: Any) -> dict[str, Any]:
    return {
        "request_id": row[1],
        "flow": row[2],
        "inputs": parsed(row[3]),
        "outcome": row[4],
        "code": row[5],
        "reason": row[6] or "admitted",
        "errors": parsed(row[7]),
        "run_id": row[8],
        "state": row[21],
        "run_pruned": row[23] is not None,
        "trigger": {"kind": row[9], "name": row[10]},
        "invoker": {"id": row[11], "kind": row[12], "on_behalf_of": parsed(row[13])},
        "source": row[14],
        "note": row[15],
        "idempotency_key": row[16],
        "origin": parsed(row[24]),
        "dry_run": bool(row[17]),
        "scheduled_for": rfc3339(row[22]),
        "at": rfc3339(row[18]),
        "last_at": rfc3339(row[19] or row[18]),
        "count": row[20],
    }

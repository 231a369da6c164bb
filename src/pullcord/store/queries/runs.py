"""Runs: the list and the item, in one vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from pullcord.clock import rfc3339
from pullcord.core.states import ENDED
from pullcord.store.connection import Connection
from pullcord.store.queries.attempts import failed_attempts, latest_attempt, shown_error
from pullcord.store.queries.page import Listed, Page, fetch_page
from pullcord.store.statement import dump

_COLUMNS = """t.id, t.uuid, t.flow, t.flow_version, t.state, t.inputs, t.trigger_kind, q.trigger_name, t.invoker,
    q.invoker_kind, q.on_behalf_of, q.source, q.note, q.uuid, p.uuid, o.uuid, t.scheduled_for, t.queued_at,
    t.started_at, t.ended_at, t.attempt, t.takeovers, f.uuid, t.test, t.cancel, t.result, t.error, t.waiting_for,
    t.partial, t.priority, t.not_before, t.expires_at, q.origin, t.attempt_started_at, t.progress_done,
    t.progress_total, t.progress_text"""
_FROM = """FROM runs t LEFT JOIN requests q ON q.id = t.id LEFT JOIN runs p ON p.id = t.parent_id
    LEFT JOIN runs o ON o.id = t.rerun_of LEFT JOIN runs f ON f.id = t.resumed_from"""
_ITEMS = f"SELECT EACH[{_COLUMNS}] {_FROM} WHERE t.uuid IN VALUES[uuids]"
_STATES = "SELECT EACH[t.uuid, t.state] FROM runs t WHERE t.uuid IN VALUES[uuids]"
_STEPS = """
SELECT EACH[run_id, seq, name, attempt, state, started_at, ended_at, result, error, kept, set_aside]
FROM steps WHERE run_id IN VALUES[ids:int]"""


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs a list shows; None shows all.

    Attributes:
        flow: one flow.
        flows: any of these flows (how tags are looked up).
        state: a run state.
        trigger: a trigger kind.
        invoker: an invoker's id.
        since: queued or scheduled at or after, microseconds.
        until: before, microseconds.
    """

    flow: str | None = None
    flows: tuple[str, ...] | None = None
    state: str | None = None
    trigger: str | None = None
    invoker: str | None = None
    since: int | None = None
    until: int | None = None

    def conditions(self) -> tuple[dict[str, str], list[str], dict[str, Any]]:
        """Return SQL conditions over `runs t` and `requests q`: those by column, the others; and their parameters."""
        filters, parameters = equal_conditions({"flow": self.flow, "state": self.state})
        # What a run has of its request is indexed there alone: an index costs each run 20 bytes and a write.
        asked, values = equal_conditions({"trigger_kind": self.trigger, "invoker": self.invoker}, "q")
        filters |= asked
        others: list[str] = []
        if self.flows is not None:
            values["flows"] = dump(self.flows)
            if "t.flow" in filters:
                others.append("t.flow IN VALUES[flows]")
            else:  # last: where nothing tells filters apart, another one spares sorting the runs of several flows
                filters["t.flow"] = "t.flow IN VALUES[flows]"
        return filters, others, parameters | values


def equal_conditions(wanted: dict[str, str | None], table: str = "t") -> tuple[dict[str, str], dict[str, Any]]:
    """Return a SQL condition for each column of a table that has to have a value, such as `t.flow`, and the values."""
    given = {column: value for column, value in wanted.items() if value is not None}
    return {f"{table}.{column}": f"{table}.{column} = :{column}" for column in given}, dict(given)


def list_runs(connection: Connection, which: RunFilter, page: Page) -> dict[str, Any]:
    """Return a page of runs, without steps, results and tracebacks."""
    filters, others, parameters = which.conditions()
    tables = {"t": "runs"} | ({"q": "requests"} if {"q.trigger_kind", "q.invoker"} & filters.keys() else {})
    listed = Listed(tables, f"SELECT {_COLUMNS} {_FROM}", filters, others, parameters, which.since, which.until)
    return fetch_page(connection, listed, page, _summary)


def load_runs(connection: Connection, uuids: list[str]) -> dict[str, dict[str, Any]]:
    """Return the whole items of runs by id; unknown ids are left out."""
    found = connection.array(_ITEMS, {"uuids": dump(uuids)})
    steps: dict[int, list[dict[str, Any]]] = {row[0]: [] for row in found}
    parameters = {"ids": dump(list(steps))}
    for row in sorted(connection.array(_STEPS, parameters), key=_place):
        steps[row[0]].append(_step(row))
    failed = failed_attempts(connection, [row[0] for row in found if row[20] > 1])
    return {row[1]: _item(row, steps[row[0]], failed.get(row[0], [])) for row in found}


def run_summaries(connection: Connection, uuids: list[str]) -> dict[str, dict[str, Any]]:
    """Return runs by id as lists show them; unknown ids are left out."""
    return {row[1]: _summary(row) for row in connection.array(_ITEMS, {"uuids": dump(uuids)})}


def run_states(connection: Connection, uuids: list[str]) -> dict[str, str]:
    """Return the states of runs by id; unknown ids are left out."""
    return {row[0]: row[1] for row in connection.array(_STATES, {"uuids": dump(uuids)})}


def run_number(connection: Connection, uuid: str) -> tuple[int, str, str] | None:
    """Return a run's number, state and flow by its id."""
    row = connection.execute("SELECT id, state, flow FROM runs WHERE uuid = :uuid", {"uuid": uuid}).fetchone()
    return None if row is None else (row[0], row[1], row[2])


def parsed(text: str | None) -> Any:
    """Read a JSON column."""
    return None if text is None else from_json(text)


def _place(step: Any) -> tuple[bool, int, int]:
    """Return the sort key of a step's row: those of attempts that were begun anew since come first."""
    return step[10] is None, step[10] or 0, step[1]


def _summary(row: Any) -> dict[str, Any]:
    error = parsed(row[26])
    origin = parsed(row[32]) or {}
    return {
        "id": row[1],
        "flow": row[2],
        "flow_version": row[3],
        "state": row[4],
        "inputs": parsed(row[5]),
        "trigger": {"kind": row[6], "name": row[7]},
        "invoker": {"id": row[8], "kind": row[9], "on_behalf_of": parsed(row[10])},
        "source": row[11],
        "reason": row[12],
        "request_id": row[13],
        "parent_id": row[14],
        "rerun_of": row[15] or origin.get("rerun_of"),
        "changes": origin.get("changes"),
        "priority": row[29],
        "not_before": rfc3339(row[30]),
        "expires_at": rfc3339(row[31]),
        "scheduled_for": rfc3339(row[16]),
        "queued_at": rfc3339(row[17]),
        "started_at": rfc3339(row[18]),
        "ended_at": rfc3339(row[19]),
        "attempt": row[20],
        "takeovers": row[21],
        "resumed_from": row[22] or origin.get("resumed_from"),
        "test": bool(row[23]),
        "cancel": parsed(row[24]),
        "error": None if error is None else {"type": error["type"], "message": error["message"]},
        "waiting_for": parsed(row[27]),
        "partial": parsed(row[28]),
        "progress": None if row[34] is None else {"done": row[34], "total": row[35], "text": row[36]},
    }


def _item(row: Any, steps: list[dict[str, Any]], failed: list[dict[str, Any]]) -> dict[str, Any]:
    item = _summary(row)
    item["steps"] = steps
    item["result"] = parsed(row[25])
    item["error"] = _error(row[26])
    item["attempts"] = [*failed, latest_attempt(item, rfc3339(row[33]))]
    return item


def _step(row: Any) -> dict[str, Any]:
    return {
        "seq": row[1],
        "name": row[2],
        "attempt": row[3],
        "state": row[4],
        "started_at": rfc3339(row[5]),
        "ended_at": rfc3339(row[6]),
        "result": parsed(row[7]),
        "error": _error(row[8]),
        "kept": bool(row[9]),
        "set_aside": row[10],
    }


def _error(text: str | None) -> dict[str, Any] | None:
    error = parsed(text)
    return None if error is None else shown_error(error)


def has_ended(item: dict[str, Any]) -> bool:
    """Say whether a run item is in an ended state."""
    return item["state"] in ENDED

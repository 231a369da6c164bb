"""Runs that are wanted again."""

from __future__ import annotations

from typing import Any, NamedTuple

from pullcord.core.identity import child_request
from pullcord.store.connection import Connection
from pullcord.store.queries.runs import parsed
from pullcord.store.statement import dump

_COLUMNS = """r.id, r.uuid, r.flow, r.flow_version, coalesce(r.recorded_version, r.flow_version), r.epoch, r.state,
    r.inputs, r.priority, r.test, r.scheduled_for"""
_LAST_CHILD = f"""
SELECT {_COLUMNS} FROM runs r JOIN requests q ON q.id = r.id
WHERE r.parent_id = :parent AND q.uuid IN VALUES[requests] ORDER BY r.id DESC LIMIT 1"""


class OriginRow(NamedTuple):
    """What is to be known of a run that is wanted again.

    Attributes:
        number: its number.
        id: its id.
        flow: its flow.
        flow_version: version of the code that it was admitted with.
        recorded_version: version that its recorded results are of.
        epoch: the epoch of its records that count; None is the first.
        state: its state.
        inputs: as validated.
        priority: higher goes first.
        test: whether it is a test.
        scheduled_for: the time a schedule meant, microseconds.
    """

    number: int
    id: str
    flow: str
    flow_version: str
    recorded_version: str
    epoch: int | None
    state: str
    inputs: dict[str, Any]
    priority: int
    test: bool
    scheduled_for: int | None


def find_origin(connection: Connection, uuid: str) -> OriginRow | None:
    """Return a run by its id."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM runs r WHERE r.uuid = :uuid", {"uuid": uuid}).fetchone()
    return None if row is None else _origin(row)


def last_child(connection: Connection, parent: int, uuid: str, identity: str, attempts: int) -> OriginRow | None:
    """Return the last run that a run has started for one call of a flow.

    Args:
        connection: a reader.
        parent: number of the run.
        uuid: its id.
        identity: the call.
        attempts: in how many of its attempts to look.
    """
    requests = [child_request(uuid, identity, attempt) for attempt in range(1, attempts + 1)]
    row = connection.execute(_LAST_CHILD, {"parent": parent, "requests": dump(requests)}).fetchone()
    return None if row is None else _origin(row)


def inherited_child(connection: Connection, origin: int | None, identity: str) -> OriginRow | None:
    """Return the last run that one of the runs which a run goes on with has started for a call.

    Args:
        connection: a reader.
        origin: number of the run that is resumed; those that it resumed itself are looked at after it.
        identity: the call.
    """
    while origin is not None:
        row = connection.execute(
            "SELECT id, uuid, attempt, resumed_from FROM runs WHERE id = :id", {"id": origin}
        ).fetchone()
        if row is None:
            return None
        child = last_child(connection, row[0], row[1], identity, row[2])
        if child is not None:
            return child
        origin = row[3]
    return None


def _origin(row: Any) -> OriginRow:
    number, run_id, flow, version, recorded, epoch, state, inputs, priority, test, scheduled_for = row
    return OriginRow(
        number, run_id, flow, version, recorded, epoch, state, parsed(inputs), priority, bool(test), scheduled_for
    )

"""Runs that are wanted again."""

from __future__ import annotations

from typing import Any, NamedTuple

from pullcord.store.connection import Connection
from pullcord.store.queries.runs import parsed


class OriginRow(NamedTuple):
    """What is to be known of a run that is wanted again.

    Attributes:
        number: its number.
        id: its id.
        flow: its flow.
        flow_version: version of the code that it was admitted with.
        recorded_version: version that its recorded results are of.
        state: its state.
        inputs: as validated.
        priority: higher goes first.
        test: whether it is a test.
    """

    number: int
    id: str
    flow: str
    flow_version: str
    recorded_version: str
    state: str
    inputs: dict[str, Any]
    priority: int
    test: bool


def find_origin(connection: Connection, uuid: str) -> OriginRow | None:
    """Return a run by its id."""
    row = connection.execute(
        "SELECT id, uuid, flow, flow_version, coalesce(recorded_version, flow_version), state, inputs, priority, test "
        "FROM runs WHERE uuid = :uuid",
        {"uuid": uuid},
    ).fetchone()
    if row is None:
        return None
    number, run_id, flow, version, recorded, state, inputs, priority, test = row
    return OriginRow(number, run_id, flow, version, recorded, state, parsed(inputs), priority, bool(test))

"""The invariants that ask what a JSON document says. SQL cannot, in the same way everywhere, so the rows are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from pydantic_core import from_json

from pullcord.core.concurrency import Concurrency
from pullcord.core.manifest import FlowSpec
from pullcord.core.states import ENDED
from pullcord.store.connection import Connection
from pullcord.store.queries.invariants.invariant import Verdict

PAGE: Final = 10_000
"""Rows that are read at once."""

READABLE: Final = "every document can be read"
IN_ITS_SLOT: Final = "a run takes the slot of its flow"
DOCUMENTS: Final = {
    READABLE: (7, "inputs, results, errors and notes are JSON"),
    IN_ITS_SLOT: (8, "runs that have not ended and the flows' specs"),
}
"""Names of these invariants, their rules, and what is read."""

_TABLES: Final = {
    "runs": ("id", "uuid", "inputs result error cancel waiting_for"),
    "requests": ("id", "uuid", "inputs errors on_behalf_of"),
    "steps": ("run_id identity", "name", "result error"),
    "audit": ("id", "action", "detail"),
    "flows": ("name", "name", "spec"),
    "triggers": ("id", "name", "flows parameters settings override"),
    "trigger_state": ("trigger_id", "trigger_id", "cursor"),
    "trigger_history": ("id", "id", "detail"),
}
"""The tables with documents: key columns, what a row is called by, document columns."""

_OPEN_RUNS = f"""
SELECT r.uuid, r.slot, r.inputs, f.name, f.spec, s.override FROM runs r JOIN flows f ON f.name = r.flow
LEFT JOIN slots s ON s.key = f.name
WHERE r.state NOT IN ({", ".join(f"'{state}'" for state in sorted(ENDED))})"""


def readable(connection: Connection, most: int) -> Verdict:
    """Check that every document can be decoded.

    Args:
        connection: a reader.
        most: how many offending rows are named.
    """
    checked = broken = 0
    examples: list[str] = []
    for table, (keys, name, columns) in _TABLES.items():
        for rows in _pages(connection, table, keys.split(), [name, *columns.split()]):
            checked += len(rows)
            if _all_decode([text for row in rows for text in row[1:] if text is not None]):
                continue
            for row in rows:
                for column, text in zip(columns.split(), row[1:], strict=True):
                    if text is not None and not _decodes(text):
                        broken += 1
                        if len(examples) < most:
                            examples.append(f"{column} of {row[0]!r} in {table} is no JSON")
    advice = "stop Pullcord, keep a copy of the data folder, and restore a back-up"
    return Verdict(DOCUMENTS[READABLE][0], READABLE, checked, broken, examples, advice, "wrong" if broken else "ok")


def in_its_slot(connection: Connection, most: int) -> Verdict:
    """Check that every run that has not ended counts against its flow's limit, and no other.

    Args:
        connection: a reader.
        most: how many offending rows are named.
    """
    checked = broken = 0
    examples: list[str] = []
    rules: dict[str, Concurrency | None] = {}
    for run, slot, inputs, flow, spec, override in connection.execute(_OPEN_RUNS, {}):
        checked += 1
        if spec not in rules:
            rules[spec] = FlowSpec(**from_json(spec)).concurrency if _decodes(spec) else None
        rule = rules[spec]
        if rule is None or not _decodes(inputs):
            continue  # said by the other check
        wanted = rule.slot(flow, inputs, override is not None)
        if wanted != slot:
            broken += 1
            if len(examples) < most:
                examples.append(f"run {run} takes the slot {slot}, and by the limit of {flow} it is {wanted}")
    advice = "restart the server: that counts the runs against the limits of their flows anew"
    return Verdict(
        DOCUMENTS[IN_ITS_SLOT][0], IN_ITS_SLOT, checked, broken, examples, advice, "wrong" if broken else "ok"
    )


CHECKS: Final[tuple[Callable[[Connection, int], Verdict], ...]] = (readable, in_its_slot)
"""The checks of this module."""


def _pages(connection: Connection, table: str, keys: list[str], columns: list[str]) -> Iterator[list[Any]]:
    """Yield the columns of all rows in pages, so that no statement holds a moment of the store for long."""
    order = ", ".join(keys)
    after = f"WHERE ({order}) > ({', '.join(f':{key}' for key in keys)})"
    where = ""
    parameters: dict[str, Any] = {}
    while True:
        rows = connection.execute(
            f"SELECT {order}, {', '.join(columns)} FROM {table} {where} ORDER BY {order} LIMIT {PAGE}", parameters
        ).fetchall()
        yield [row[len(keys) :] for row in rows]
        if len(rows) < PAGE:
            return
        where, parameters = after, dict(zip(keys, rows[-1], strict=False))


def _all_decode(texts: list[str]) -> bool:
    """Say whether all texts are JSON: together they are an array of as many items. Faster than one by one."""
    try:
        return len(from_json(f"[{','.join(texts)}]")) == len(texts)
    except ValueError:
        return False


def _decodes(text: str) -> bool:
    try:
        from_json(text)
    except ValueError:
        return False
    return True

"""The ledger: one row for every request, whatever became of it (design rule 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, ClassVar, Final

from pullcord.core.errors import StoreError
from pullcord.core.states import Outcome
from pullcord.store.commands.happenings import note_requests
from pullcord.store.statement import dump, names, rows
from pullcord.store.transaction import Transaction

_FIELDS = (
    "uuid flow inputs outcome code reason errors original_id:int trigger_kind trigger_name invoker invoker_kind "
    "on_behalf_of source note idempotency_key repeat_key dry_run:int scheduled_for:int "
    "origin"
)
_NAMES = names(_FIELDS).split(", ")
_INSERT = f"""
INSERT INTO requests (id, {", ".join(_NAMES)}, at, last_at, count)
SELECT id, {", ".join(_NAMES)}, :now, CASE WHEN times > 1 THEN :now END, times
FROM {rows(f"times:int id:int {_FIELDS}")} AS s WHERE true
ON CONFLICT (repeat_key) WHERE repeat_key IS NOT NULL
DO UPDATE SET count = requests.count + excluded.count, last_at = excluded.at"""


@dataclass(slots=True)
class LedgerEntry:
    """What the ledger keeps of a request.

    Attributes:
        uuid: the request's id.
        flow: name of the flow that was asked for, as far as it is known.
        inputs: as sent, canonical JSON, or None where they could not be read.
        trigger_kind: what asked.
        trigger_name: its name, where it has one.
        invoker: id of who asked.
        invoker_kind: what kind of principal that is.
        source: where the call came in, for example `cli` or `http`.
        outcome: what became of it.
        code: why not, for programs.
        reason: why not, for people.
        errors: field errors, JSON.
        original_id: number of the request that this one repeats.
        on_behalf_of: for whom the invoker acts, JSON.
        note: why it was asked for, in the invoker's words.
        idempotency_key: as sent.
        repeat_key: requests with the same one share a row with first, last and count.
        dry_run: 1 when nothing was to be run.
        scheduled_for: the time a schedule meant, microseconds.
        origin: the run that this is about again, JSON: `resumed_from`, or `rerun_of` and the inputs that changed.
        times: how many equal requests this row stands for.
        test: whether a test run was asked for, of which nobody is told.
    """

    uuid: str
    flow: str | None
    inputs: str | None
    trigger_kind: str
    trigger_name: str | None
    invoker: str
    invoker_kind: str
    source: str
    outcome: Outcome = Outcome.ADMITTED
    code: str | None = None
    reason: str | None = None
    errors: str | None = None
    original_id: int | None = None
    on_behalf_of: str | None = None
    note: str | None = None
    idempotency_key: str | None = None
    repeat_key: str | None = None
    dry_run: int = 0
    scheduled_for: int | None = None
    origin: str | None = None
    times: int = 1
    test: bool = False

    def become(self, outcome: Outcome, **changes: Any) -> LedgerEntry:
        """Return the entry with another outcome."""
        return replace(self, outcome=outcome, **changes)


_values = attrgetter(*_NAMES)
_OUTCOME: Final = 2 + _NAMES.index("outcome")


def insert_requests(tx: Transaction, entries: list[tuple[int, LedgerEntry]]) -> None:
    """Insert numbered ledger rows; repeats update the row they share."""
    # A statement must not meet a row twice: PostgreSQL refuses to update what it has just inserted.
    shared: dict[str, list[Any]] = {}
    rows_: list[list[Any]] = []
    for number, entry in entries:
        first = None if entry.repeat_key is None else shared.get(entry.repeat_key)
        if first is not None:
            first[0] += entry.times
            continue
        row = [entry.times, number, *_values(entry)]
        row[_OUTCOME] = str(entry.outcome)  # JSON of a member of an enumeration takes a microsecond
        rows_.append(row)
        if entry.repeat_key is not None:
            shared[entry.repeat_key] = row
    tx.execute(_INSERT, {"rows": dump(rows_), "now": tx.now})
    if tx.hints.book.anything:
        found = [entry for _, entry in entries if not entry.dry_run and not entry.test]
        note_requests(tx, [(e.outcome, e.flow, e.reason, e.trigger_name, e.times) for e in found])


@dataclass(slots=True)
class Note:
    """Write a ledger row for a request that became no run.

    Attributes:
        entry: the row.

    The result is the id of the row's request: the first one's where repeats share a row.
    """

    keep_trying: ClassVar[bool] = False

    entry: LedgerEntry
    done: Callable[[Any], None]

    def split(self) -> Sequence[Note]:
        """One row is as small as it gets."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[Note]) -> list[str]:
        """Insert the rows."""
        base = tx.next_id("requests")
        insert_requests(tx, [(base + offset, command.entry) for offset, command in enumerate(commands)])
        return [
            command.entry.uuid
            if command.entry.repeat_key is None
            else str(tx.value("SELECT uuid FROM requests WHERE repeat_key = :key", {"key": command.entry.repeat_key}))
            for command in commands
        ]

"""What the store knows about flows: their specs, for history and for answers while a location is down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from pullcord.core.errors import StoreError
from pullcord.core.manifest import REMOVED, FlowSpec, lane
from pullcord.store.commands.deadlocks import fail_deadlocked
from pullcord.store.commands.happenings import forget_series
from pullcord.store.commands.lifecycle import rebuild_hints
from pullcord.store.commands.limits import declare_limits
from pullcord.store.commands.pauses import pauses, set_aside
from pullcord.store.commands.suspending import watch_failures
from pullcord.store.statement import dump, rows
from pullcord.store.transaction import Transaction


@dataclass(slots=True)
class RegisterFlows:
    """Write the flows of a location, and mark those that left it.

    Attributes:
        location: the location's name.
        specs: all its flows.
        complete: whether all its files loaded; otherwise a flow that is missing may only be broken.
    """

    keep_trying: ClassVar[bool] = True

    location: str
    specs: list[FlowSpec]
    complete: bool
    done: Callable[[Any], None]

    def split(self) -> Sequence[RegisterFlows]:
        """A location's flows belong together."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[RegisterFlows]) -> list[None]:
        """Write one location after the other; queued runs follow their flow to its lane and slot."""
        for command in commands:
            _register(tx, command)
            watch_failures(tx, command.specs)
            tx.hints.book = tx.hints.book.with_flows(command.specs)
            forget_series(tx, [spec.name for spec in command.specs])
        set_aside(tx, list(pauses(tx).values()))
        fail_deadlocked(tx)
        rebuild_hints(tx)
        tx.hints.orphans = True
        return [None] * len(commands)


def _register(tx: Transaction, command: RegisterFlows) -> None:
    specs = [[spec.name, command.location, dump(asdict(spec))] for spec in command.specs]
    parameters = {"rows": dump(specs), "now": tx.now, "location": command.location}
    tx.execute(
        f"INSERT INTO flows (name, location, spec, updated_at) SELECT name, location, spec, :now "
        f"FROM {rows('name location spec')} AS s WHERE true ON CONFLICT (name) DO UPDATE SET "
        "location = excluded.location, spec = excluded.spec, updated_at = excluded.updated_at, removed_at = NULL",
        parameters,
    )
    if command.complete:
        tx.execute(
            "UPDATE flows SET removed_at = :now WHERE location = :location AND removed_at IS NULL "
            f"AND name NOT IN (SELECT name FROM {rows('name location spec')} AS s)",
            parameters,
        )
        # Queued runs of a flow that is gone wait for its return, in a lane that no worker serves.
        text = f"waits for the flow to come back: it was removed from {command.location}"
        tx.execute(
            "UPDATE runs SET lane = :lane, slot = NULL, shared = NULL, waiting_for = :why "
            "WHERE state IN ('scheduled', 'queued') AND losses = 0 AND lane != :lane "
            "AND flow IN (SELECT name FROM flows WHERE location = :location AND removed_at IS NOT NULL)",
            {
                "lane": lane(command.location, REMOVED),
                "why": dump({"kind": "code", "text": text}),
                "location": command.location,
            },
        )
    lanes = {"rows": dump([[spec.name, spec.lane] for spec in command.specs])}
    source = rows("flow lane")
    tx.execute(
        f"UPDATE runs SET lane = s.lane, waiting_for = NULL FROM {source} AS s WHERE runs.flow = s.flow "
        f"AND runs.state IN ('scheduled', 'queued') AND runs.lane LIKE '%#{REMOVED}'",
        lanes,
    )
    # A suspect stays alone.
    tx.execute(
        f"UPDATE runs SET lane = s.lane FROM {source} AS s WHERE runs.flow = s.flow AND runs.lane != s.lane "
        "AND runs.losses = 0 AND (runs.state IN ('scheduled', 'queued') "
        "OR (runs.owner IS NULL AND runs.state IN ('running', 'waiting', 'cancelling')))",
        lanes,
    )
    # A new limit counts the runs that are active already (design rule 8).
    declare_limits(tx, command.specs)

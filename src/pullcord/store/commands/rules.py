"""Rules of notifications in the store: found when a server starts, and changed by people at run time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pydantic_core import from_json

from pullcord.core.errors import StoreError, UsageError
from pullcord.core.manifest import FlowSpec
from pullcord.core.rulebook import Change, change_of
from pullcord.store.commands.happenings import forget_series
from pullcord.store.statement import dump
from pullcord.store.transaction import Transaction

_SPECS = "SELECT EACH[spec] FROM flows WHERE removed_at IS NULL AND (:all = 1 OR spec LIKE '%\"notify\":[{%')"


def load_rules(tx: Transaction) -> None:
    """Put what the store knows of flows' rules, and of what people changed, into the hints."""
    book = tx.hints.book
    specs = [FlowSpec(**from_json(row[0])) for row in tx.array(_SPECS, {"all": int(bool(book.defaults))})]
    changes = {flow: change_of(from_json(text)) for flow, text in tx.array(_CHANGES, {})}
    tx.hints.book = replace(book.with_flows(specs), changes=changes).ready()


_CHANGES = "SELECT EACH[flow, change] FROM notify_changes"


@dataclass(slots=True)
class ChangeRules:
    """Write what somebody changed about a flow's notifications.

    Attributes:
        flow: the flow's name.
        change: makes of what differs from the code and the settings so far what differs from now on; called in the
            transaction, so that of two changes at once none is lost. It may raise a UsageError.
        invoker: who changed it.

    The result is None, or that error.
    """

    keep_trying: ClassVar[bool] = False

    flow: str
    change: Callable[[Change], Change]
    invoker: str
    done: Callable[[Any], None]

    def split(self) -> Sequence[ChangeRules]:
        """One change is as small as it gets."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[ChangeRules]) -> list[UsageError | None]:
        """Write one change after the other, each with an entry in the audit."""
        results: list[UsageError | None] = []
        for command in commands:
            try:
                change = command.change(tx.hints.book.changes.get(command.flow, Change()))
            except UsageError as error:
                results.append(error)
                continue
            results.append(None)
            nothing = not change.rules and not change.muted
            tx.execute("DELETE FROM notify_changes WHERE flow = :flow", {"flow": command.flow})
            text = None if nothing else dump(change.as_json())
            if text is not None:
                tx.execute(
                    "INSERT INTO notify_changes (flow, change) VALUES (:flow, :change)",
                    {"flow": command.flow, "change": text},
                )
            detail = dump({"flow": command.flow, "change": None if text is None else from_json(text)})
            tx.execute(
                "INSERT INTO audit (id, at, invoker, action, detail) VALUES (:id, :now, :invoker, :action, :detail)",
                {
                    "id": tx.next_id("audit"),
                    "now": tx.now,
                    "invoker": command.invoker,
                    "action": "notifications.change",
                    "detail": detail,
                },
            )
            tx.hints.book = tx.hints.book.with_change(command.flow, None if nothing else change)
            forget_series(tx, [command.flow])
        return results

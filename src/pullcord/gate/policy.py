"""Who may do what: one port, asked by every call. Accounts and grants will be other answers to the same question."""

from __future__ import annotations

from typing import Literal, Protocol

from pullcord.gate.request import TRIGGER, Invoker

Action = Literal["run", "cancel", "read", "change", "preview", "prune"]


class Policy(Protocol):
    """Decides on permissions."""

    def may(self, invoker: Invoker, action: Action, flow: str | None) -> bool:
        """Say whether the invoker may do this to a flow; None means flows in general."""


class LocalPolicy:
    """The owner of the data folder may do everything, a trigger may ask for runs, and nobody else may do anything."""

    def may(self, invoker: Invoker, action: Action, flow: str | None) -> bool:
        """Say whether the invoker is the owner, or a trigger that wants a run."""
        return invoker.kind == "local" or (invoker.kind == TRIGGER and action == "run")

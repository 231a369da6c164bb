"""Who may do what: one port, asked by every call. Accounts and grants will be other answers to the same question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from pullcord.gate.request import TRIGGER, Invoker

Action = Literal["run", "cancel", "read", "change", "preview", "pause", "prune"]


class Policy(Protocol):
    """Decides on permissions."""

    def may(self, invoker: Invoker, action: Action, flow: str | None) -> bool:
        """Say whether the invoker may do this to a flow; None means flows in general."""

    def may_answer(self, invoker: Invoker, flow: str, to: Sequence[str]) -> bool:
        """Say whether the invoker may answer a question of a flow that is meant for these people, groups or roles."""


class LocalPolicy:
    """The owner of the data folder may do everything, a trigger may ask for runs, and nobody else may do anything."""

    def may(self, invoker: Invoker, action: Action, flow: str | None) -> bool:
        """Say whether the invoker is the owner, or a trigger that wants a run."""
        return self._owns(invoker) or (invoker.kind == TRIGGER and action == "run")

    def may_answer(self, invoker: Invoker, flow: str, to: Sequence[str]) -> bool:
        """Say whether the invoker is the owner, who may answer whatever is asked."""
        return self._owns(invoker)

    @staticmethod
    def _owns(invoker: Invoker) -> bool:
        return invoker.kind == "local"

"""What is called inside steps: another try of a step asks for the same again, and gets what was recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic_core import from_json

from pullcord.core.states import StepState
from pullcord.worker.moment import now

if TYPE_CHECKING:
    from pullcord.worker.execution import Execution


class InnerCalls:
    """The calls that the current try of each step of an execution has made.

    It does not keep the execution: what refers to itself stays in memory until the garbage collector looks for it.

    Attributes:
        children: identities of the calls among them that are child runs.
    """

    def __init__(self) -> None:
        self._made: dict[str, list[str]] = {}
        self.children: set[str] = set()

    def note(self, outer: str, identity: str) -> None:
        """A step has made a call."""
        self._made.setdefault(outer, []).append(identity)

    def begin(self, execution: Execution, outer: str) -> None:
        """A try of a step begins: as after a crash, its calls are counted from the first one on."""
        for identity in self._made.pop(outer, ()):
            execution.occurrences.pop(identity, None)

    def reopen(self, execution: Execution, outer: str) -> None:
        """Another try of a step follows: what failed inside is tried anew, as it is in another attempt of the run.

        That is recorded, so that a crash in the next try does not bring an error of this one back.
        """
        for identity in dict.fromkeys(self._made.get(outer, ())):
            record = execution.recorded.get(identity)
            if record is None or record[4] == StepState.SUCCEEDED:
                continue
            self.reopen(execution, identity)
            if record[4] == StepState.FAILED:
                # Asked for the same call again the server answers with the same child run: the next one has a number.
                attempt = record[3] + (identity in self.children)
                execution.record(
                    identity, record[2], record[1], attempt, StepState.RETRYING, now(), None, from_json(record[6])
                )

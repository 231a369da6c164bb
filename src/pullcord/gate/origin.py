"""The run that a request wants again, and whether what it recorded can be used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from pullcord.core.errors import CodeChangedError, NotResumableError
from pullcord.core.manifest import FlowSpec
from pullcord.core.states import ENDED, RunState

RESUMABLE: Final = ENDED - {RunState.SUCCEEDED}
"""States of a run that can be resumed."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The run that a request wants again.

    Attributes:
        number: its number.
        id: its id.
        flow_version: version of the code that it ran with.
        recorded_version: version that its recorded results are of.
        epoch: the epoch of its records that count.
        state: how it ended, or where it is.
        resume: whether its recorded results are kept; otherwise everything is run from the beginning.
        force: whether they are kept although the code has changed.
        changes: the inputs that are to differ, each with `after`, and `before` where the run had it.
    """

    number: int
    id: str
    flow_version: str
    recorded_version: str
    epoch: int | None
    state: str
    resume: bool
    force: bool = False
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return what the ledger keeps of it."""
        if self.resume:
            return {"resumed_from": self.id} | ({"force": True} if self.force else {})
        return {"rerun_of": self.id, "changes": self.changes}

    def check_state(self) -> None:
        """Refuse to resume a run that goes on, or that did all it had to do.

        Raises:
            NotResumableError: with its state.
        """
        if not self.resume or self.state in RESUMABLE:
            return
        if self.state == RunState.SUCCEEDED:
            why = f"has succeeded, so nothing of it is left to do; `pullcord runs rerun {self.id}` runs it again"
        else:
            why = f"is {self.state}: only a run that failed or was cancelled can be resumed"
        raise NotResumableError(f"run {self.id} {why}", self.state)

    def check_code(self, spec: FlowSpec) -> None:
        """Refuse to resume a run with other code than it ran with, unless that is asked for.

        Raises:
            CodeChangedError: naming both versions.
        """
        if self.resume and not self.force and spec.version != self.flow_version:
            raise CodeChangedError(
                f"the code of {spec.name} has changed since run {self.id} (version {self.flow_version}, now "
                f"{spec.version}): re-run it from the beginning, or resume it by force (--force), which keeps its "
                "recorded results where the code asks for the same steps"
            )

    def version_kept(self, spec: FlowSpec) -> str | None:
        """Return the version that the results which a resumed run keeps are of, where it is not the flow's own."""
        return self.recorded_version if self.resume and self.recorded_version != spec.version else None

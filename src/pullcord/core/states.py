"""The run state machine and the outcomes of a request: the one table of legal transitions.

`docs/reference/states.md` and the transition tests are made from this module.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class RunState(StrEnum):
    """Where a run is. An ended run stays ended."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepState(StrEnum):
    """Where a step record is. `retrying` is a failed try with another one to come, `interrupted` one without an end."""

    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class QuestionState(StrEnum):
    """Where a question to a person is. `cancelled`: the run ended, or began anew, before there was one."""

    OPEN = "open"
    ANSWERED = "answered"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Outcome(StrEnum):
    """What became of a request at the gate."""

    ADMITTED = "admitted"
    REPLAYED = "replayed"
    DEDUPLICATED = "deduplicated"
    SKIPPED = "skipped"
    REJECTED = "rejected"
    AWAITING_APPROVAL = "awaiting_approval"
    DENIED = "denied"
    EXPIRED = "expired"
    MISSED = "missed"
    ERRORED = "errored"


_S = RunState

TRANSITIONS: Final[dict[RunState, frozenset[RunState]]] = {
    _S.SCHEDULED: frozenset({_S.QUEUED, _S.CANCELLED}),
    _S.QUEUED: frozenset({_S.RUNNING, _S.CANCELLED, _S.FAILED}),
    _S.RUNNING: frozenset({_S.WAITING, _S.SCHEDULED, _S.CANCELLING, _S.CANCELLED, _S.SUCCEEDED, _S.FAILED}),
    _S.WAITING: frozenset({_S.RUNNING, _S.SCHEDULED, _S.CANCELLING, _S.CANCELLED, _S.SUCCEEDED, _S.FAILED}),
    _S.CANCELLING: frozenset({_S.CANCELLED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}
"""From each state, the states a run may go to next.

`queued → failed` is a run that would wait for ever, as its ancestors hold the slot. `running → scheduled` is a retry's
back-off; `running → cancelled` directly is a run that has no worker at the moment.
"""

ENDED: Final = frozenset(state for state, following in TRANSITIONS.items() if not following)
"""States that a run never leaves."""

ACTIVE: Final = frozenset({_S.RUNNING, _S.WAITING, _S.CANCELLING})
"""States that hold a concurrency slot."""


UNFINISHED: Final = frozenset({StepState.RUNNING, StepState.RETRYING, StepState.INTERRUPTED})
"""States of a step record that give the flow neither a result nor an error."""


def may_follow(state: RunState, following: RunState) -> bool:
    """Say whether a run in `state` may go to `following`."""
    return following in TRANSITIONS[state]


def can_reach(state: RunState) -> frozenset[RunState]:
    """Return every state that can come after `state`, directly or not."""
    seen: set[RunState] = set()
    todo = [state]
    while todo:
        for following in TRANSITIONS[todo.pop()] - seen:
            seen.add(following)
            todo.append(following)
    return frozenset(seen)

"""What is asked, by whom, and what the answer looks like."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from pullcord.clock import rfc3339
from pullcord.core.durations import Duration, seconds
from pullcord.core.errors import FieldError, PullcordError, UsageError
from pullcord.core.states import Outcome
from pullcord.gate.origin import Origin


@dataclass(frozen=True, slots=True)
class Invoker:
    """The authenticated principal that asks.

    Attributes:
        id: a stable name.
        kind: what it is, for example `local`.
        on_behalf_of: for whom it acts, outermost first.
    """

    id: str
    kind: str
    on_behalf_of: tuple[str, ...] = ()


OWNER: Final = Invoker("owner", "local")
"""Whoever can read the data folder's token."""

ANONYMOUS: Final = Invoker("anonymous", "none")
"""A call without a valid credential."""


TRIGGER: Final = "trigger"
"""The kind of an invoker that is no person and no program but a trigger."""


@dataclass(frozen=True, slots=True)
class TriggerRef:
    """What asked.

    Attributes:
        kind: `manual`, `flow` for a flow called inside a flow, or a trigger's kind.
        name: its name, where it has one.
    """

    kind: str
    name: str | None = None


MANUAL: Final = TriggerRef("manual")


@dataclass(slots=True)
class TriggerRequest:
    """One intent to run one flow.

    Attributes:
        flow: the flow's name.
        inputs: a JSON object.
        invoker: who asks.
        source: where the call came in: `cli`, `http`, `python`, `flow`, `server`.
        trigger: what asked.
        request_id: a UUID minted by the client.
        idempotency_key: any text.
        note: why, in the invoker's words.
        not_before: microseconds; the run is `scheduled` until then.
        priority: higher goes first, -1000 to 1000.
        test: a test run.
        dry_run: say what would happen.
        parent_id: number of the parent run.
        origin: the run that is wanted again.
        scheduled_for: the time that a schedule meant, microseconds.
        dedup: the key of a fire: it is one with others of this trigger as long as a run of theirs has not ended.
        delivery: id of a hook's delivery and fingerprint of its body.
        expires_in: how long its run may wait to start, microseconds.
    """

    flow: str
    inputs: Any
    invoker: Invoker
    source: str
    trigger: TriggerRef = MANUAL
    request_id: str | None = None
    idempotency_key: str | None = None
    note: str | None = None
    not_before: int | None = None
    priority: int = 0
    test: bool = False
    dry_run: bool = False
    parent_id: int | None = None
    origin: Origin | None = None
    scheduled_for: int | None = None
    dedup: str | None = None
    delivery: tuple[str, str] | None = None
    expires_in: int | None = None

    def check_times(self, now: int) -> None:
        """Refuse what would expire before it may start.

        Args:
            now: microseconds; `expires_in` counts from here.

        Raises:
            UsageError: it never had a chance.
        """
        if self.not_before is None or self.expires_in is None or now + self.expires_in > self.not_before:
            return
        raise UsageError(
            f"the run would expire before it may start, at {rfc3339(self.not_before)}: expires_in counts from the "
            "request, so make it longer, or not_before earlier"
        )


def expiry_of(value: Duration) -> int:
    """Return how long a run may wait to start, microseconds.

    Raises:
        UsageError: it is no time at all, or no duration.
    """
    length = round(seconds(value) * 1_000_000)
    if length <= 0:
        raise UsageError("expires_in must be longer than nothing; leave it out for a run that may wait for ever")
    return length


@dataclass(slots=True)
class Receipt:
    """The answer to a request.

    Attributes:
        request_id: id of the request; the original's when replayed.
        outcome: what became of it.
        reason: why, for people.
        code: why not, for programs.
        flow: the flow's name.
        run_id: id of the run, if there is one.
        state: the run's state.
        replayed: whether this is the original's receipt.
        position: place in the queue, from 1.
        errors: what is wrong with the inputs.
        run: the run's item, where it was waited for.
        retry_after: seconds after which asking again makes sense, where that is known of a refusal; over HTTP the
            header `Retry-After`.
    """

    request_id: str
    outcome: Outcome
    reason: str
    code: str | None
    flow: str
    run_id: str | None = None
    state: str | None = None
    replayed: bool = False
    position: int | None = None
    errors: list[FieldError] = field(default_factory=list)
    run: dict[str, Any] | None = None
    retry_after: int | None = None

    @property
    def refused(self) -> bool:
        """Whether nothing was admitted."""
        return self.outcome not in (Outcome.ADMITTED, Outcome.REPLAYED, Outcome.AWAITING_APPROVAL)

    def as_json(self) -> dict[str, Any]:
        """Return the receipt as the API shows it."""
        result: dict[str, Any] = {
            "request_id": self.request_id,
            "outcome": self.outcome,
            "reason": self.reason,
            "code": self.code,
            "flow": self.flow,
            "run_id": self.run_id,
            "state": self.state,
            "replayed": self.replayed,
            "position": self.position,
        }
        if self.errors:
            result["errors"] = self.errors
        if self.run is not None:
            result["run"] = self.run
        return result


class RefusedError(PullcordError):
    """The gate refused a request; `receipt` says why. Its `code` is the receipt's."""

    def __init__(self, receipt: Receipt) -> None:
        super().__init__(receipt.reason)
        self.receipt = receipt
        self.code = receipt.code or receipt.outcome  # type: ignore[misc]

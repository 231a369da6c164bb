"""Who is told of what: the rules that flows are declared with, that settings have for all, and that people add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pullcord.core.durations import Duration, seconds
from pullcord.core.errors import DefinitionError, UsageError
from pullcord.core.trigger import NAME_RULE

SUCCEEDED, FAILED, RECOVERED = "run.succeeded", "run.failed", "run.recovered"
RETRYING, FAILING, CANCELLED, LONG = "run.retrying", "run.failing", "run.cancelled", "run.long"
MISSED, SKIPPED = "request.missed", "request.skipped"
TRIGGER_DISABLED, ASKED, SUSPENDED = "trigger.disabled", "question.asked", "flow.suspended"

EVENTS: Final = {
    SUCCEEDED: "a run succeeded",
    FAILED: "a run failed, after its last attempt",
    RECOVERED: "a run succeeded, the first one after a failure that was told",
    RETRYING: "an attempt of a run failed, and there will be another one",
    FAILING: "so many runs in a row failed; told once for each such series",
    CANCELLED: "a run was cancelled",
    LONG: "a run takes longer than runs of its flow usually do, or than a given time; told once for each run",
    MISSED: "a tick of a schedule was missed",
    SKIPPED: "a request was skipped",
    TRIGGER_DISABLED: "Pullcord disabled a trigger that kept failing",
    ASKED: "a run asks people a question",
    SUSPENDED: "Pullcord suspended a flow that kept failing",
}
"""What can be told of a flow, and what each means."""

USUAL_FACTOR: Final = 2.0
"""A run is long when it takes so many times its flow's usual duration, unless the rule says something else."""

MOST_FACTOR: Final = 1_000_000
"""A rule about long runs takes no larger factor."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What of a flow is told to which channels.

    Attributes:
        event: one of `EVENTS`.
        channels: names of channels of the settings.
        count: of `run.failing`, how many failures in a row; 1 for all others.
        factor: of `run.long`, how many times the usual duration of the flow's runs, or None.
        after: of `run.long`, how many seconds, or None.
    """

    event: str
    channels: tuple[str, ...]
    count: int = 1
    factor: float | None = None
    after: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the rule as a JSON object, as manifests carry it."""
        result: dict[str, Any] = {"event": self.event, "channels": list(self.channels)}
        if self.event == FAILING:
            result["count"] = self.count
        if self.event == LONG:
            result |= {"factor": self.factor, "after": self.after}
        return result


def on_success(*channels: str) -> Rule:
    """Tell these channels when a run has succeeded."""
    return make_rule(SUCCEEDED, channels)


def on_failure(*channels: str) -> Rule:
    """Tell these channels when a run has failed, after its last attempt."""
    return make_rule(FAILED, channels)


def on_recovery(*channels: str) -> Rule:
    """Tell these channels when a run succeeds, the first one after a failure that was told."""
    return make_rule(RECOVERED, channels)


def on_retry(*channels: str) -> Rule:
    """Tell these channels when an attempt has failed and there will be another one."""
    return make_rule(RETRYING, channels)


def on_failures(count: int, *channels: str) -> Rule:
    """Tell these channels when so many runs in a row have failed; once for each such series."""
    return make_rule(FAILING, channels, count=count)


def on_cancel(*channels: str) -> Rule:
    """Tell these channels when a run was cancelled."""
    return make_rule(CANCELLED, channels)


def on_long_run(*channels: str, factor: float | None = None, after: Duration | None = None) -> Rule:
    """Tell these channels, once for each run, when a run takes longer than usual.

    Args:
        channels: names of channels.
        factor: how many times the median duration of the flow's last successful runs; 2 unless `after` is given.
        after: a duration, whatever is usual.
    """
    return make_rule(LONG, channels, factor=factor, after=after)


def on_missed(*channels: str) -> Rule:
    """Tell these channels when a tick of a schedule was missed."""
    return make_rule(MISSED, channels)


def on_skipped(*channels: str) -> Rule:
    """Tell these channels when a request was skipped, for example because of a blackout or an overlap."""
    return make_rule(SKIPPED, channels)


def on_trigger_disabled(*channels: str) -> Rule:
    """Tell these channels when Pullcord disabled a trigger of the flow because it kept failing."""
    return make_rule(TRIGGER_DISABLED, channels)


def on_question(*channels: str) -> Rule:
    """Tell these channels when a run asks people a question."""
    return make_rule(ASKED, channels)


def on_suspended(*channels: str) -> Rule:
    """Tell these channels when Pullcord suspended the flow because it kept failing."""
    return make_rule(SUSPENDED, channels)


def make_rule(
    event: str,
    channels: Sequence[str],
    *,
    count: int | None = None,
    factor: float | None = None,
    after: Duration | None = None,
) -> Rule:
    """Return a rule.

    Raises:
        DefinitionError: it cannot be.
    """
    if event not in EVENTS:
        raise DefinitionError(f"{event!r} is nothing that can be told; there is {', '.join(EVENTS)}")
    given = channels if isinstance(channels, list | tuple) else ()
    names = tuple(dict.fromkeys(name for name in given if isinstance(name, str) and NAME_RULE.fullmatch(name)))
    if not names or not all(name in names for name in given):
        raise DefinitionError(f"name the channels to tell of {event}, for example 'ops-mail'; not {channels!r}")
    if (count is not None) != (event == FAILING):
        raise DefinitionError(f"{FAILING}, and nothing else, takes a count of failures in a row")
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or not 2 <= count <= 1000):
        raise DefinitionError(f"the count of failures in a row is a whole number from 2 to 1000, not {count!r}")
    if event != LONG:
        if factor is not None or after is not None:
            raise DefinitionError(f"only {LONG} takes a factor or a duration")
        return Rule(event, names, count or 1)
    if factor is not None and (type(factor) not in (int, float) or not 1 <= factor <= MOST_FACTOR):
        raise DefinitionError(
            f"the factor of a long run is a number of at least 1 and at most {MOST_FACTOR:,}, not {factor!r}"
        )
    try:
        length = None if after is None else seconds(after)
    except UsageError as error:
        raise DefinitionError(f"after: {error.message}") from None
    if factor is None and length is None:
        factor = USUAL_FACTOR
    return Rule(LONG, names, 1, None if factor is None else float(factor), length)


def notify_of(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Return the rules that a decorator was given.

    Raises:
        DefinitionError: something else was given.
    """
    if not isinstance(rules, list | tuple) or not all(isinstance(rule, Rule) for rule in rules):
        raise DefinitionError(f"notify is a list of rules, for example [pc.on_failure('ops-mail')], not {rules!r}")
    return tuple(dict.fromkeys(rules))


def rule_of(data: Any) -> Rule:
    """Read a rule as `Rule.as_json` writes it; what has a default may be left out.

    Raises:
        DefinitionError: it is none.
    """
    if not isinstance(data, Mapping):
        raise DefinitionError(f"a rule is an object with `event` and `channels`, not {data!r}")
    unknown = set(data) - {"event", "channels", "count", "factor", "after"}
    if unknown:
        raise DefinitionError(f"a rule has no {', '.join(sorted(map(str, unknown)))}")
    more = {name: data[name] for name in ("count", "factor", "after") if data.get(name) is not None}
    return make_rule(str(data.get("event")), data.get("channels", ()), **more)

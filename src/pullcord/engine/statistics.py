"""What has become of runs since the server started, by flow. Used on the event loop's thread; others may read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from pullcord.core.states import ENDED, RunState
from pullcord.histogram import RUN_SECONDS, Histogram
from pullcord.store.commands.claim import Claimed

MOST_FLOWS: Final = 200
"""So many flows have figures of their own; those that come later share `OTHER`."""

OTHER: Final = "(other)"

MICROSECONDS: Final = 1_000_000


class FlowStatistics:
    """The figures of one flow, test runs left out.

    Attributes:
        ended: how many runs ended, by state.
        retries: how many further attempts were scheduled.
        waited: seconds from being queued to the first start.
        took: seconds from the first start to the end.
    """

    __slots__ = ("ended", "retries", "took", "waited")

    def __init__(self) -> None:
        self.ended: Counter[str] = Counter()
        self.retries = 0
        self.waited = Histogram(RUN_SECONDS)
        self.took = Histogram(RUN_SECONDS)


class RunStatistics:
    """The figures of all flows.

    Attributes:
        flows: by name.
        steps: how many step records were written, by state.
        takeovers: how often a run lost its worker, by reason: `crashed`, `moved` or `restart`.
        replacements: how many workers were replaced, by location and reason.
    """

    def __init__(self) -> None:
        self.flows: dict[str, FlowStatistics] = {}
        self.steps: Counter[str] = Counter()
        self.takeovers: Counter[str] = Counter()
        self.replacements: Counter[tuple[str, str]] = Counter()
        self._running: dict[int, tuple[FlowStatistics, int]] = {}

    def of(self, flow: str) -> FlowStatistics:
        """Return the figures of a flow."""
        found = self.flows.get(flow)
        if found is None:
            name = flow if len(self.flows) < MOST_FLOWS else OTHER
            found = self.flows.setdefault(name, FlowStatistics())
        return found

    def claimed(self, runs: Sequence[Claimed]) -> None:
        """Note runs that start, or go on."""
        for run in runs:
            if run.test or run.started_at is None:
                continue
            flow = self.flows.get(run.flow) or self.of(run.flow)
            self._running[run.id] = (flow, run.started_at)
            if run.token == 1 and run.queued_at is not None:
                flow.waited.observe((run.started_at - run.queued_at) / MICROSECONDS)

    def left(self, number: int, state: str, now: int) -> bool:
        """Note that a run has left its worker for good, or until its next attempt.

        Args:
            number: the run.
            state: the state it is in now: an end, or `scheduled`.
            now: microseconds.

        Returns:
            Whether its end is counted; that of a run that never started here is not.
        """
        known = self._running.pop(number, None)
        if known is None:
            return False
        flow, started = known
        if state in ENDED:
            flow.ended[state] += 1
            flow.took.observe((now - started) / MICROSECONDS)
        elif state == RunState.SCHEDULED:
            flow.retries += 1
        return True

    def never_started(self, flow: str, state: str, test: bool) -> None:
        """Note the end of a run that no worker of this server had."""
        if not test:
            self.of(flow).ended[state] += 1

    def longest(self, now: int) -> dict[str, float]:
        """Return for how many seconds the oldest run that is going on has been going, by flow."""
        names = {flow: name for name, flow in list(self.flows.items())}
        oldest: dict[str, int] = {}
        for flow, started in list(self._running.values()):
            name = names[flow]
            oldest[name] = min(started, oldest.get(name, started))
        return {name: max(0.0, (now - started) / MICROSECONDS) for name, started in oldest.items()}

"""The morning after an outage: which failed runs to ask for again, and asking for them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from pullcord.clock import Clock, rfc3339
from pullcord.core.errors import UsageError
from pullcord.core.retry import retry_key
from pullcord.engine.catalog import Catalog
from pullcord.failpoints import hit
from pullcord.gate.again import Again
from pullcord.gate.request import Invoker, Receipt
from pullcord.store.queries.failed import FailedRun, Failures, find_failed
from pullcord.store.queries.flows import last_runs
from pullcord.store.store import Store

AT_A_TIME: Final = 20
"""So many requests are made at once."""

NOT_OF_ALL: Final = frozenset(
    {"invalid_inputs", "too_large", "overlap_rejected", "overlap_skipped", "queue_full", "rate_limited"}
)
"""Codes of refusals that say nothing about other runs of the same flow."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which failed runs are wanted again, and how.

    Attributes:
        since: they ended at or after, microseconds.
        until: and before; until now unless given.
        flow: of one flow.
        error: with this type of error, with or without its module.
        from_beginning: run them from the beginning instead of keeping their recorded steps.
        force: keep these although the code has changed.
        limit: ask for at most as many.
        reason: why, kept with the runs.
    """

    since: int
    until: int | None = None
    flow: str | None = None
    error: str | None = None
    from_beginning: bool = False
    force: bool = False
    limit: int = 100
    reason: str | None = None


@dataclass(slots=True)
class _Group:
    """The failed runs of one flow with one type of error."""

    retryable: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


class RetryFailed:
    """Asks for failed runs again.

    Args:
        store: where they are.
        again: asks for single runs.
        catalog: knows the flows.
        clock: the time.
    """

    def __init__(self, store: Store, again: Again, catalog: Catalog, clock: Clock) -> None:
        self._store = store
        self._again = again
        self._catalog = catalog
        self._clock = clock

    async def retry(self, wanted: Wanted, dry_run: bool, invoker: Invoker, source: str) -> dict[str, Any]:
        """Say what would be asked for again, or ask for it.

        Every run is asked for under a key that follows from its origin, so that however often this is called there is
        one new run for each; and another one where that was cancelled.

        Args:
            wanted: which runs.
            dry_run: only say it: `runs` then names all of them, and `cancelled` the new run of each that was asked for
                before in vain. Each flow is tried at the gate, by a dry run.
            invoker: who asks.
            source: where the call came in.

        Raises:
            UsageError: the time ends before it begins.
            UnknownFlowError: there is no such flow, and there never was a run of it.
        """
        if wanted.until is not None and wanted.until < wanted.since:
            raise UsageError(
                f"the time ends at {rfc3339(wanted.until)}, before it begins at {rfc3339(wanted.since)}; exchange "
                "`since` and `until`"
            )
        until = self._clock.now() if wanted.until is None else wanted.until
        found = await self._store.read(find_failed, wanted.since, until, wanted.flow, wanted.error)
        if wanted.flow is not None and not found.runs and not found.skipped:
            await self._check_flow(wanted.flow)
        groups: dict[tuple[str, str], _Group] = {}
        for (flow, error, why), count in found.skipped.items():
            groups.setdefault((flow, error), _Group()).skipped[why] = count
        runs = await self._sort_out(wanted, found, groups, invoker, source)
        receipts = [] if dry_run else await self._ask(wanted, runs[: wanted.limit], invoker, source)
        return {
            "dry_run": dry_run,
            "since": rfc3339(wanted.since),
            "until": rfc3339(until),
            "failed": len(found.runs) + found.skipped.total(),
            "retryable": len(runs),
            "more": found.more,
            "groups": [
                {
                    "flow": flow,
                    "error": error,
                    "retryable": group.retryable,
                    "skipped": group.skipped,
                    "reasons": group.reasons,
                }
                for (flow, error), group in sorted(groups.items())
            ],
            "runs": [run.id for run in runs] if dry_run else [],
            "cancelled": {run.id: run.after for run in runs if run.after is not None} if dry_run else {},
            "receipts": [{"origin": run.id, "receipt": receipt.as_json()} for run, receipt in receipts],
        }

    async def _check_flow(self, flow: str) -> None:
        """Tell a flow of which nothing has failed from a name that is misspelt."""
        if flow not in self._catalog.removed and not await self._store.read(last_runs, [flow]):
            await self._catalog.resolve(flow)

    async def _sort_out(
        self, wanted: Wanted, found: Failures, groups: dict[tuple[str, str], _Group], invoker: Invoker, source: str
    ) -> list[FailedRun]:
        """Return the runs whose flow the gate would let run, and count all by their groups."""
        samples = {(run.flow, run.flow_version): run for run in found.runs}
        verdicts: dict[tuple[str, str], Receipt] = {}
        for key, run in samples.items():
            verdicts[key] = await self._one(wanted, run, invoker, source, dry_run=True)
        kept: list[FailedRun] = []
        for run in found.runs:
            group = groups.setdefault((run.flow, run.error), _Group())
            verdict = verdicts[run.flow, run.flow_version]
            code = verdict.code or verdict.outcome
            if verdict.refused and code not in NOT_OF_ALL:
                group.skipped[code] = group.skipped.get(code, 0) + 1
                group.reasons[code] = verdict.reason
            else:
                group.retryable += 1
                kept.append(run)
        return kept

    async def _ask(
        self, wanted: Wanted, runs: list[FailedRun], invoker: Invoker, source: str
    ) -> list[tuple[FailedRun, Receipt]]:
        answers: list[tuple[FailedRun, Receipt]] = []
        for start in range(0, len(runs), AT_A_TIME):
            part = runs[start : start + AT_A_TIME]
            hit("retry.before_ask")
            receipts = await asyncio.gather(*(self._one(wanted, run, invoker, source) for run in part))
            answers += zip(part, receipts, strict=True)
        return answers

    async def _one(
        self, wanted: Wanted, run: FailedRun, invoker: Invoker, source: str, dry_run: bool = False
    ) -> Receipt:
        options: dict[str, Any] = {"note": wanted.reason, "dry_run": dry_run}
        if not dry_run:
            options["idempotency_key"] = retry_key(run.id, run.after)
        if wanted.from_beginning:
            return await self._again.rerun(run.id, None, invoker, source, **options)
        return await self._again.resume(run.id, invoker, source, force=wanted.force, **options)

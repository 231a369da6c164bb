"""The pruner: deletes what has been kept long enough, in small transactions that leave room for others.

Rows go first, and files when the rows are gone on disk. A process that dies in between leaves files that nothing
refers to, and a later round sweeps them. So it may be stopped anywhere, and begins again where it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic_core import from_json

from pullcord.clock import Clock, rfc3339
from pullcord.core.errors import PullcordError
from pullcord.core.keep import Retention
from pullcord.engine.contents import GRACE, Contents
from pullcord.engine.logfiles import LogFolder
from pullcord.failpoints import hit
from pullcord.services.duty import Duty
from pullcord.services.pace import Pace
from pullcord.store.commands.artifacts import DropContents
from pullcord.store.commands.keys import RETENTION
from pullcord.store.commands.prune import (
    ARTIFACTS,
    HISTORY,
    REQUESTS,
    RUNS,
    PruneArtifacts,
    Pruned,
    PruneHistory,
    PruneRequests,
    PruneRuns,
)
from pullcord.store.queries import retention as queries
from pullcord.store.queries.retention import NEVER, Kept, Part
from pullcord.store.store import Store

log = logging.getLogger(__name__)

FIRST: Final = 60.0
"""Seconds after its start that a server prunes for the first time."""

EVERY: Final = 3600.0
"""Seconds between the end of a round and the next one."""

LOGS: Final = "logs"

BATCH: Final = 500
"""Files that are looked up at once."""

Make = Callable[[list[int], Callable[[Any], None]], Any]


@dataclass(slots=True)
class Round:
    """What a round has done so far, or would do.

    Attributes:
        rows: how much of each kind and flow, or trigger.
        bytes: size of the files among it.
        began: when, microseconds.
        ended: when it was over, or None.
        failure: why it ended early, or None.
    """

    began: int
    rows: Counter[tuple[str, str]] = field(default_factory=Counter)
    bytes: Counter[tuple[str, str]] = field(default_factory=Counter)
    ended: int | None = None
    failure: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        items = [
            {"kind": kind, "of": of or None, "count": count, "bytes": self.bytes.get((kind, of))}
            for (kind, of), count in sorted(self.rows.items())
            if count
        ]
        return {"began": rfc3339(self.began), "ended": rfc3339(self.ended), "failure": self.failure, "items": items}


class Pruner(Duty):
    """Prunes.

    Args:
        store: the open store.
        clock: the time.
        retention: how long what is kept, where a flow does not say otherwise.
        by_itself: whether it prunes every hour, or only when it is told to.

    Attributes:
        retention: likewise.
        last: the round that goes on, or the last one.
        totals: how much of each kind was deleted since the start.
        further: what other parts delete in each round, by kind: called with the pruner, returns how many rows.
    """

    def __init__(self, store: Store, clock: Clock, retention: Retention, by_itself: bool = True) -> None:
        super().__init__()
        self.retention = retention
        self.last: Round | None = None
        self.totals: Counter[str] = Counter()
        self.further: dict[str, Callable[[Pruner], Awaitable[int]]] = {}
        self._by_itself = by_itself
        self._store = store
        self._clock = clock
        self._logs = LogFolder(store.folder / "logs")
        self._contents = Contents(store.folder / "artifacts")
        self._pace = Pace()
        self._now = asyncio.Event()

    @property
    def busy(self) -> bool:
        """Whether a round goes on."""
        return self.last is not None and self.last.ended is None

    def prune_now(self) -> None:
        """Begin a round now, unless one goes on."""
        if not self.busy:
            self.last = Round(self._clock.now())
        self._now.set()

    async def _work(self) -> None:
        pause = FIRST
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause if self._by_itself else None):
                    await self._now.wait()
            await self.prune()
            self._now.clear()
            pause = EVERY

    async def prune(self) -> Round:
        """Do a round: delete everything that has been kept long enough; return what it came to."""
        done = self.last if self.last is not None and self.last.ended is None else Round(self._clock.now())
        self.last = done
        try:
            await self._prune(done)
        except (PullcordError, OSError) as error:
            done.failure = str(error)
            log.warning("pruning stopped early, and is tried again later: %s", error)
        except Exception as error:
            done.failure = str(error)
            log.exception("pruning failed")
        done.ended = self._clock.now()
        if done.rows:
            counts = Counter[str]()
            for (kind, _), count in done.rows.items():
                counts[kind] += count
            words = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in counts.items())
            log.info("pruned what was kept long enough: %s", words, extra={"pruned": dict(counts)})
        return done

    async def preview(self) -> Round:
        """Return what a round would delete now; nothing is deleted."""
        seen = Round(self._clock.now())
        kept = await self._rules()
        before, expired = self._before(self.retention.ledger), self._clock.now() - RETENTION
        gone: set[int] = set()
        for flow, rule in kept.items():
            async for part in self._pages(queries.prunable_runs, flow, rule):
                gone.update(part.ids)
                going = await self._store.read(queries.going_with, part.ids, before, expired)
                seen.rows[RUNS, flow] += len(part.ids)
                seen.rows[REQUESTS, flow] += going.requests
                seen.rows[ARTIFACTS, flow] += going.artifacts
                seen.bytes[ARTIFACTS, flow] += going.bytes
                await self._see_logs(seen, dict.fromkeys(going.uuids, flow))
        async for part in self._pages(queries.prunable_requests, before, expired):
            seen.rows.update((REQUESTS, flow) for flow in part.about)
        async for part in self._pages(queries.prunable_history, self._before(self.retention.trigger_history)):
            seen.rows.update((HISTORY, name) for name in part.about)
        async for part, sizes in self._artifact_pages(kept):
            for number, flow, some in zip(part.ids, part.about, sizes, strict=True):
                if number not in gone:
                    seen.rows[ARTIFACTS, flow] += len(some)
                    seen.bytes[ARTIFACTS, flow] += sum(some)
        async for uuids in self._old_logs(kept, gone):
            await self._see_logs(seen, uuids)
        return seen

    async def _see_logs(self, seen: Round, uuids: dict[str, str]) -> None:
        sizes = await asyncio.to_thread(lambda: {uuid: self._logs.size_of(uuid) for uuid in uuids})
        for uuid, flow in uuids.items():
            if sizes[uuid]:
                seen.rows[LOGS, flow] += 1
                seen.bytes[LOGS, flow] += sizes[uuid]

    async def _prune(self, done: Round) -> None:
        kept = await self._rules()
        ledger = self._before(self.retention.ledger)
        for flow, rule in kept.items():
            async for part in self._pages(queries.prunable_runs, flow, rule):
                async for pruned in self._delete(part.ids, lambda ids, told: PruneRuns(ids, ledger, told)):
                    self._add(done, RUNS, flow, len(pruned.runs))
                    self._add(done, REQUESTS, flow, pruned.requests)
                    hit("prune.after_write")
                    self._add(done, ARTIFACTS, flow, len(pruned.contents))
                    done.bytes[ARTIFACTS, flow] += sum(pruned.bytes.values())
                    sizes = await asyncio.to_thread(self._logs.remove, pruned.runs)
                    self._add(done, LOGS, flow, len(sizes))
                    done.bytes[LOGS, flow] += sum(sizes.values())
                    await self._drop(pruned.contents)
        expired = self._clock.now() - RETENTION
        async for part in self._pages(queries.prunable_requests, ledger, expired):
            async for pruned in self._delete(part.ids, lambda ids, told: PruneRequests(ids, ledger, told)):
                self._add_each(done, REQUESTS, part, pruned)
        before = self._before(self.retention.trigger_history)
        async for part in self._pages(queries.prunable_history, before):
            async for pruned in self._delete(part.ids, lambda ids, told: PruneHistory(ids, before, told)):
                self._add_each(done, HISTORY, part, pruned)
        async for part, _ in self._artifact_pages(kept):
            async for pruned in self._delete(part.ids, PruneArtifacts):
                self._add_each(done, ARTIFACTS, part, pruned)
                await self._drop(pruned.contents)
        for kind, more in self.further.items():
            self._add(done, kind, "", await more(self))
        await self._sweep(done, kept)

    async def _sweep(self, done: Round, kept: dict[str, Kept]) -> None:
        """Delete files that are old enough, or that nothing refers to."""
        async for uuids in self._old_logs(kept):
            sizes = await asyncio.to_thread(self._logs.remove, list(uuids))
            for uuid, size in sizes.items():
                self._add(done, LOGS, uuids[uuid], 1)
                done.bytes[LOGS, uuids[uuid]] += size
        before = time.time() - GRACE
        folders = self._contents.old(before)
        while (found := await asyncio.to_thread(next, folders, None)) is not None:
            for start in range(0, len(found), BATCH):
                some = found[start : start + BATCH]
                known = await self._store.read(queries.known_contents, some)
                await self._drop([content for content in some if content not in known])
        files, size = await asyncio.to_thread(self._contents.sweep, before)
        self._add(done, "contents", "", files)
        done.bytes["contents", ""] += size

    # --- parts ---------------------------------------------------------------------------------------

    async def _rules(self) -> dict[str, Kept]:
        """Return what is kept of each flow that has runs, as moments of now."""
        said = {name: from_json(text).get("settings", {}).get("keep") for name, text in await self._settings()}
        rules: dict[str, Kept] = {}
        for flow in await self._store.read(queries.flows_with_runs):
            rule = self.retention.of(said.get(flow))
            rules[flow] = Kept(
                self._before(rule.runs),
                self._before(rule.logs),
                self._before(rule.artifacts),
                await self._store.read(queries.beyond, flow, rule.count),
                await self._store.read(queries.spared_runs, flow),
            )
        return rules

    async def _settings(self) -> list[tuple[str, str]]:
        return await self._store.read(queries.kept_settings)

    def _before(self, seconds: float) -> int:
        return NEVER if math.isinf(seconds) else max(NEVER, self._clock.now() - round(seconds * 1_000_000))

    async def _pages(self, query: Callable[..., Part], *arguments: Any) -> AsyncIterator[Part]:
        after: int | None = 0
        while after is not None:
            part = await self._store.read(query, *arguments, after)
            yield part
            after = part.after

    async def _artifact_pages(self, kept: Mapping[str, Kept]) -> AsyncIterator[tuple[Part, list[list[int]]]]:
        after: int | None = 0
        while after is not None:
            part, sizes = await self._store.read(queries.prunable_artifacts, kept, after)
            yield part, sizes
            after = part.after

    async def _old_logs(
        self, kept: Mapping[str, Kept], gone: Container[int] = frozenset()
    ) -> AsyncIterator[dict[str, str]]:
        """Yield ids of runs whose log may go with their flows, but for some; "" for logs of runs that are gone."""
        left_alone = time.time() - GRACE
        before = max((rule.logs for rule in kept.values()), default=NEVER)
        for folder in await asyncio.to_thread(self._logs.folders):
            files = await asyncio.to_thread(self._logs.runs_in, folder)
            for start in range(0, len(files), BATCH):
                some = files[start : start + BATCH]
                known = await self._store.read(queries.runs_of_logs, [uuid for uuid, _ in some], before)
                chosen: dict[str, str] = {}
                for uuid, touched in some:
                    number, flow, ended_at = known.get(uuid, (0, "", None))
                    rule = kept.get(flow)
                    if not number and touched < left_alone:
                        chosen[uuid] = ""
                    elif rule is None or ended_at is None or number in rule.spared or number in gone:
                        continue
                    elif ended_at < rule.logs:
                        chosen[uuid] = flow
                if chosen:
                    yield chosen

    async def _delete(self, ids: list[int], make: Make) -> AsyncIterator[Pruned]:
        """Delete rows in small transactions, and rest after each."""
        position = 0
        while position < len(ids):
            some = ids[position : position + self._pace.size]
            position += len(some)
            hit("prune.before_write")
            commits, began = self._store.commits, time.perf_counter()
            pruned: Pruned = await self._store.write(lambda told, some=some: make(some, told))  # type: ignore[misc]
            yield pruned
            rest = self._pace.rest(
                pruned.seconds,
                time.perf_counter() - began,
                self._store.commits > commits + 1 or self._store.waiting > 0,
            )
            await asyncio.sleep(rest)

    async def _drop(self, contents: list[str]) -> None:
        if contents:
            before = time.time() - GRACE
            await self._store.write(lambda told: DropContents(self._contents.folder, contents, before, told))

    def _add_each(self, done: Round, kind: str, part: Part, pruned: Pruned) -> None:
        about = dict(zip(part.ids, part.about, strict=True))
        for number, count in pruned.gone.items():
            self._add(done, kind, about[number], count)
        for number, size in pruned.bytes.items():
            done.bytes[kind, about[number]] += size

    def _add(self, done: Round, kind: str, of: str, count: int) -> None:
        if count:
            done.rows[kind, of] += count
            self.totals[kind] += count

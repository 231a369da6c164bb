"""What must be true when the day is over and all is quiet."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pullcord.clock import microseconds
from tests.crash.verify import doctor, every, server_log
from tests.day.pace import MINUTE
from tests.day.world import ENDED, Facts, World
from tests.system.witnessed import lines_of

LIMITS: Final = {
    "single": 1, "narrow": 3, "regional": 1, "member": 3, "skipping": 2, "strict": 2, "buffered": 1, "newest": 1,
}  # fmt: skip
"""The flows whose runs may not overlap more often with one key, from their first line to their last."""

GROUPS: Final = {("regional", "member"): 4}
"""The flows that share a limit."""

STEPS: Final = set(range(3))
"""The steps of every flow."""

TRIES: Final = {"insists": 5}
"""How many tries of a step a flow may use up by itself."""

QUARTER: Final = 15 * MINUTE
"""The distance of the ticks that are counted."""

FIGURES: Final = ("get", "/v1/flows/{name}/stats")
"""The call of which figures can be asked."""

LISTED: Final = ("get", "/v1/notifications")
"""The call of which what was told can be asked."""

Runs = Mapping[str, dict[str, Any]]


def problems(world: World, log: Path, began: int, ended: int) -> list[str]:
    """Return everything that is not as it must be; the server is up and idle.

    Args:
        world: what callers were told.
        log: what the flows noted.
        began: simulated time at which the first server was ready.
        ended: simulated time at which the schedules were disabled.
    """
    api, facts = world.server.api, world.facts
    runs = {run["id"]: run for run in every(api, "/v1/runs")}
    requests = list(every(api, "/v1/requests"))
    lines = lines_of(log)
    for run in runs.values():
        world.saw(run)
    return [
        *facts.wrong,
        *_receipts(facts, runs),
        *_ends(facts, runs),
        *_once(facts, runs.values()),
        *_ticks(requests, began, ended),
        *_followers(runs.values()),
        *_answers(world, runs.values()),
        *_executions(runs, lines),
        *_overlaps(lines),
        *_figures(world, runs.values()),
        *_told(world, runs.values()),
        *server_log(world.server),
        *doctor(world.server.data_dir),
    ]


def _receipts(facts: Facts, runs: Runs) -> Iterator[str]:
    """Every receipt can be looked up."""
    for receipt in facts.receipts:
        run = runs.get(receipt["run_id"])
        if run is None and receipt["run_id"] in facts.brief:
            continue
        if run is None or run["flow"] != receipt["flow"]:
            yield f"the receipt {receipt} belongs to {run}"
        elif run["request_id"] != receipt["request_id"] and not receipt["replayed"]:
            yield f"the receipt {receipt} belongs to the request {run['request_id']}"


def _ends(facts: Facts, runs: Runs) -> Iterator[str]:
    """Every run ended, and as it may."""
    for run in runs.values():
        state, error = run["state"], run["error"] or {}
        name = f"run {run['id']} of {run['flow']}"
        if state not in ENDED:
            yield f"{name} is still {state}"
        elif error.get("type") == "expired":
            if run["started_at"] is not None:
                yield f"{name} expired, and had started"
        elif state == "cancelled" and run["flow"] == "newest":
            continue  # a newer one has taken its place
        elif state == "cancelled" and not facts.cancelled & set(_line(run, runs)):
            yield f"{name} is cancelled, and nobody asked for it"
        elif error.get("type") == "worker_lost":
            if run["takeovers"] < 3:
                yield f"{name} failed with worker_lost after {run['takeovers']} take-overs"
        elif state == "failed" and error.get("message") != "by chance" and not _for_its_child(run, runs):
            yield f"{name} failed: {error}"


def _line(run: dict[str, Any], runs: Runs) -> Iterator[str]:
    """Yield a run and those above it."""
    above: dict[str, Any] | None = run
    while above is not None:
        yield above["id"]
        above = runs.get(above["parent_id"] or "")


def _for_its_child(run: dict[str, Any], runs: Runs) -> bool:
    return any(other["parent_id"] == run["id"] and other["state"] != "succeeded" for other in runs.values())


def _once(facts: Facts, runs: Iterable[dict[str, Any]]) -> Iterator[str]:
    """One intent, number or delivery is one run; the numbers are all there. Re-runs carry no key."""
    found: Counter[tuple[str, int]] = Counter()
    for run in runs:
        what = run["inputs"].get("intent", run["inputs"].get("number"))
        if what is not None and run["rerun_of"] is None and run["flow"] != "child" and not run["resumed_from"]:
            found[run["flow"], what] += 1
    for (flow, what), count in found.items():
        if count > 1 and what > 0:
            yield f"{what} for {flow} became {count} runs"
    fired = {what for flow, what in found if flow == "counted"}
    differ = fired ^ set(range(1, facts.numbers + 1))
    if differ:
        yield f"the event had {facts.numbers} numbers; runs differ by {sorted(differ)}"


def _ticks(requests: Iterable[dict[str, Any]], began: int, ended: int) -> Iterator[str]:
    """Every quarter of an hour became one run, whatever died; no tick of any schedule was run twice."""
    admitted: Counter[tuple[str, int]] = Counter()
    for row in requests:
        # What is wanted again is for the tick of its origin.
        if row["scheduled_for"] is not None and row["outcome"] == "admitted" and row["origin"] is None:
            admitted[row["trigger"]["name"], microseconds(datetime.fromisoformat(row["scheduled_for"]))] += 1
    for (name, tick), count in admitted.items():
        if count > 1:
            yield f"the tick {tick} of {name} was run {count} times"
    ticks = sorted(tick for name, tick in admitted if name == "steady")
    # What was due a moment before the schedule was disabled may not have been dealt with.
    wanted = list(range(began - began % QUARTER + QUARTER, ended - 5 * MINUTE, QUARTER))
    missing = set(wanted) - set(ticks)
    if missing:
        yield f"of {len(wanted)} ticks these are missing: {sorted(missing)}"


def _followers(runs: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The end of each run of `chain` started one other run."""
    ends, started = set(), Counter[str]()
    for run in runs:
        if run["flow"] == "chain" and not run["test"]:
            ends.add(run["id"])
        elif run["flow"] == "follower" and run["trigger"]["kind"] == "completion":
            started[run["inputs"]["of"]] += 1
    for of in ends ^ set(started):
        yield f"the end of run {of} of chain started {started[of]} runs"
    for of, count in started.items():
        if count > 1:
            yield f"the end of run {of} of chain started {count} runs"


def _answers(world: World, runs: Iterable[dict[str, Any]]) -> Iterator[str]:
    """A run goes on with the answer that was taken, and with the default where none was."""
    facts = world.facts
    for run in runs:
        if run["flow"] != "curious" or run["state"] != "succeeded" or run["rerun_of"] or run["resumed_from"]:
            continue
        result = world.server.api.look(run["id"])["result"]
        answer = facts.answers.get(run["id"])
        possible = {-1, *facts.doubtful.get(run["id"], ())} if answer is None else {answer}
        if result not in possible:
            yield f"run {run['id']} went on with {result}, and was answered {answer}"


def _executions(runs: Runs, lines: Iterable[dict[str, Any]]) -> Iterator[str]:
    """A step whose record was acknowledged never runs again: once the next one has begun, it is seen no more.

    And a step is executed again only where a worker or a server was lost. Of a run of `brief` that is forgotten,
    nobody knows whether it went on with steps of another.
    """
    latest: dict[str, int] = {}
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for line in lines:
        if line["kind"] != "step":
            continue
        run, step = line["run"], line["what"]
        if run not in runs and line["flow"] == "brief":
            continue
        goes_on = run in runs and runs[run]["resumed_from"] is not None and run not in latest
        before = step if goes_on else latest.get(run, -1)
        if step not in (before, before + 1):
            yield f"run {run} of {line['flow']} executed step {step} after step {before}"
        latest[run] = step
        counts[run][step] += 1
    for run_id, steps in counts.items():
        known = runs.get(run_id)
        if known is None:
            yield f"run {run_id} was executed, and nobody knows it"
            continue
        most = 1 + known["takeovers"] + TRIES.get(known["flow"], 0)
        if max(steps.values()) > most:
            yield f"run {run_id} of {known['flow']} executed a step {max(steps.values())} times, {most} at most"
    for item in runs.values():
        done = set(counts[item["id"]])
        if item["state"] == "succeeded" and item["resumed_from"] is None and done != STEPS:
            yield f"run {item['id']} of {item['flow']} succeeded with steps {sorted(done)}"


def _overlaps(lines: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Limits hold: by what the flows saw of a lock, and by the times from the first to the last line of each run."""
    spans: dict[tuple[str, str], list[float]] = defaultdict(list)
    keys: dict[str, str] = {}
    for line in lines:
        if line["kind"] == "overlap":
            yield f"run {line['run']} of {line['flow']} began while another one held the lock"
        if line["kind"] == "begin":
            keys[line["run"]] = line["what"] or ""
        spans[line["flow"], line["run"]].append(line["at"])
    by_limit: dict[tuple[str, int], list[list[float]]] = defaultdict(list)
    for (flow, run), times in spans.items():
        if flow in LIMITS:
            by_limit[f"{flow} {keys.get(run, '')}".rstrip(), LIMITS[flow]].append(times)
        for flows, limit in GROUPS.items():
            if flow in flows:
                by_limit[" and ".join(flows), limit].append(times)
    for (name, limit), runs in by_limit.items():
        most = _most_at_once(runs)
        if most > limit:
            yield f"{most} runs of {name} at once, {limit} at most"


def _most_at_once(runs: Iterable[list[float]]) -> int:
    changes = sorted(change for times in runs for change in ((min(times), 1), (max(times), -1)))
    at_once = most = 0
    for _, change in changes:
        at_once += change
        most = max(most, at_once)
    return most


def _figures(world: World, runs: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The figures of each flow are those of its runs that ended since they are complete: earlier ones may be pruned."""
    if FIGURES not in world.operations():
        return
    api = world.server.api
    by_flow: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        if not run["test"]:
            by_flow[run["flow"]].append(run)
    for flow, found in by_flow.items():
        stats = api.get(f"/v1/flows/{flow}/stats", window="366d").body
        (window,) = stats["windows"]
        counted = [run for run in found if run["ended_at"] is not None and _at(run["ended_at"]) >= _at(stats["since"])]
        states = Counter(run["state"] for run in counted)
        if {state: count for state, count in window["states"].items() if count} != dict(states):
            yield f"the figures of {flow} say {window['states']}, and its runs are {dict(states)}"
        records = sum(int((run["progress"] or {"done": 0})["done"]) for run in counted)
        if (window["records"] or 0) != records:
            yield f"the figures of {flow} say {window['records']} records, and its runs {records}"


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _told(world: World, runs: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Every failure of `chain` was told, and whoever was to be told has taken it."""
    if LISTED not in world.operations():
        return
    failed = sum(run["flow"] == "chain" and run["state"] == "failed" and not run["test"] for run in runs)
    told = 0
    for item in every(world.server.api, "/v1/notifications", channel="ops"):
        if item["event"] == "run.failed":
            told += item["count"]
        if item["state"] != "delivered":
            yield f"the notification {item['id']} is {item['state']}: {item['last_error']}"
        elif not world.receiver.got[item["id"]]:
            yield f"the notification {item['id']} counts as delivered, and nobody got it"
    if told != failed:
        yield f"{failed} runs of chain failed, and {told} were told"

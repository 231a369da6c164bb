"""What has happened and is to be told: noted in the outbox with what happened itself, in one transaction.

Happenings of one kind, that is of one channel, flow and event, share a notification until that is sealed, which the
notifier does when it sends it. After a notification the next of its kind is due one window later, so that however much
happens, few messages tell of it. When something is due is a matter of the clock, also when that went back; when it
happened is the time of its transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic_core import from_json
from uuid_utils import uuid7

from pullcord.clock import rfc3339
from pullcord.core.notify import CANCELLED, FAILED, FAILING, MISSED, RECOVERED, RETRYING, SKIPPED, SUCCEEDED
from pullcord.core.rulebook import Book, tells_failures
from pullcord.core.states import Outcome, RunState
from pullcord.store.statement import dump, names, rows
from pullcord.store.transaction import Transaction

GATHERING, PENDING, DELIVERED, GIVEN_UP = "gathering", "pending", "delivered", "failed"
"""States of a notification: it may grow; it is on its way, and stays as it is; it arrived; it was given up."""

OF_REQUESTS: Final = {Outcome.MISSED: MISSED, Outcome.SKIPPED: SKIPPED}
"""The outcomes of requests that can be told."""

_RUNS = """
SELECT EACH[id, flow, state, attempt, not_before, CASE WHEN state = 'scheduled' THEN error END] FROM runs
WHERE id IN VALUES[ids:int] AND test = 0
    AND (ended_at = :now OR state = 'scheduled')"""
_SERIES = "SELECT EACH[flow, failures, told] FROM failure_series WHERE flow IN VALUES[flows]"
_KEEP_SERIES = f"""
INSERT INTO failure_series (flow, failures, told)
SELECT flow, failures, told FROM {rows("flow failures:int told:int")} AS s WHERE true
ON CONFLICT (flow) DO UPDATE SET failures = excluded.failures, told = excluded.told"""
_KIND = "s.channel AND n.flow = s.flow AND n.event = s.event"
_DUE = f"(SELECT max(n.due_at) FROM notifications n WHERE n.channel = {_KIND})"
_OUTBOX = "id:int uuid channel flow event count:int window:int"
_GATHER = f"""
INSERT INTO notifications (id, uuid, channel, flow, event, state, count, created_at, last_at, due_at, tries)
SELECT id, uuid, channel, flow, event, 'gathering', count, :now, :now,
    CASE WHEN last_due > :clock - span THEN last_due + span ELSE :clock END, 0
FROM (SELECT s.id, s.uuid, s.channel, s.flow, s.event, s.count, s.span, {_DUE} AS last_due
      FROM {rows(_OUTBOX.replace("window", "span"))} AS s) AS t WHERE true
ON CONFLICT (channel, flow, event) WHERE state = 'gathering'
DO UPDATE SET count = notifications.count + excluded.count, last_at = excluded.last_at"""
_HAPPENING = "id:int channel flow event run_id:int count:int detail"
_NOTE = f"""
INSERT INTO happenings (notification_id, {names(_HAPPENING)}, at)
SELECT n.id, s.id, s.channel, s.flow, s.event, s.run_id, s.count, s.detail, :now
FROM {rows(_HAPPENING)} AS s JOIN notifications n ON n.channel = {_KIND} AND n.state = 'gathering'"""
_NOTED = f"""
SELECT EACH[id, channel, flow, event, detail] FROM (
    SELECT h.id, h.channel, h.flow, h.event, h.detail FROM {rows("channel flow event")} AS s
    JOIN notifications n ON n.channel = {_KIND} AND n.state = 'gathering'
    JOIN happenings h ON h.notification_id = n.id WHERE h.run_id IS NULL ORDER BY h.id) AS found"""
_ADD = f"""
UPDATE happenings SET count = happenings.count + s.more
FROM {rows("id:int more:int")} AS s WHERE happenings.id = s.id"""

SHOWN: Final = 1000
"""So many characters of the error of an attempt are noted."""

NAMED: Final = 10
"""So many happenings are named in a message that tells of many."""


@dataclass(slots=True)
class Happening:
    """Something that may be told.

    Attributes:
        event: one of `pullcord.core.notify.EVENTS`.
        flow: the flow whose rules say who is told.
        run: number of the run it is about.
        detail: more about it, JSON; `text` is a line for people, `trigger` the trigger it is about, `question_id` the
            question; of an attempt that failed `attempt`, `error` and `next_at`.
        count: how many equal ones it stands for.
        channels: who is told; None leaves it to the rules.
        also: further flows it is about, whose rules count too, but which get no message of their own.
    """

    event: str
    flow: str
    run: int | None = None
    detail: dict[str, Any] | None = None
    count: int = 1
    channels: list[str] | None = None
    also: Sequence[str] = field(default_factory=tuple)

    def audience(self, book: Book, now: int) -> list[str]:
        """Return the channels that are told of it."""
        if self.channels is not None:
            return self.channels
        found = [name for flow in (self.flow, *self.also) for name in book.channels(flow, self.event, now)]
        return list(dict.fromkeys(found))


def note_happening(
    tx: Transaction,
    event: str,
    flow: str,
    *,
    run: int | None = None,
    detail: dict[str, Any] | None = None,
    also: Sequence[str] = (),
) -> None:
    """Put into the outbox that something happened, for those whom the flow's rules name; costs nothing without rules.

    Args:
        tx: the transaction in which it happens.
        event: one of `pullcord.core.notify.EVENTS`.
        flow: the flow it is about.
        run: number of the run it is about; the caller leaves out test runs.
        detail: more about it, JSON; `text` is shown to people.
        also: further flows it is about.
    """
    if tx.hints.book.anything:
        note_happenings(tx, [Happening(event, flow, run, detail, also=also)])


def note_happenings(tx: Transaction, happenings: Sequence[Happening]) -> None:
    """Put happenings into the outbox, each for those whom the rules name."""
    book = tx.hints.book
    told = [(channel, each) for each in happenings for channel in each.audience(book, tx.now)]
    if not told:
        return
    counts: dict[tuple[str, str, str], int] = {}
    for channel, each in told:
        key = (channel, each.flow, each.event)
        counts[key] = counts.get(key, 0) + each.count
    base = tx.next_id("notifications")
    outbox = [
        [base + offset, str(uuid7()), *key, count, book.window(key[0])]
        for offset, (key, count) in enumerate(counts.items())
    ]
    tx.execute(_GATHER, {"rows": dump(outbox), "now": tx.now, "clock": tx.clock})
    noted: list[list[Any]] = []
    alone: list[list[Any]] = []
    for channel, each in told:
        row = [channel, each.flow, each.event, each.run, each.count, None if each.detail is None else dump(each.detail)]
        (noted if each.run is not None else alone).append(row)
    if alone:
        noted += _unlike(tx, alone)
    if noted:
        base = tx.next_id("happenings")
        tx.execute(_NOTE, {"rows": dump([[base + rank, *row] for rank, row in enumerate(noted)]), "now": tx.now})
    tx.hints.noted = True


def _unlike(tx: Transaction, alone: list[list[Any]]) -> list[list[Any]]:
    """Add happenings without a run to the equal ones that their notifications tell of; return those that need a row.

    A machine may repeat what it does without end. Beyond those that a message names, one row counts for all others,
    whatever they say.
    """
    kinds = dump([list(kind) for kind in dict.fromkeys((row[0], row[1], row[2]) for row in alone)])
    known: dict[tuple[str, str, str], dict[str | None, int | list[Any]]] = {}
    for number, channel, flow, event, detail in tx.array(_NOTED, {"rows": kinds}):
        known.setdefault((channel, flow, event), {}).setdefault(detail, number)
    fresh: list[list[Any]] = []
    more: dict[int, int] = {}
    for row in alone:
        there = known.setdefault((row[0], row[1], row[2]), {})
        place = there.get(row[5])
        if place is None and len(there) > NAMED:
            place = list(there.values())[NAMED]
        if place is None:
            there[row[5]] = row
            fresh.append(row)
        elif isinstance(place, int):
            more[place] = more.get(place, 0) + row[4]
        else:
            place[4] += row[4]
    if more:
        tx.execute(_ADD, {"rows": dump(list(more.items()))})
    return fresh


def note_run_ends(tx: Transaction, ids: Sequence[int]) -> None:
    """Note what is to be told of runs that have just ended, or whose attempt has just failed. Test runs keep quiet."""
    found = {row[0]: row[1:] for row in tx.array(_RUNS, {"ids": dump(list(ids)), "now": tx.now})}
    ends = [(number, *found[number]) for number in dict.fromkeys(ids) if number in found]
    book = tx.hints.book
    happenings: list[Happening] = []
    counted: list[tuple[int, str, str]] = []
    for number, flow, state, attempt, next_at, error in ends:
        rules = book.rules(flow)
        if state == RunState.SCHEDULED:
            if error is not None and RETRYING in rules:
                happenings.append(Happening(RETRYING, flow, number, _failed(attempt - 1, next_at, from_json(error))))
            continue
        if state == RunState.CANCELLED:
            happenings += [Happening(CANCELLED, flow, number)] if CANCELLED in rules else []
            continue
        if state == RunState.SUCCEEDED and SUCCEEDED in rules:
            happenings.append(Happening(SUCCEEDED, flow, number))
        if state == RunState.FAILED and FAILED in rules:
            happenings.append(Happening(FAILED, flow, number))
        if RECOVERED in rules or FAILING in rules:
            counted.append((number, flow, state))
    if counted:
        happenings += _series(tx, counted)
    if happenings:
        note_happenings(tx, happenings)


def _failed(attempt: int, next_at: int, error: dict[str, Any]) -> dict[str, Any]:
    """Return what is told of an attempt; its run has another error, or none, when that is told."""
    shown = {"type": error["type"], "message": str(error["message"])[:SHOWN]}
    return {"attempt": attempt, "error": shown, "next_at": rfc3339(next_at)}


def _series(tx: Transaction, ends: list[tuple[int, str, str]]) -> list[Happening]:
    """Count failures in a row, and return what is to be told of series that have grown or ended."""
    book = tx.hints.book
    flows = dump(sorted({flow for _, flow, _ in ends}))
    known: dict[str, tuple[int, int]] = {row[0]: (row[1], row[2]) for row in tx.array(_SERIES, {"flows": flows})}
    before = dict(known)
    result: list[Happening] = []
    for number, flow, state in ends:
        rules = book.rules(flow)
        failures, told = known.get(flow, (0, 0))
        if state == RunState.SUCCEEDED:
            if told and RECOVERED in rules:
                text = f"It follows {failures} failed run{'' if failures == 1 else 's in a row'}."
                result.append(Happening(RECOVERED, flow, number, {"text": text, "failures": failures}))
            known[flow] = (0, 0)
            continue
        failures += 1
        due = [rule for rule in rules.get(FAILING, ()) if rule.count == failures]
        if due and not book.muted(flow, tx.now):
            detail = {"text": f"{failures} runs in a row have failed.", "failures": failures}
            audience = list(dict.fromkeys(name for rule in due for name in rule.channels))
            result.append(Happening(FAILING, flow, number, detail, channels=audience))
        heard = FAILED in rules or bool(due) or not tells_failures(rules)
        known[flow] = (failures, int(told or (heard and not book.muted(flow, tx.now))))
    changed = [[flow, *state] for flow, state in known.items() if before.get(flow, (0, 0)) != state]
    if changed:
        tx.execute(_KEEP_SERIES, {"rows": dump(changed)})
    return result


def forget_series(tx: Transaction, flows: Sequence[str]) -> None:
    """Forget the failures in a row of flows without a rule that counts them: nobody counts them any further.

    Args:
        tx: the transaction in which rules change.
        flows: whose rules may have changed.
    """
    rules = tx.hints.book.rules
    uncounted = [flow for flow in flows if RECOVERED not in rules(flow) and FAILING not in rules(flow)]
    if uncounted:
        tx.execute("DELETE FROM failure_series WHERE flow IN VALUES[flows]", {"flows": dump(uncounted)})


def note_requests(tx: Transaction, requests: Sequence[tuple[Outcome, str | None, str | None, str | None, int]]) -> None:
    """Note what is to be told of requests that became no run.

    Args:
        tx: the transaction that writes them.
        requests: outcome, flow, reason, name of the trigger and number of equal ones.
    """
    happenings = [
        Happening(OF_REQUESTS[outcome], flow, None, {"text": reason, "trigger": trigger}, count)
        for outcome, flow, reason, trigger, count in requests
        if outcome in OF_REQUESTS and flow is not None and OF_REQUESTS[outcome] in tx.hints.book.rules(flow)
    ]
    if happenings:
        note_happenings(tx, happenings)

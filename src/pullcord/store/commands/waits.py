"""Parked runs: they wait for a time or an answer and are in no worker; they keep their concurrency slots.

A parked run is `waiting` and has no owner. Its open questions and its `sleeps` say what it waits for. When one of them
is over, the run becomes `running` without an owner, which is what an orphan looks like, and is claimed as one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from pullcord.clock import rfc3339
from pullcord.core.errors import StoreError
from pullcord.core.states import RunState
from pullcord.store.commands.endings import note_endings
from pullcord.store.commands.interruptions import settle_steps
from pullcord.store.commands.journal import Ended
from pullcord.store.statement import dump, rows
from pullcord.store.transaction import Transaction

BATCH: Final = 1000
"""So many waits end in one transaction; the others follow in the next."""

_LEAVE = """
UPDATE runs SET owner = NULL, state = :state, waiting_for = :waiting_for, ended_at = :ended, parks = parks + 1
WHERE id = :run AND token = :token AND owner IS NOT NULL AND state IN ('running', 'waiting', 'cancelling')"""
_SLEEPS = f"""
INSERT INTO sleeps (run_id, identity, until) SELECT s.run, s.identity, s.until
FROM {rows("run:int identity until:int")} AS s WHERE true
ON CONFLICT (run_id, identity) DO UPDATE SET until = excluded.until"""
_WAKE = """
UPDATE runs SET state = 'running', waiting_for = NULL
WHERE id IN VALUES[ids:int] AND state || '' = 'waiting' AND owner IS NULL"""
_SLEPT = """
SELECT EACH[run_id] FROM (
    SELECT DISTINCT run_id FROM (SELECT run_id FROM sleeps WHERE until <= :at ORDER BY until LIMIT :most) AS due
) AS found"""
_EXPIRED = """
SELECT EACH[id, run_id, identity, text, fallback] FROM (
    SELECT id, run_id, identity, text, fallback FROM questions
    WHERE state = 'open' AND expires_at IS NOT NULL AND expires_at <= :at ORDER BY expires_at LIMIT :most) AS found"""
_EXPIRE = "UPDATE questions SET state = 'expired', answer = fallback WHERE id IN VALUES[ids:int]"
# A step that has a result keeps it, whatever comes later.
_SETTLE = f"""
UPDATE steps SET state = s.state, result = s.result, error = s.error, ended_at = :now
FROM {rows("run:int identity state result error")} AS s
WHERE steps.run_id = s.run AND steps.identity = s.identity AND steps.state IN ('running', 'retrying', 'interrupted')"""
_RECORDS = f"""
SELECT EACH[t.run_id, r.token, r.uuid, t.identity, t.name, t.seq, t.attempt, t.state, t.result, t.error]
FROM {rows("run:int identity")} AS s JOIN steps t ON t.run_id = s.run AND t.identity = s.identity
JOIN runs r ON r.id = t.run_id"""
# A length of time does not become longer because the clock went back: its end goes back as well.
_BACK = (
    "UPDATE steps SET result = CAST(w.until - :back AS TEXT) FROM sleeps w "
    "WHERE steps.run_id = w.run_id AND steps.identity = w.identity",
    "UPDATE sleeps SET until = until - :back",
    "UPDATE questions SET expires_at = expires_at - :back WHERE state = 'open' AND expires_at IS NOT NULL",
)
_NEXT_SLEEP = "SELECT min(until) FROM sleeps"
_NEXT_EXPIRY = "SELECT min(expires_at) FROM questions WHERE state = 'open' AND expires_at IS NOT NULL"


@dataclass(frozen=True, slots=True)
class Settled:
    """A question that is over, and the record that the flow goes on with.

    Attributes:
        run: number of the run.
        token: the run's token.
        uuid: id of the run.
        record: `[identity, name, seq, attempt, state, result_json, error_json]`.
    """

    run: int
    token: int
    uuid: str
    record: list[Any]


@dataclass(frozen=True, slots=True)
class Woken:
    """What became of waits whose time had come.

    Attributes:
        following: when the next one is over, microseconds, or None.
        settled: the questions that nobody has answered in time.
        runs: how many parked runs go on.
    """

    following: int | None
    settled: list[Settled]
    runs: int


@dataclass(slots=True)
class ParkRun:
    """Take a run out of its worker until what it waits for is there.

    Attributes:
        run: number of the run.
        token: its token.
        waits: `[identity, until]` for each thing it waits for: microseconds for a sleep, None for a question.

    The result is an `Ended`: `waiting`; `running` when something it waited for has come meanwhile; `cancelled`; or None
    when the token is stale.
    """

    keep_trying: ClassVar[bool] = True

    run: int
    token: int
    waits: list[list[Any]]
    done: Callable[[Any], None]

    def split(self) -> Sequence[ParkRun]:
        """One run is as small as it gets."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[ParkRun]) -> list[Ended | None]:
        """Park one after the other."""
        return [_park(tx, command) for command in commands]


def _park(tx: Transaction, command: ParkRun) -> Ended | None:
    key = {"run": command.run, "token": command.token}
    before = tx.value("SELECT state FROM runs WHERE id = :run AND token = :token AND owner IS NOT NULL", key)
    state, waiting_for = RunState.WAITING, _waiting_for(tx, command)
    if before == RunState.CANCELLING:
        state, waiting_for = RunState.CANCELLED, None
    elif waiting_for is None:
        state = RunState.RUNNING
    ended = tx.now if state is RunState.CANCELLED else None
    if not tx.execute(_LEAVE, {**key, "state": state, "waiting_for": waiting_for, "ended": ended}):
        return None
    if state is RunState.RUNNING:
        tx.hints.orphans = True
    elif state is RunState.CANCELLED:
        held = "SELECT lane, slot, shared FROM runs WHERE id = :run"
        settle_steps(tx, [Ended(command.run, command.token, state)])
        tx.hints.freed(*tx.connection.execute(held, {"run": command.run}).fetchone())
        note_endings(tx, [command.run])
    else:
        tx.hints.parked = True
        sleeps = [[command.run, *wait] for wait in command.waits if wait[1] is not None]
        if sleeps:
            tx.execute(_SLEEPS, {"rows": dump(sleeps)})
    return Ended(command.run, command.token, state)


def _waiting_for(tx: Transaction, command: ParkRun) -> str | None:
    """Return what is shown of a run's waits, as JSON; None when an answer has come already."""
    asked = [identity for identity, until in command.waits if until is None]
    if asked:
        found = tx.array(
            "SELECT EACH[uuid, text] FROM questions WHERE run_id = :run AND state = 'open' "
            "AND identity IN VALUES[identities]",
            {"run": command.run, "identities": dump(asked)},
        )
        return answer_text(*found[0]) if len(found) == len(asked) else None
    until = min(until for _, until in command.waits)
    return json.dumps({"kind": "time", "text": f"sleeps until {rfc3339(until)}"})


def answer_text(question: str, text: str) -> str:
    """Return what is shown of a run that waits for an answer, as JSON."""
    line = text.strip().partition("\n")[0][:200]
    return json.dumps({"kind": "answer", "text": line or "waits for an answer", "question_id": question})


@dataclass(slots=True)
class WakeDue:
    """End the waits whose time has come: sleeps of parked runs, and questions that nobody has answered.

    Attributes:
        at: the time, microseconds; unlike a transaction's it follows the clock when that goes back.
        back: by how much the clock went back since the last time.

    The result is a `Woken`.
    """

    keep_trying: ClassVar[bool] = True

    at: int
    back: int
    done: Callable[[Any], None]

    def split(self) -> Sequence[WakeDue]:
        """It takes no values."""
        return [self]

    def failure(self, error: StoreError) -> StoreError:
        """Return the result when nothing could be written."""
        return error

    @classmethod
    def apply(cls, tx: Transaction, commands: Sequence[WakeDue]) -> list[Woken]:
        """Wake up to a thousand of each kind."""
        if not tx.hints.parked:
            return [Woken(None, [], 0)] * len(commands)
        back = sum(command.back for command in commands)
        if back:
            for statement in _BACK:
                tx.execute(statement, {"back": back})
        due = {"at": max(command.at for command in commands), "most": BATCH}
        slept = [row[0] for row in tx.array(_SLEPT, due)]
        expired = tx.array(_EXPIRED, due)
        if expired:
            tx.execute(_EXPIRE, {"ids": dump([row[0] for row in expired])})
        settled = settle(tx, [[run, identity, *_fallback(text, value)] for _, run, identity, text, value in expired])
        runs = wake(tx, [*slept, *(row[1] for row in expired)])
        woken = Woken(_following(tx), settled, runs)
        return [woken, *[Woken(woken.following, [], 0)] * (len(commands) - 1)]


def _fallback(text: str, value: str | None) -> list[Any]:
    """Return state, result and error of a question that nobody has answered in time."""
    if value is not None:
        return ["succeeded", value, None]
    line = text.strip().partition("\n")[0][:200]
    message = f"nobody answered in time: {line}" if line else "nobody answered in time"
    again = ["pullcord.core.errors", "AskTimeoutError", [message]]
    return ["failed", None, json.dumps({"type": "ask_timeout", "message": message, "traceback": "", "again": again})]


def settle(tx: Transaction, ends: list[list[Any]]) -> list[Settled]:
    """Write the records of questions that are over.

    Args:
        ends: `[run, identity, state, result_json, error_json]` each.
    """
    if not ends:
        return []
    tx.execute(_SETTLE, {"rows": dump(ends), "now": tx.now})
    found = tx.array(_RECORDS, {"rows": dump([end[:2] for end in ends])})
    return [Settled(row[0], row[1], row[2], list(row[3:])) for row in found]


def wake(tx: Transaction, ids: Sequence[int]) -> int:
    """Let those of these runs that are parked go on; return how many they are."""
    if not ids:
        return 0
    numbers = dump(sorted(set(ids)))
    woken = tx.execute(_WAKE, {"ids": numbers})
    tx.execute("DELETE FROM sleeps WHERE run_id IN VALUES[ids:int]", {"ids": numbers})
    if woken:
        tx.hints.orphans = True
    return woken


def any_parked(tx: Transaction) -> bool:
    """Say whether a question is open, or a run sleeps without a worker."""
    asked = tx.value("SELECT id FROM questions WHERE state = 'open' LIMIT 1", {})
    return asked is not None or tx.value("SELECT run_id FROM sleeps LIMIT 1", {}) is not None


def _following(tx: Transaction) -> int | None:
    times = [tx.value(_NEXT_SLEEP, {}), tx.value(_NEXT_EXPIRY, {})]
    return min((time for time in times if time is not None), default=None)

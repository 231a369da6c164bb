"""The invariants that are conditions on rows, rule by rule (`docs/explanation/architecture.md#rules`).

Each statement sees one moment of the store, so that a check beside a busy server raises no false alarm. Times that the
rows compare come from one clock that may be set back, so what only times show is a note.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from pullcord.core.manifest import ISOLATED
from pullcord.core.states import ACTIVE, ENDED, Outcome, RunState, StepState
from pullcord.core.trigger import COMPLETION, EVENT, SCHEDULES
from pullcord.store.commands.keys import DELIVERY, REQUEST_ID, RETENTION
from pullcord.store.commands.lifecycle import MAX_LOSSES
from pullcord.store.queries.invariants.attempts import ATTEMPT_INVARIANTS
from pullcord.store.queries.invariants.invariant import Invariant

_DAMAGE: Final = (
    "stop Pullcord, keep a copy of the data folder, restore a back-up from before, and report this as a bug"
)
_HARMLESS: Final = "nothing was lost by this; report it as a bug"
_CLOCK: Final = "look whether the machine's clock was set back; if it was not, report it as a bug"


def _names(words: Iterable[str]) -> str:
    return "(" + ", ".join(f"'{word}'" for word in sorted(words)) + ")"


def _in(*words: StrEnum) -> str:
    return _names(words)


_ENDED = _in(*ENDED)
_ACTIVE = _in(*ACTIVE)
_ADMITTED_ONCE = _in(Outcome.ADMITTED, Outcome.EXPIRED)
_TAKEN = _in(Outcome.ADMITTED, Outcome.EXPIRED, Outcome.AWAITING_APPROVAL)


def _pruned(number: str) -> str:
    """Return the condition that the run with a number, which is not there, was pruned.

    Its request says so, or is gone lawfully itself.
    """
    below = "SELECT below FROM pruned WHERE kind = 'requests'"
    return (
        f"(EXISTS (SELECT 1 FROM requests x WHERE x.id = {number} AND x.pruned_run IS NOT NULL) "
        f"OR (NOT EXISTS (SELECT 1 FROM requests x WHERE x.id = {number}) AND {number} < coalesce(({below}), 0)))"
    )


_CLAIMS: Final = "r.token - r.takeovers - r.attempt - r.parks"

NEWEST: Final = "(SELECT at FROM requests ORDER BY id DESC LIMIT 1)"
REQUESTS: Final = (
    "requests q LEFT JOIN runs r ON r.id = q.id LEFT JOIN requests o ON o.id = q.original_id "
    "LEFT JOIN keys h ON h.scope = q.flow AND h.invoker = q.invoker AND h.key = q.idempotency_key"
)
RUNS: Final = (
    "runs r LEFT JOIN requests q ON q.id = r.id LEFT JOIN runs p ON p.id = r.parent_id "
    "LEFT JOIN slots s ON s.key = r.flow LEFT JOIN slots g ON g.key = r.shared"
)
LEDGER: Final = "(SELECT uuid, at, lag(at) OVER (ORDER BY id) AS before FROM requests) q"
ADMISSIONS: Final = (
    "runs r LEFT JOIN (SELECT subject_id, count(*) AS entries FROM audit WHERE action = 'run.admit' "
    "GROUP BY subject_id) a ON a.subject_id = r.id"
)
AUDIT: Final = "audit a LEFT JOIN runs r ON r.id = a.subject_id"
# A delivery's key is a webhook's and a flow's, whoever sent it, and stands in no column of the request.
_DELIVERED = f"substr(k.scope, 1, {len(DELIVERY)}) = '{DELIVERY}'"
GONE: Final = (
    "(SELECT (SELECT count(*) FROM audit a LEFT JOIN runs r ON r.id = a.subject_id "
    "WHERE a.action = 'run.admit' AND r.id IS NULL) AS missing, "
    "coalesce((SELECT rows FROM pruned WHERE kind = 'runs'), 0) AS pruned) g"
)
KEYS: Final = "keys k LEFT JOIN requests q ON q.id = k.request_id"
STORED: Final = "artifacts a LEFT JOIN runs r ON r.id = a.run_id"
STEPS: Final = "steps s LEFT JOIN runs r ON r.id = s.run_id"
NUMBERS: Final = (
    "(SELECT run_id, seq, count(*) AS steps FROM steps GROUP BY run_id, seq, coalesce(set_aside, 0)) n "
    "JOIN runs r ON r.id = n.run_id"
)
OUTBOX: Final = (
    "notifications n LEFT JOIN (SELECT notification_id, sum(count) AS told FROM happenings GROUP BY notification_id) h "
    "ON h.notification_id = n.id"
)
HAPPENINGS: Final = "happenings h LEFT JOIN notifications n ON n.id = h.notification_id"
TRIGGERS: Final = "triggers t LEFT JOIN trigger_state s ON s.trigger_id = t.id"
ASKED: Final = "requests q LEFT JOIN triggers t ON t.name = q.trigger_name"
LINES: Final = "trigger_history h LEFT JOIN triggers t ON t.id = h.trigger_id"
HALTED: Final = "pauses p JOIN runs r ON r.flow = p.flow"
USES: Final = "rate_uses u LEFT JOIN rates k ON k.key = u.key"
QUESTIONS: Final = (
    "questions q LEFT JOIN runs r ON r.id = q.run_id "
    "LEFT JOIN steps s ON s.run_id = q.run_id AND s.identity = q.identity"
)
SLEEPS: Final = "sleeps w LEFT JOIN runs r ON r.id = w.run_id"
PARKED: Final = (
    "(SELECT r.uuid, (SELECT count(*) FROM questions q WHERE q.run_id = r.id AND q.state = 'open') "
    "+ (SELECT count(*) FROM sleeps t WHERE t.run_id = r.id) AS waits "
    "FROM runs r WHERE r.state = 'waiting' AND r.owner IS NULL) w"
)
ENDS: Final = "endings e LEFT JOIN runs r ON r.id = e.run_id"
_ADMITTED: Final = f"FROM requests WHERE outcome IN {_ADMITTED_ONCE} AND dry_run = 0"
BY_KEY: Final = (
    "(SELECT flow, invoker, idempotency_key, count(*) AS admitted, max(at) - min(at) AS apart "
    f"{_ADMITTED} AND idempotency_key IS NOT NULL GROUP BY flow, invoker, idempotency_key) d"
)
BY_ID: Final = (
    f"(SELECT uuid, invoker, count(*) AS admitted, max(at) - min(at) AS apart {_ADMITTED} GROUP BY uuid, invoker) d"
)
SAME: Final = (
    f"(SELECT dedup, count(*) AS runs FROM runs WHERE dedup IS NOT NULL AND state NOT IN {_ENDED} GROUP BY dedup) d"
)


def _held(key: str, limit: str) -> str:
    return (
        f"(SELECT r.{key} AS slot, max(s.capacity) AS capacity, count(*) AS held, "
        "sum(CASE WHEN r.attempt = 1 THEN 1 ELSE 0 END) AS first_attempts, "
        "max(CASE WHEN r.attempt = 1 THEN r.started_at END) AS latest, max(s.changed_at) AS changed "
        f"FROM runs r JOIN slots s ON s.key = r.{limit} "
        f"WHERE r.{key} IS NOT NULL AND r.state IN {_ACTIVE} GROUP BY r.{key}) h"
    )


HELD: Final = _held("slot", "flow")
HELD_TOGETHER: Final = _held("shared", "shared")
# The runs of a slot hold it from their first claim to their end. Where the latest of them was claimed after the limit
# was set, all the others were there already. Another attempt gives the slot back in between, so it shows nothing.
_TOO_MANY = "h.first_attempts > h.capacity AND h.latest >= h.changed"

INVARIANTS: Final = (
    *ATTEMPT_INVARIANTS,
    # --- 1. Commit, then acknowledge
    Invariant(
        1, "every admitted request has its run", REQUESTS,
        f"q.outcome IN {_ADMITTED_ONCE} AND q.dry_run = 0 AND r.id IS NULL AND q.pruned_run IS NULL",
        "q.uuid, q.flow", "request {} for {} was admitted, and has no run", _DAMAGE,
    ),
    Invariant(
        1, "every run's admission is in the audit once", ADMISSIONS, "coalesce(a.entries, 0) <> 1",
        "r.uuid, coalesce(a.entries, 0)", "run {} has {} audit entries of its admission", _DAMAGE,
    ),
    Invariant(
        1, "every audit entry is about a run that exists", AUDIT,
        "a.action IN ('run.admit', 'run.cancel', 'run.expire') AND r.id IS NULL "
        f"AND NOT {_pruned('a.subject_id')}",
        "a.id, a.action, a.subject_id", "audit entry {} ({}) is about run no. {}, which does not exist", _DAMAGE,
    ),
    Invariant(
        1, "a run is gone because it was pruned", GONE, "g.missing <> g.pruned",
        "g.missing, g.pruned", "{} runs that were admitted are gone, and {} were pruned", _DAMAGE,
    ),
    Invariant(
        1, "a pruned run is gone", REQUESTS, "q.pruned_run IS NOT NULL AND r.id IS NOT NULL",
        "q.uuid, q.pruned_run", "request {} says that its run {} was pruned, and it is there", _HARMLESS,
    ),
    Invariant(
        1, "every key is held by a request that exists", KEYS, "q.id IS NULL",
        "k.key, k.request_id", "key {} is held by request no. {}, which does not exist", _DAMAGE,
    ),
    Invariant(
        1, "every artifact is of a run that has begun", STORED,
        # A run that resumes another has what the steps stored whose records it keeps, also before it begins.
        "r.id IS NULL OR a.size < 0 OR (r.token < 1 AND NOT EXISTS (SELECT 1 FROM steps k "
        "WHERE k.run_id = a.run_id AND k.identity = a.identity AND k.kept IS NOT NULL))",
        "a.name, a.run_id", "the artifact {} is of run no. {}, which has not begun", _DAMAGE,
    ),
    # --- 2. One door
    Invariant(
        2, "every run comes from an admitted request", RUNS,
        f"q.id IS NULL OR q.outcome NOT IN {_ADMITTED_ONCE} OR q.dry_run <> 0",
        "r.uuid, coalesce(q.outcome, 'missing')", "run {} exists, and its request is {}",
        "find out who wrote to the database; only the server may",
    ),
    Invariant(
        2, "every run is what was asked for", RUNS,
        "coalesce(q.flow, r.flow) <> r.flow OR q.invoker <> r.invoker OR q.trigger_kind <> r.trigger_kind",
        "r.uuid, r.flow, r.invoker, r.trigger_kind, q.flow, q.invoker, q.trigger_kind",
        "run {} is {} for {} ({}), and its request is {} for {} ({})", _DAMAGE,
    ),
    Invariant(
        2, "every child run has its parent", RUNS,
        f"(r.parent_id IS NOT NULL AND ((p.id IS NULL AND NOT {_pruned('r.parent_id')}) "
        "OR p.id >= r.id OR r.trigger_kind <> 'flow')) "
        "OR (r.parent_id IS NULL AND r.trigger_kind = 'flow')",
        "r.uuid, r.parent_id", "run {} is a child of run no. {}, which cannot be", _DAMAGE,
    ),
    Invariant(
        2, "every re-run names an earlier run", RUNS, "r.rerun_of >= r.id",
        "r.uuid, r.rerun_of", "run {} repeats run no. {}, which cannot be", _DAMAGE,
    ),
    # --- 3. Every intent leaves a row
    Invariant(
        3, "every request has an outcome that exists", REQUESTS, f"q.outcome NOT IN {_in(*Outcome)}",
        "q.uuid, q.outcome", "request {} became {!r}", "a newer Pullcord may have written this: use that one",
    ),
    Invariant(
        3, "every refusal has a code and a reason", REQUESTS,
        "(q.outcome = 'rejected' AND coalesce(q.code, '') = '') "
        f"OR (q.outcome NOT IN {_in(Outcome.ADMITTED, Outcome.REPLAYED, Outcome.AWAITING_APPROVAL)} "
        "AND coalesce(q.reason, '') = '')",
        "q.uuid, q.outcome, q.code, q.reason", "request {} became {}, with code {!r} and reason {!r}", _HARMLESS,
    ),
    Invariant(
        3, "times of the ledger grow with its numbers", LEDGER, "q.at < q.before",
        "q.uuid, q.at, q.before", "request {} came at {}, and the one before it at {}", _HARMLESS,
    ),
    Invariant(
        3, "repeats have a first, a last and a count", REQUESTS,
        "q.count < 1 OR (q.count = 1 AND q.last_at IS NOT NULL) "
        "OR (q.count > 1 AND (q.last_at IS NULL OR q.last_at < q.at "
        "OR (q.repeat_key IS NULL AND q.scheduled_for IS NULL)))",  # very many ticks are told in one row
        "q.uuid, q.count, q.at, q.last_at", "request {} was counted {} times, from {} to {}", _HARMLESS,
    ),
    Invariant(
        3, "what a trigger asked for names a trigger that exists", ASKED,
        f"t.id IS NULL AND (q.trigger_kind IN {_names({*SCHEDULES, EVENT, COMPLETION})} "
        "OR (q.trigger_kind = 'webhook' AND q.outcome IN ('admitted', 'expired')))",
        "q.uuid, q.trigger_kind, q.trigger_name", "request {} is of the {} trigger {!r}, which does not exist", _DAMAGE,
    ),
    Invariant(
        3, "every line of a history is of a trigger that exists", LINES, "t.id IS NULL",
        "h.id, h.trigger_id", "line {} is of trigger no. {}, which does not exist", _HARMLESS,
    ),
    Invariant(
        3, "every trigger has a state", TRIGGERS, "s.trigger_id IS NULL",
        "t.name", "it is not known how far the trigger {} has come", _DAMAGE,
    ),
    Invariant(
        3, "what starts others has ended", ENDS, f"r.id IS NULL OR r.state NOT IN {_ENDED}",
        "e.run_id, r.state", "the end of run no. {} is noted, and it is {}", _DAMAGE,
    ),
    # --- 4. Idempotency
    Invariant(
        4, "a key admits one request", BY_KEY, f"d.admitted > 1 AND d.apart < {RETENTION}",
        "d.idempotency_key, d.flow, d.invoker, d.admitted", "key {} of {} by {} admitted {} requests", _DAMAGE,
    ),
    Invariant(
        4, "a request id admits one request", BY_ID, f"d.admitted > 1 AND d.apart < {RETENTION}",
        "d.uuid, d.invoker, d.admitted", "request id {} of {} admitted {} requests", _DAMAGE,
    ),
    Invariant(
        4, "an admitted request holds its key", REQUESTS,
        f"q.outcome IN {_ADMITTED_ONCE} AND q.dry_run = 0 AND q.idempotency_key IS NOT NULL "
        f"AND q.at > {NEWEST} - {RETENTION} AND coalesce(h.request_id, 0) <> q.id",
        "q.uuid, q.idempotency_key, h.request_id",
        "request {} was admitted with key {}, held by request no. {}", _DAMAGE,
    ),
    Invariant(
        4, "a key is held by the request that carries it", KEYS,
        f"q.outcome NOT IN {_TAKEN} OR CASE WHEN {_DELIVERED} THEN k.invoker <> '' OR k.scope <> "
        f"'{DELIVERY}' || coalesce(q.trigger_name, '') || ':' || coalesce(q.flow, '') "
        f"WHEN k.scope = '{REQUEST_ID}' THEN q.invoker <> k.invoker OR q.uuid <> k.key ELSE q.invoker <> k.invoker "
        "OR coalesce(q.flow, '') <> k.scope OR coalesce(q.idempotency_key, '') <> k.key END",
        "k.key, k.scope, k.invoker, q.uuid, q.outcome", "key {} of {!r} by {} is held by request {} ({})", _DAMAGE,
    ),
    Invariant(
        4, "a replay repeats an admitted request", REQUESTS,
        "q.outcome = 'replayed' AND ((o.id IS NULL AND q.original_id >= "
        "coalesce((SELECT below FROM pruned WHERE kind = 'requests'), 0)) OR (o.id IS NOT NULL AND ("
        f"o.outcome NOT IN {_TAKEN} OR coalesce(o.flow, '') <> coalesce(q.flow, '') OR o.invoker <> q.invoker "
        "OR (coalesce(q.idempotency_key, '') <> coalesce(o.idempotency_key, '') "
        f"AND NOT EXISTS (SELECT 1 FROM keys i WHERE i.request_id = o.id AND i.scope = '{REQUEST_ID}')))))",
        "q.uuid, q.original_id", "request {} is a replay of request no. {}, which asked for something else", _DAMAGE,
    ),
    # --- 5. Deduplication
    Invariant(
        5, "equal fires have one run that has not ended", SAME, "d.runs > 1",
        "d.dedup, d.runs", "{} has {} runs that have not ended", _DAMAGE,
    ),
    # --- 6. Fencing
    Invariant(
        6, "a run that is parked will be woken", PARKED, "w.waits = 0",
        "w.uuid", "run {} waits without a worker, and neither an answer nor a time will wake it", _DAMAGE,
    ),
    Invariant(
        6, "a sleep without a worker is a parked run's", SLEEPS,
        "r.id IS NULL OR r.state <> 'waiting' OR r.owner IS NOT NULL",
        "coalesce(r.uuid, '?'), coalesce(r.state, 'gone')", "run {}, which is {}, is to be woken", _HARMLESS,
    ),
    Invariant(
        6, "nobody is asked for a run that has ended", QUESTIONS,
        f"r.id IS NULL OR (q.state = 'open' AND r.state IN {_ENDED})",
        "q.uuid, q.state, coalesce(r.state, 'gone')", "question {} is {}, and its run is {}", _HARMLESS,
    ),
    Invariant(
        6, "a run was claimed as often as its token says", RUNS,
        "r.attempt < 1 OR r.takeovers < 0 OR r.parks < 0 OR r.token < 0 "
        f"OR {_CLAIMS} NOT IN (-1, 0) OR ({_CLAIMS} = 0 AND "
        f"(r.state IN ('queued', 'scheduled') OR (r.state IN {_ACTIVE} AND r.owner IS NULL))) "
        f"OR ({_CLAIMS} = -1 AND "
        f"(r.state = 'succeeded' OR (r.state IN {_ACTIVE} AND r.owner IS NOT NULL)))",
        "r.uuid, r.state, r.token, r.attempt, r.takeovers, r.parks",
        "run {} is {} with token {}, in attempt {} after {} take-overs and {} waits without a worker", _DAMAGE,
    ),
    Invariant(
        6, "losses are counted", RUNS,
        f"r.losses < 0 OR r.losses > r.takeovers OR (r.losses >= {MAX_LOSSES} AND r.state NOT IN {_ENDED})",
        "r.uuid, r.state, r.losses, r.takeovers", "run {} is {} with {} losses of {} take-overs", _HARMLESS,
    ),
    Invariant(
        6, "a run that may have killed its worker is alone", RUNS,
        f"r.losses > 0 AND r.state NOT IN {_ENDED} "
        f"AND substr(r.lane, length(r.lane) - {len(ISOLATED)}) <> '#{ISOLATED}'",
        "r.uuid, r.losses, r.lane", "run {} has {} losses, and shares its process: {}", _HARMLESS,
    ),
    Invariant(
        6, "an owner is a server that was started", RUNS,
        "(r.owner IS NOT NULL AND r.token = 0) "
        "OR r.owner > (SELECT CAST(value AS INTEGER) FROM meta WHERE name = 'incarnation')",
        "r.uuid, r.state, r.owner, r.token", "run {} is {} with owner {} and token {}", _DAMAGE,
    ),
    Invariant(
        6, "a run is cancelling only in a worker", RUNS, "r.state = 'cancelling' AND r.owner IS NULL",
        "r.uuid", "run {} is cancelling, and no worker has it that could stop", _DAMAGE,
    ),
    # --- 7. Replay
    Invariant(
        7, "a step record belongs to a run that has begun", STEPS,
        "r.id IS NULL OR (r.token < 1 AND s.kept IS NULL)",
        "s.name, s.run_id", "step {} is recorded for run no. {}, which has not begun", _DAMAGE,
    ),
    Invariant(
        7, "a step record is whole", STEPS,
        f"s.state NOT IN {_in(*StepState)} OR s.seq < 1 OR s.attempt < 1 "
        "OR (s.state = 'running' AND s.ended_at IS NOT NULL) OR (s.state <> 'running' AND s.ended_at IS NULL) "
        "OR (s.state = 'succeeded' AND (s.result IS NULL OR s.error IS NOT NULL)) "
        "OR (s.state IN ('failed', 'retrying') AND s.error IS NULL)",
        "s.name, r.uuid, s.state", "the record of step {} of run {} is not whole: {}", _DAMAGE,
    ),
    Invariant(
        7, "no step goes on in a run that has ended", STEPS,
        f"s.state IN {_in(StepState.RUNNING, StepState.RETRYING)} AND r.state IN {_ENDED}",
        "s.name, s.state, r.uuid, r.state", "step {} is {}, and its run {} is {}", _HARMLESS,
    ),
    Invariant(
        7, "a run says which of its steps were interrupted", STEPS,
        f"s.state = 'interrupted' AND r.partial IS NULL AND r.state IN {_in(RunState.FAILED, RunState.CANCELLED)} "
        "AND NOT EXISTS (SELECT 1 FROM questions q WHERE q.run_id = s.run_id AND q.identity = s.identity)",
        "s.name, r.uuid, r.state", "step {} was interrupted, and its run {} does not say so: it is {}", _HARMLESS,
    ),
    Invariant(
        7, "the steps of a run are numbered", NUMBERS, "n.steps > 1",
        "r.uuid, n.steps, n.seq", "run {} has {} steps with the number {}", _HARMLESS,
    ),
    Invariant(
        7, "no step ended after its run", STEPS, "s.ended_at > r.ended_at",
        "s.name, r.uuid", "step {} ended after its run {}", _CLOCK, "note",
    ),
    Invariant(
        7, "an answer is the record that the flow goes on with", QUESTIONS,
        "(q.state = 'answered' AND (q.answer IS NULL OR q.answered_by IS NULL OR q.answered_at IS NULL "
        "OR s.state IS NULL OR s.state <> 'succeeded' OR s.result <> q.answer)) "
        "OR (q.state = 'open' AND (q.answer IS NOT NULL OR s.state IS NULL OR s.state IN ('succeeded', 'failed')))",
        "q.uuid, q.state, coalesce(s.state, 'gone')", "question {} is {}, and its step record is {}", _DAMAGE,
    ),
    # --- 8. Limits, and the states that hold them
    Invariant(
        8, "no slot is held more often than its limit", HELD, _TOO_MANY,
        "h.slot, h.held, h.capacity", "{} is held by {} runs, and its limit is {}", _HARMLESS,
    ),
    Invariant(
        8, "no slot is held more often than a new limit", HELD, f"h.held > h.capacity AND NOT ({_TOO_MANY})",
        "h.slot, h.held, h.capacity", "{} is held by {} runs, and its limit is {}",
        "wait until these runs have ended: the limit was lowered while they were active", "note",
    ),
    Invariant(
        8, "no group has more runs than its limit", HELD_TOGETHER, _TOO_MANY,
        "h.slot, h.held, h.capacity", "{} is held by {} runs, and its limit is {}", _HARMLESS,
    ),
    Invariant(
        8, "no group has more runs than a new limit", HELD_TOGETHER, f"h.held > h.capacity AND NOT ({_TOO_MANY})",
        "h.slot, h.held, h.capacity", "{} is held by {} runs, and its limit is {}",
        "wait until these runs have ended: the limit was lowered while they were active", "note",
    ),
    Invariant(
        8, "every slot has a limit", RUNS,
        "((r.slot IS NOT NULL AND s.key IS NULL) OR (r.shared IS NOT NULL AND g.key IS NULL)) "
        f"AND r.state NOT IN {_ENDED}",
        "r.uuid, r.state, r.slot", "run {} is {}, and nothing is known of its slot {}",
        "restart the server with the flow's code: that registers its limit",
    ),
    Invariant(
        8, "every run has a state that exists", RUNS, f"r.state NOT IN {_in(*RunState)}",
        "r.uuid, r.state", "run {} is {!r}", "a newer Pullcord may have written this: use that one",
    ),
    Invariant(
        8, "a run has an end when it has ended", RUNS,
        f"(r.ended_at IS NULL AND r.state IN {_ENDED}) OR (r.ended_at IS NOT NULL AND r.state NOT IN {_ENDED})",
        "r.uuid, r.state, r.ended_at", "run {} is {}, and its end is {}", _DAMAGE,
    ),
    Invariant(
        8, "a run was queued before it was claimed", RUNS,
        "(r.queued_at IS NULL AND (r.state = 'queued' OR r.token > 0)) OR (r.started_at IS NULL AND r.token > 0) "
        "OR (r.started_at IS NOT NULL AND r.token = 0) OR (r.not_before IS NULL AND r.state = 'scheduled') "
        f"OR (r.token = 0 AND r.state IN {_in(*ACTIVE, RunState.SUCCEEDED, RunState.FAILED)})",
        "r.uuid, r.state, r.token, r.queued_at, r.started_at",
        "run {} is {} with token {}, queued {}, started {}", _DAMAGE,
    ),
    Invariant(
        8, "a run says what it waits for when it waits", RUNS,
        "(r.waiting_for IS NULL AND r.state = 'waiting') "
        "OR (r.waiting_for IS NOT NULL AND r.state NOT IN ('scheduled', 'queued', 'waiting'))",
        "r.uuid, r.state, r.waiting_for", "run {} is {}, and waits for {}", _HARMLESS,
    ),
    Invariant(
        8, "a run has the result or the error of its end", RUNS,
        "(r.state = 'succeeded' AND (r.result IS NULL OR r.error IS NOT NULL)) "
        "OR (r.state = 'failed' AND r.error IS NULL) OR (r.result IS NOT NULL AND r.state <> 'succeeded')",
        "r.uuid, r.state", "run {} is {}, and its result and error say otherwise", _DAMAGE,
    ),
    Invariant(
        8, "a run says who cancelled it when it is cancelled", RUNS,
        "(r.cancel IS NULL AND r.state IN ('cancelling', 'cancelled')) "
        "OR (r.cancel IS NOT NULL AND r.state NOT IN ('cancelling', 'cancelled'))",
        "r.uuid, r.state, r.cancel", "run {} is {}, and was cancelled by {}", _DAMAGE,
    ),
    Invariant(
        8, "a run's times are in order", RUNS,
        "r.ended_at < r.started_at OR (r.attempt = 1 AND r.started_at < r.queued_at)",
        "r.uuid, r.queued_at, r.started_at, r.ended_at", "run {} was queued {}, started {}, ended {}", _CLOCK, "note",
    ),
    Invariant(
        8, "nothing of a paused flow has started since", HALTED, "r.started_at > p.at",
        "r.uuid, p.flow", "run {} has started, and {} was paused before", _CLOCK, "note",
    ),
    Invariant(
        8, "no run has started after it expired", RUNS, "r.started_at > r.expires_at",
        "r.uuid, r.started_at, r.expires_at", "run {} has started at {}, and expired at {}", _HARMLESS,
    ),
    Invariant(
        8, "a request expires when its run never started", REQUESTS,
        "q.outcome = 'expired' AND (r.state <> 'cancelled' OR r.started_at IS NOT NULL)",
        "q.uuid, r.state, r.started_at", "request {} has expired, and its run is {}, started {}", _DAMAGE,
    ),
    Invariant(
        8, "what has expired has ended", RUNS,
        "r.state IN ('scheduled', 'queued') AND r.started_at IS NULL "
        f"AND r.expires_at < {NEWEST}",
        "r.uuid, r.state, r.expires_at", "run {} is {}, and expired at {}", "start a server: it ends them", "note",
    ),
    Invariant(
        8, "what counts against a rate has a key", USES, "k.key IS NULL",
        "u.request_id, u.key", "request no. {} counts against {}, which does not exist", _HARMLESS,
    ),
    # --- 3, for what is told
    Invariant(
        3, "a notification counts what it tells", OUTBOX, "coalesce(h.told, 0) <> n.count",
        "n.uuid, n.count, h.told", "notification {} counts {}, and tells of {}", _HARMLESS,
    ),
    Invariant(
        3, "a notification has an end when it has ended", OUTBOX,
        "n.state NOT IN ('gathering', 'pending', 'delivered', 'failed') "
        "OR (n.ended_at IS NULL AND n.state IN ('delivered', 'failed')) "
        "OR (n.ended_at IS NOT NULL AND n.state IN ('gathering', 'pending'))",
        "n.uuid, n.state, n.ended_at", "notification {} is {}, and its end is {}", _HARMLESS,
    ),
    Invariant(
        3, "what is told is told in a notification", HAPPENINGS, "n.id IS NULL",
        "h.event, h.flow, h.channel", "{} of {} is told to {} in a notification that is gone", _DAMAGE,
    ),
    # --- 10. Schedules
    Invariant(
        10, "a schedule has come to a tick", TRIGGERS,
        f"t.kind IN {_names(SCHEDULES)} AND t.removed_at IS NULL "
        "AND (coalesce(s.cursor, '') = '' OR trim(s.cursor, '0123456789') <> '')",
        "t.name, s.cursor", "the schedule {} has come to {!r}, which is no time", _DAMAGE,
    ),
)  # fmt: skip
"""All of them."""

"""Each invariant holds in a healthy store, also beside a busy server, and is reported when somebody breaks it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from uuid_utils import uuid7

from pullcord.core.artifact import content_path
from pullcord.core.manifest import ISOLATED
from pullcord.core.notify import on_failure
from pullcord.core.quotas import Quotas, Rate
from pullcord.core.states import Outcome, RunState
from pullcord.store.commands.admit import Admit
from pullcord.store.commands.artifacts import StoreArtifacts
from pullcord.store.commands.claim import Claimed
from pullcord.store.commands.deadlines import MeetDeadlines
from pullcord.store.commands.keys import Identity
from pullcord.store.commands.outbox import MarkNotification, SealNotifications
from pullcord.store.commands.pauses import PauseFlow
from pullcord.store.commands.prune import PruneRuns
from pullcord.store.commands.triggers import RegisterTriggers
from pullcord.store.queries.invariants.documents import DOCUMENTS
from pullcord.store.queries.invariants.examine import EXAMPLES, examine
from pullcord.store.queries.invariants.invariant import Verdict
from pullcord.store.queries.invariants.rules import INVARIANTS
from pullcord.store.transaction import ignore
from pullcord.wire import messages as kinds
from tests.store.harness import (
    DAY,
    LANE,
    NOON,
    ROOM,
    SECOND,
    Database,
    DrivenClock,
    Server,
    admit,
    entry,
    finished,
    note,
    spec,
    step,
)
from tests.store.test_questions import answer, ask, park, sleep
from tests.store.test_triggers import declared, fire

NAMES = [*(invariant.name for invariant in INVARIANTS), *DOCUMENTS]


GROUPED = {"limit": 2, "key": None, "on_conflict": "queue", "group": {"name": "db", "limit": 2}}


def populate(server: Server) -> None:
    """Make rows of every kind and state, by the commands that a server uses."""
    server.write(note(code="invalid_inputs", reason="n: is missing"))
    for _ in range(3):
        server.write(note(code="bad_request", reason="no JSON", repeat_key="malformed"))
    (old,) = server.begin(admit("free", limited=False))
    server.finish(finished(old))
    assert server.write(PruneRuns([old.id], 0, ignore)).rows == 1
    asked = admit("free", limited=False, key="k", request_id="00000000-0000-7000-8000-000000000001")
    (first,) = server.begin(asked)
    server.admit(admit("free", limited=False, key="k"), admit("free", limited=False, key="k", dry_run=True))
    server.admit(admit("free", limited=False, key="k", sent="other", validated="other"))
    server.record(step(first, "s1"), step(first, "s2", "retrying", seq=2, error='{"type":"E","message":"m"}'))
    server.record(step(first, "s2", seq=2, attempt=2), step(first, "s3", "running", seq=3))
    store_artifact(server, first)
    server.finish(finished(first))
    (again,) = server.begin(admit("free", limited=False, rerun_of=first.id))
    server.finish(finished(again, "failed", error='{"type":"E","message":"m"}'))
    (tried,) = server.begin(admit("f"))
    server.finish(finished(tried, "failed", error='{"type":"E","message":"m"}', retry_at=server.clock.now()))
    server.queue_due()
    server.clock.advance(SECOND)
    server.claim()
    (parent,) = server.begin(admit("free", limited=False))
    server.begin(admit("g", parent_id=parent.id, ledger={"trigger_kind": "flow"}))
    server.wait(parent, '{"kind":"child","text":"waits for g"}')
    (stuck,) = server.begin(admit("free", limited=False))
    (lost,) = server.begin(admit("free", limited=False))
    server.lose(lost)
    server.cancel(stuck.uuid)
    server.admit(admit("f"), admit("f"), admit("f", not_before=NOON + DAY))
    server.cancel(server.rows("SELECT max(uuid) AS uuid FROM runs WHERE state = 'queued'")[0]["uuid"])
    attempts(server)
    triggers(server)
    limits(server)
    (gone,) = server.begin(admit("g"))
    server.lose(gone, blame=0)
    server.admit(delivery(), delivery(), delivery(body="another"))
    told = {"concurrency": None, "notify": [on_failure("ops").as_json()]}
    server.register(spec("told", None, settings=told), complete=False)
    for _ in range(2):
        failed = max(server.begin(admit("told", limited=False)), key=lambda run: run.id)
        server.finish(finished(failed, "failed", error='{"type":"E","message":"m"}'))
        server.write(SealNotifications([1], False, lambda *_: "{}", ignore))
    server.write(MarkNotification(1, "delivered", None, None, ignore))
    server.begin(admit("db", shared="group:db"))
    claimed = server.begin(*[admit("asks", limited=False) for _ in range(3)])
    asking, answered, sleeping = [run for run in claimed if run.flow == "asks"]
    ask(server, asking)
    park(server, asking)
    answer(server, ask(server, answered))
    sleep(server, sleeping, DAY)


def store_artifact(server: Server, run: Claimed, identity: str = "s1") -> None:
    """Let a run store an artifact in a step."""
    message = [kinds.ARTIFACT, run.id, run.token, identity, "work", "a.txt", "0a" * 32, 5, None, None]
    with TemporaryDirectory() as name:
        content = Path(name) / content_path("0a" * 32)
        content.parent.mkdir()
        content.write_text("bytes")
        assert server.write(StoreArtifacts(Path(name), [message], ignore)).refused == []


def limits(server: Server) -> None:
    """Make a run that expired, an admission that counts against a rate, and a flow that is paused."""
    (early,) = server.begin(admit("halted", quotas=Quotas(rate=Rate(9, "1h"))))
    server.admit(admit("halted", expires_in=SECOND))
    server.clock.advance(2 * SECOND)
    server.write(MeetDeadlines(server.clock.now() + 1, 0, ignore))
    server.admit(admit("halted"))
    server.write(PauseFlow("halted", "owner", "a test", None, ignore))
    server.finish(finished(early))
    server.claim()


def attempts(server: Server) -> None:
    """Make a run that began anew in its second attempt and failed, and one that keeps what it recorded."""
    (run,) = server.begin(admit("free", limited=False))
    server.record(step(run, "a1"))
    error = '{"type":"E","message":"m"}'
    server.finish(finished(run, "failed", error=error, retry_at=server.clock.now(), anew=True))
    server.queue_due()
    server.clock.advance(SECOND)
    (run,) = [work for work in server.claim() if work.id == run.id]
    server.record(step(run, "a2"))
    store_artifact(server, run, "a2")
    server.finish(finished(run, "failed", error=error))
    server.admit(admit("free", limited=False, resumed_from=run.id, not_before=NOON + DAY))


def delivery(body: str = "body") -> Admit:
    """Make the admission of a webhook's delivery."""
    asked = admit("free", limited=False, ledger={"trigger_kind": "webhook", "trigger_name": "orders"})
    return replace(asked, identities=(Identity("hook:orders:free", "", "msg_1", body),))


def triggers(server: Server) -> None:
    """Make a schedule that was missed and skipped, an event with a run, and an end that starts others."""
    schedule = declared(1, "hourly", kind="cron", cursor=[str(NOON)])
    hook = declared(4, "orders", kind="webhook", next_due=None)
    server.write(
        RegisterTriggers("etl", None, [schedule, declared(2), declared(3, "gone"), hook], [], [], ["free"], ignore)
    )
    server.write(RegisterTriggers("etl", None, [], [3], [], ["free"], ignore))
    asked = {"trigger_kind": "cron", "trigger_name": "hourly", "scheduled_for": NOON}
    notes = [
        entry("free", **asked, times=3).become(Outcome.MISSED, reason="too late"),
        entry("free", **asked).become(Outcome.SKIPPED, reason="a holiday"),
    ]
    server.write(fire(number=1, cursor=str(NOON), notes=notes))
    seen = {"trigger_kind": "event", "trigger_name": "inbox"}
    for _ in range(2):
        server.write(fire(admit("free", limited=False, dedup="same", ledger=seen), number=2))
    server.write(fire(admit("free", limited=False, dedup="other", ledger=seen), number=2))
    for run in server.claim()[:1]:
        server.finish(finished(run))


BREAK: Mapping[str, Sequence[str]] = {
    "every admitted request has its run": ["DELETE FROM runs WHERE state = 'scheduled'"],
    "every run's admission is in the audit once": [
        "INSERT INTO audit (id, at, invoker, action, subject_id) SELECT 1000, at, invoker, action, subject_id "
        "FROM audit WHERE id = (SELECT max(id) FROM audit WHERE action = 'run.admit')"
    ],
    "every audit entry is about a run that exists": ["DELETE FROM runs WHERE state = 'cancelled'"],
    "a run is gone because it was pruned": ["UPDATE pruned SET rows = rows + 1 WHERE kind = 'runs'"],
    "a pruned run is gone": ["UPDATE requests SET pruned_run = uuid WHERE outcome = 'admitted'"],
    "every artifact is of a run that has begun": ["UPDATE artifacts SET run_id = 1000 WHERE identity = 's1'"],
    "every key is held by a request that exists": ["UPDATE keys SET request_id = 1000"],
    "every run comes from an admitted request": ["UPDATE requests SET outcome = 'skipped' WHERE outcome = 'admitted'"],
    "every run is what was asked for": ["UPDATE runs SET flow = 'other' WHERE state = 'waiting'"],
    "every child run has its parent": ["UPDATE runs SET parent_id = 1000 WHERE parent_id IS NOT NULL"],
    "every re-run names an earlier run": ["UPDATE runs SET rerun_of = id WHERE rerun_of IS NOT NULL"],
    "every resumed run names an earlier run that did not succeed": [
        "UPDATE runs SET state = 'succeeded' WHERE state = 'failed'"
    ],
    "every attempt before the last one is in the history": ["DELETE FROM attempts"],
    "an attempt in the history is of a run that had it": ["UPDATE attempts SET attempt = 7"],
    "a record that does not count is older than the beginning": ["UPDATE runs SET epoch = NULL"],
    "a record that was kept has a result and an origin": ["UPDATE runs SET resumed_from = NULL"],
    "every request has an outcome that exists": ["UPDATE requests SET outcome = 'forgotten' WHERE code IS NOT NULL"],
    "every refusal has a code and a reason": ["UPDATE requests SET reason = NULL WHERE outcome = 'rejected'"],
    "repeats have a first, a last and a count": ["UPDATE requests SET last_at = NULL WHERE count > 1"],
    "a key admits one request": [
        "UPDATE requests SET idempotency_key = 'twice' WHERE outcome = 'admitted' AND flow = 'f' AND dry_run = 0"
    ],
    "a request id admits one request": ["UPDATE requests SET uuid = 'same'"],
    "an admitted request holds its key": ["DELETE FROM keys WHERE key = 'k'"],
    "times of the ledger grow with its numbers": ["UPDATE requests SET at = at + 60000000 WHERE id = 2"],
    "a key is held by the request that carries it": ["UPDATE keys SET invoker = 'another'"],
    "a replay repeats an admitted request": ["UPDATE requests SET original_id = 1 WHERE outcome = 'replayed'"],
    "a run was claimed as often as its token says": ["UPDATE runs SET token = token + 1 WHERE state = 'succeeded'"],
    "losses are counted": ["UPDATE runs SET losses = 4 WHERE losses = 1"],
    "a run that may have killed its worker is alone": [f"UPDATE runs SET lane = '{LANE}' WHERE losses > 0"],
    "an owner is a server that was started": [
        "INSERT INTO meta (name, value) VALUES ('incarnation', '0') ON CONFLICT (name) DO UPDATE SET value = '0'"
    ],
    "a run is cancelling only in a worker": ["UPDATE runs SET owner = NULL WHERE state = 'cancelling'"],
    "no step goes on in a run that has ended": [
        "UPDATE steps SET state = 'running', ended_at = NULL WHERE state = 'interrupted'"
    ],
    "a run says which of its steps were interrupted": [
        "UPDATE steps SET state = 'interrupted', result = NULL WHERE run_id IN "
        "(SELECT id FROM runs WHERE state = 'succeeded')",
        "UPDATE runs SET state = 'failed', error = '{}', result = NULL WHERE state = 'succeeded'",
    ],
    "a step record belongs to a run that has begun": [
        "UPDATE steps SET run_id = 1000 WHERE identity = 's3' AND kept IS NULL"
    ],
    "a step record is whole": ["UPDATE steps SET result = NULL"],
    "the steps of a run are numbered": ["UPDATE steps SET seq = 1"],
    "no step ended after its run": ["UPDATE steps SET ended_at = ended_at * 2"],
    "no slot is held more often than its limit": [
        "UPDATE runs SET state = 'running', queued_at = 1, started_at = :later, token = 1, owner = 1 "
        "WHERE slot = 'f' AND state = 'queued'",
        "UPDATE slots SET capacity = 0 WHERE key = 'f'",
    ],
    "no slot is held more often than a new limit": [
        "UPDATE slots SET capacity = 0 WHERE key = 'g'",
        "UPDATE slots SET changed_at = :later",
    ],
    "no group has more runs than its limit": ["UPDATE slots SET capacity = 0, changed_at = 0 WHERE key = 'group:db'"],
    "no group has more runs than a new limit": [
        "UPDATE slots SET capacity = 0, changed_at = :later WHERE key = 'group:db'"
    ],
    "a run that is parked will be woken": ["DELETE FROM sleeps"],
    "a sleep without a worker is a parked run's": ["UPDATE sleeps SET run_id = 1"],
    "nobody is asked for a run that has ended": [
        "UPDATE runs SET state = 'failed' WHERE id IN (SELECT run_id FROM questions WHERE state = 'open')"
    ],
    "an answer is the record that the flow goes on with": [
        "UPDATE questions SET answer = '7' WHERE state = 'answered'"
    ],
    "every slot has a limit": ["DELETE FROM slots"],
    "every run has a state that exists": ["UPDATE runs SET state = 'asleep' WHERE state = 'running'"],
    "a run has an end when it has ended": ["UPDATE runs SET ended_at = NULL WHERE state = 'succeeded'"],
    "a run was queued before it was claimed": ["UPDATE runs SET started_at = NULL"],
    "a run says what it waits for when it waits": ["UPDATE runs SET waiting_for = NULL"],
    "a run has the result or the error of its end": ["UPDATE runs SET error = NULL WHERE state = 'failed'"],
    "a run says who cancelled it when it is cancelled": ["UPDATE runs SET cancel = NULL"],
    "a run's times are in order": ["UPDATE runs SET ended_at = 1 WHERE ended_at IS NOT NULL"],
    "every document can be read": ["UPDATE steps SET result = '{' WHERE state = 'succeeded'"],
    "what a trigger asked for names a trigger that exists": ["UPDATE triggers SET name = 'renamed' WHERE id = 1"],
    "every line of a history is of a trigger that exists": ["DELETE FROM triggers WHERE id = 2"],
    "every trigger has a state": ["DELETE FROM trigger_state WHERE trigger_id = 3"],
    "what starts others has ended": ["UPDATE endings SET run_id = 1000"],
    "equal fires have one run that has not ended": [
        "DROP INDEX runs_dedup",
        "UPDATE runs SET dedup = 'same' WHERE state IN ('queued', 'running')",
    ],
    "nothing of a paused flow has started since": ["UPDATE runs SET started_at = :later WHERE flow = 'halted'"],
    "no run has started after it expired": ["UPDATE runs SET started_at = :later WHERE expires_at IS NOT NULL"],
    "a request expires when its run never started": [
        "UPDATE runs SET state = 'queued' WHERE expires_at IS NOT NULL",
    ],
    "what has expired has ended": ["UPDATE runs SET expires_at = 1 WHERE state = 'queued'"],
    "what counts against a rate has a key": ["DELETE FROM rates"],
    "a notification counts what it tells": ["UPDATE notifications SET count = 7 WHERE id = 1"],
    "a notification has an end when it has ended": ["UPDATE notifications SET ended_at = NULL WHERE id = 1"],
    "what is told is told in a notification": ["DELETE FROM notifications WHERE id = 1"],
    "a schedule has come to a tick": ["UPDATE trigger_state SET cursor = '\"soon\"' WHERE trigger_id = 1"],
    "a run takes the slot of its flow": ["UPDATE runs SET slot = NULL WHERE slot = 'f' AND state = 'queued'"],
}
"""For each invariant what breaks it."""


def verdicts(server: Server) -> dict[str, Verdict]:
    return {verdict.name: verdict for verdict in examine(server.connection)}


def test_a_healthy_store_has_rows_of_every_kind_and_nothing_to_report(server: Server) -> None:
    populate(server)
    assert set(server.states().values()) == set(RunState)
    found = verdicts(server)
    assert sorted(found) == sorted(NAMES)
    assert [verdict for verdict in found.values() if verdict.broken] == []
    assert [name for name, verdict in found.items() if not verdict.checked] == []
    assert {verdict.state for verdict in found.values()} == {"ok"}


def test_an_empty_store_has_nothing_to_report(server: Server) -> None:
    assert {verdict.broken for verdict in examine(server.connection)} == {0}


@pytest.fixture
def server(database: Database, clock: DrivenClock) -> Iterator[Server]:
    """Start a server in an incarnation that the store knows of."""
    server = Server(database, clock)
    server.connection.execute("INSERT INTO meta (name, value) VALUES ('incarnation', '1')")
    grouped = spec("db", settings={"concurrency": GROUPED})
    server.register(spec("f"), spec("g", 2), spec("free", None), spec("asks", None), spec("halted"), grouped)
    yield server
    server.close()


@pytest.mark.parametrize("name", NAMES)
def test_it_is_reported_when_it_is_broken(name: str, server: Server) -> None:
    populate(server)
    for statement in BREAK[name]:
        server.connection.execute(statement, {"later": NOON + DAY} if ":later" in statement else {})
    verdict = verdicts(server)[name]
    assert verdict.broken > 0
    assert verdict.state == next((it.severity for it in INVARIANTS if it.name == name), "wrong")
    assert verdict.examples and "{" not in "".join(verdict.examples)
    assert verdict.advice


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE keys SET scope = 'hook:orders:f' WHERE key = 'msg_1'",
        "UPDATE keys SET scope = 'hook:other:free' WHERE key = 'msg_1'",
        "UPDATE keys SET invoker = 'owner' WHERE key = 'msg_1'",
        "UPDATE requests SET outcome = 'rejected' WHERE trigger_kind = 'webhook' AND outcome = 'admitted'",
    ],
)
def test_the_key_of_a_delivery_is_of_its_webhook_and_flow(change: str, server: Server) -> None:
    outcomes = [decision.outcome for decision in server.admit(delivery(), delivery(), delivery(body="another"))]
    assert outcomes == [Outcome.ADMITTED, Outcome.REPLAYED, Outcome.REJECTED]
    assert verdicts(server)["a key is held by the request that carries it"].broken == 0
    server.connection.execute(change)
    assert verdicts(server)["a key is held by the request that carries it"].broken == 1


def test_no_more_than_some_offenders_are_named(server: Server) -> None:
    server.admit(*[admit("free", limited=False) for _ in range(EXAMPLES + 10)])
    server.connection.execute("UPDATE runs SET state = 'asleep'")
    verdict = verdicts(server)["every run has a state that exists"]
    assert (verdict.broken, len(verdict.examples)) == (EXAMPLES + 10, EXAMPLES)


def test_a_limit_that_was_lowered_under_active_runs_is_a_note(server: Server) -> None:
    server.register(spec("f", 3))
    server.begin(admit("f"), admit("f"), admit("f"))
    server.register(spec("f", 1))
    found = verdicts(server)
    assert found["no slot is held more often than its limit"].broken == 0
    assert found["no slot is held more often than a new limit"].state == "note"


def test_every_rule_that_is_built_has_its_invariants() -> None:
    assert len(NAMES) == len(set(NAMES))
    assert {invariant.rule for invariant in INVARIANTS} == {1, 2, 3, 4, 5, 6, 7, 8, 10}


class Traffic(threading.Thread):
    """Writes as fast as it can: runs are admitted with keys, claimed, recorded, lost, cancelled and ended."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server
        self._enough = threading.Event()
        self.done = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._enough.is_set():
                self._round()
                self.done.set()
        except BaseException as error:
            self.failure = error

    def _round(self) -> None:
        server = self._server
        asked = [admit("free", limited=False, key=str(uuid7())) for _ in range(20)]
        runs = server.begin(*asked, admit("f", key=str(uuid7())), admit("g"))
        server.admit(replace(asked[0], entry=replace(asked[0].entry)))
        server.record(*[step(run, "s1", "running") for run in runs], *[step(run, "s2", seq=2) for run in runs])
        server.wait(runs[0], '{"kind":"time","text":"sleeps"}')
        server.lose(runs[1])
        server.cancel(runs[2].uuid)
        left = [run for run in runs if run is not runs[1]]
        server.record(*[step(run, "s1") for run in left[1:]])
        server.finish(*[finished(run) for run in left])
        runs = server.claim(ROOM | {LANE.rpartition("#")[0] + f"#{ISOLATED}": 1000})
        server.finish(*[finished(run, "failed", error="{}", retry_at=server.clock.now()) for run in runs[:1]])
        server.finish(*[finished(run) for run in runs])
        server.queue_due()
        ended = [row["id"] for row in server.rows("SELECT id FROM runs WHERE state = 'succeeded'")]
        server.write(PruneRuns(ended[:10], 0, ignore))
        server.write(PruneRuns(ended[10:20], 2**62, ignore))

    def stop(self) -> None:
        self._enough.set()
        self.join()
        if self.failure is not None:
            raise self.failure


def test_beside_a_busy_writer_there_is_no_false_alarm(server: Server) -> None:
    traffic = Traffic(server)
    reader = server.database.reader()
    traffic.start()
    try:
        for _ in range(25):
            traffic.done.clear()
            assert traffic.done.wait(60), "the writer stands still"
            assert [verdict for verdict in examine(reader) if verdict.broken] == []
    finally:
        traffic.stop()
        reader.close()
    assert [verdict for verdict in examine(server.connection) if verdict.broken] == []

"""Idempotency keys and request ids: who came first, what counts as the same, and how long it is remembered."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from pullcord.core.errors import PullcordError
from pullcord.core.states import Outcome
from pullcord.store.commands.admit import Admit, Decision
from pullcord.store.commands.keys import REQUEST_ID, RETENTION, Identity
from pullcord.store.queries.requests import find_originals
from pullcord.store.store import Store
from tests.store.harness import DAY, NOON, SECOND, Server, admit

ADMITTED, REPLAYED, REJECTED = Outcome.ADMITTED, Outcome.REPLAYED, Outcome.REJECTED


def outcomes(decisions: list[Decision]) -> list[Outcome]:
    """Return what became of each."""
    return [decision.outcome for decision in decisions]


@pytest.mark.parametrize("identity", [{"key": "k"}, {"request_id": "r"}, {"key": "k", "request_id": "r"}])
@pytest.mark.parametrize("together", [True, False])
def test_the_same_request_again_is_the_original(server: Server, identity: dict[str, Any], together: bool) -> None:
    first, second = admit(**identity), admit(**identity)
    if together:
        original, again = server.admit(first, second)
    else:
        (original,), (again,) = server.admit(first), server.admit(second)
    assert (original.outcome, again.outcome) == (ADMITTED, REPLAYED)
    assert (again.request_uuid, again.run_uuid) == (first.entry.uuid, first.run.uuid)
    assert again.id == original.id
    assert server.count("runs") == 1


def test_the_original_is_told_with_the_state_that_its_run_has_now(server: Server) -> None:
    server.admit(admit(key="k"))
    server.claim()
    (again,) = server.admit(admit(key="k"))
    assert again.state == "running"


def test_within_one_transaction_the_state_is_the_originals_too(server: Server) -> None:
    original, again = server.admit(admit(key="k", not_before=NOON + DAY), admit(key="k", not_before=NOON + DAY))
    assert original.state == "scheduled"
    assert again.state == "scheduled"


@pytest.mark.parametrize(
    ("identity", "code"),
    [({"key": "k"}, "idempotency_conflict"), ({"request_id": "r"}, "request_id_conflict")],
)
@pytest.mark.parametrize("together", [True, False])
def test_other_inputs_are_a_conflict_that_names_the_original(
    server: Server, identity: dict[str, Any], code: str, together: bool
) -> None:
    first, second = admit(**identity), admit(**identity, sent="other", validated="another")
    if together:
        original, late = server.admit(first, second)
    else:
        (original,), (late,) = server.admit(first), server.admit(second)
    assert original.outcome is ADMITTED
    assert (late.outcome, late.code) == (REJECTED, code)
    assert late.run_uuid == first.run.uuid
    assert late.reason is not None
    assert first.entry.uuid in late.reason
    assert first.run.uuid in late.reason
    assert late.request_uuid not in (first.entry.uuid, second.entry.uuid), "its row in the ledger has an id of its own"
    (row,) = server.rows("SELECT uuid, original_id, reason FROM requests WHERE outcome = 'rejected'")
    assert row == {"uuid": late.request_uuid, "original_id": original.id, "reason": late.reason}
    assert server.count("runs") == 1


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, True)])
def test_a_conflict_with_a_run_that_is_wanted_again_speaks_of_no_inputs(
    server: Server, first: bool, second: bool, together: bool
) -> None:
    def asked(again: bool, mark: str) -> Admit:
        made = admit(key="k", sent=mark, validated=mark, ledger={"origin": '{"resumed_from":"x"}'} if again else {})
        return replace(made, identities=tuple(replace(identity, again=again) for identity in made.identities))

    commands = asked(first, "one"), asked(second, "two")
    late = (server.admit(*commands) if together else [server.admit(command)[0] for command in commands])[1]
    assert late.reason is not None
    assert "'k' was used for something else by request" in late.reason


@pytest.mark.parametrize(
    ("sent", "validated", "outcome"),
    [
        ("sent", "validated", REPLAYED),
        ("other", "validated", REPLAYED),
        ("sent", "other", REPLAYED),
        ("sent", "", REPLAYED),
        ("other", "other", REJECTED),
        ("other", "", REJECTED),
    ],
)
def test_either_fingerprint_will_do(server: Server, sent: str, validated: str, outcome: Outcome) -> None:
    server.admit(admit(key="k"))
    assert outcomes(server.admit(admit(key="k", sent=sent, validated=validated))) == [outcome]


def test_what_was_never_validated_matches_by_what_was_sent_alone(server: Server) -> None:
    server.admit(admit(key="k", validated=""))
    assert outcomes(server.admit(admit(key="k", sent="other", validated=""))) == [REJECTED]
    assert outcomes(server.admit(admit(key="k", validated=""))) == [REPLAYED]


def test_a_key_belongs_to_a_flow_and_an_invoker_and_a_request_id_to_an_invoker(server: Server) -> None:
    decisions = server.admit(
        admit("f", key="k"),
        admit("g", key="k"),
        admit("f", key="k", invoker="guest"),
        admit("f", request_id="k"),
        admit("f", request_id="k", invoker="guest"),
        admit("g", request_id="k"),
    )
    assert outcomes(decisions) == [ADMITTED] * 5 + [REPLAYED]
    assert decisions[5].run_uuid == decisions[3].run_uuid


def test_without_a_key_every_request_is_its_own(server: Server) -> None:
    assert outcomes(server.admit(*[admit() for _ in range(5)])) == [ADMITTED] * 5


def test_many_with_one_key_in_one_batch_are_one_run(server: Server) -> None:
    decisions = server.admit(*[admit(key="k", request_id=f"r{number}") for number in range(50)])
    assert outcomes(decisions) == [ADMITTED] + [REPLAYED] * 49
    assert {decision.run_uuid for decision in decisions} == {decisions[0].run_uuid}
    assert {decision.request_uuid for decision in decisions} == {"r0"}
    assert (server.count("runs"), server.count("audit")) == (1, 1)


async def test_many_with_one_key_at_the_same_moment_are_one_run(store: Store) -> None:
    decisions = await asyncio.gather(*[store.write(lambda done: admit(key="k", done=done)) for _ in range(50)])
    assert sorted(outcomes(decisions)) == [ADMITTED] + [REPLAYED] * 49
    assert len({decision.run_uuid for decision in decisions}) == 1


def test_a_loser_gives_its_other_keys_back(server: Server) -> None:
    """B loses against A by its key, so C gets the request id that B had taken in the same statement."""
    a, b, c = admit(key="k"), admit(key="k", request_id="r"), admit(request_id="r")
    decisions = server.admit(a, b, c)
    assert outcomes(decisions) == [ADMITTED, REPLAYED, ADMITTED]
    assert decisions[1].run_uuid == a.run.uuid
    assert decisions[2].run_uuid == c.run.uuid
    assert outcomes(server.admit(admit(request_id="r"), admit(key="k"))) == [REPLAYED, REPLAYED]


def test_losers_of_losers_find_the_right_original(server: Server) -> None:
    chain = server.admit(
        admit(key="k0"),
        admit(key="k0", request_id="r1"),
        admit(key="k2", request_id="r1"),
        admit(key="k2", request_id="r3"),
        admit(key="k4", request_id="r3"),
    )
    assert outcomes(chain) == [ADMITTED, REPLAYED, ADMITTED, REPLAYED, ADMITTED]
    assert [decision.run_uuid for decision in chain] == [chain[n].run_uuid for n in (0, 0, 2, 2, 4)]
    assert server.count("runs") == 3


def test_a_loser_against_the_past_gives_its_keys_back_too(server: Server) -> None:
    server.admit(admit(key="old"))
    late, free = server.admit(admit(key="old", request_id="r", sent="x", validated="y"), admit(request_id="r"))
    assert (late.code, free.outcome) == ("idempotency_conflict", ADMITTED)


def test_every_key_belongs_to_a_run_that_was_admitted(server: Server) -> None:
    for sent in ("one", "two"):
        server.admit(
            *[
                admit(key=f"k{number % 3}", request_id=f"r{number % 4}", sent=sent, validated=sent)
                for number in range(12)
            ]
        )
    holders = server.rows("SELECT k.key, r.id FROM keys k LEFT JOIN runs r ON r.id = k.request_id")
    assert holders
    assert all(row["id"] is not None for row in holders)


@pytest.mark.parametrize("identity", [{"key": "k"}, {"request_id": "r"}])
def test_a_key_is_kept_for_thirty_days(server: Server, identity: dict[str, Any]) -> None:
    (first,) = server.admit(admit(**identity))
    server.clock.at += RETENTION - SECOND
    (again,) = server.admit(admit(**identity))
    assert (again.outcome, again.run_uuid) == (REPLAYED, first.run_uuid)
    server.clock.at += 2 * SECOND
    (fresh,) = server.admit(admit(**identity, sent="other", validated="other"))
    assert fresh.outcome is ADMITTED
    assert fresh.run_uuid != first.run_uuid
    server.clock.at += RETENTION - SECOND
    (again,) = server.admit(admit(**identity, sent="other", validated="other"))
    assert (again.outcome, again.run_uuid) == (REPLAYED, fresh.run_uuid)
    assert RETENTION == 30 * DAY


def test_an_expired_key_is_not_found_by_readers_either(server: Server) -> None:
    server.admit(admit(key="k"))
    wanted = [Identity("f", "owner", "k", "sent")]
    taken = server.clock.now()
    assert find_originals(server.connection, wanted, taken + RETENTION)[wanted[0]].matches
    assert find_originals(server.connection, wanted, taken + RETENTION + 1) == {}


def test_readers_find_originals_by_any_identity(server: Server) -> None:
    (decision,) = server.admit(admit(key="k", request_id="r"))
    key = Identity("f", "owner", "k", "other")
    number = Identity(REQUEST_ID, "owner", "r", "sent")
    stranger = Identity("f", "guest", "k", "sent")
    found = find_originals(server.connection, [key, number, stranger], server.clock.now())
    assert set(found) == {key, number}
    assert not found[key].matches
    assert found[number].matches
    assert {original.run_uuid for original in found.values()} == {decision.run_uuid}
    assert (found[key].conflict, found[number].conflict) == ("idempotency_conflict", "request_id_conflict")


def test_an_ended_run_is_still_the_original(server: Server) -> None:
    (first,) = server.admit(admit(key="k"))
    assert first.run_uuid is not None
    server.cancel(first.run_uuid)
    (again,) = server.admit(admit(key="k"))
    assert (again.outcome, again.state) == (REPLAYED, "cancelled")


def test_a_dry_run_takes_no_key_but_meets_those_that_are_taken(server: Server) -> None:
    assert outcomes(server.admit(admit(key="k", dry_run=True))) == [ADMITTED]
    real = admit(key="k")
    assert outcomes(server.admit(real)) == [ADMITTED]
    same, other = server.admit(
        admit(key="k", dry_run=True), admit(key="k", dry_run=True, sent="other", validated="other")
    )
    assert (same.outcome, same.run_uuid) == (REPLAYED, real.run.uuid)
    assert (other.outcome, other.code) == (REJECTED, "idempotency_conflict")
    assert server.count("runs") == 1


def test_a_dry_run_that_meets_a_key_of_its_own_batch_knows_the_original(server: Server) -> None:
    real, dry = admit(key="k"), admit(key="k", dry_run=True)
    _, decision = server.admit(real, dry)
    assert decision.outcome is REPLAYED
    assert (decision.request_uuid, decision.run_uuid) == (real.entry.uuid, real.run.uuid)


def test_replays_of_one_original_share_a_row_with_count(server: Server) -> None:
    (original,) = server.admit(admit(key="k"))
    first = server.clock.now() + 1
    server.admit(*[admit(key="k") for _ in range(3)])
    server.clock.advance(SECOND)
    server.admit(admit(key="k"))
    (row,) = server.rows("SELECT * FROM requests WHERE outcome = 'replayed'")
    assert row["count"] == 4
    assert (row["at"], row["last_at"]) == (first, server.clock.now())
    assert row["original_id"] == original.id
    assert row["uuid"] != original.request_uuid


def test_replays_of_other_originals_and_conflicts_have_rows_of_their_own(server: Server) -> None:
    server.admit(admit(key="a"), admit(key="b"))
    server.admit(admit(key="a"), admit(key="b"), *[admit(key="a", sent="x", validated="y") for _ in range(2)])
    rows = server.rows("SELECT outcome, count FROM requests ORDER BY id")
    assert sorted((row["outcome"], row["count"]) for row in rows) == [
        ("admitted", 1), ("admitted", 1), ("rejected", 1), ("rejected", 1), ("replayed", 1), ("replayed", 1),
    ]  # fmt: skip


def test_keys_that_differ_only_after_a_nul_are_two_keys_or_refused(server: Server) -> None:
    decisions: list[Decision] = []
    for key in ("a\0b", "a\0c"):
        with contextlib.suppress(ValueError, PullcordError, sqlite3.Error, psycopg.Error):
            decisions += server.admit(admit(key=key))
    assert outcomes(decisions) in ([], [ADMITTED, ADMITTED])
    assert [row["key"] for row in server.rows("SELECT key FROM keys ORDER BY key")] in ([], ["a\0b", "a\0c"])

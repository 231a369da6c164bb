"""Request ids and idempotency keys: who came first (design rule 4)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from pullcord.core.states import RunState
from pullcord.store.statement import dump, rows
from pullcord.store.transaction import Transaction

RETENTION: Final = 30 * 86_400 * 1_000_000
"""How long a key is kept, in microseconds."""

REQUEST_ID: Final = ""
"""The scope of request ids; an idempotency key's scope is its flow."""

DELIVERY: Final = "hook:"
"""What the scope of a hook's deliveries begins with; no flow's name does."""

_COLUMNS = "scope invoker key request_id:int sent validated"
_CLAIM = f"""
INSERT INTO keys (scope, invoker, key, request_id, sent, validated, at)
SELECT scope, invoker, key, request_id, sent, validated, :now FROM {rows(_COLUMNS)} AS s WHERE true
ON CONFLICT (scope, invoker, key) DO UPDATE SET
    request_id = excluded.request_id, sent = excluded.sent, validated = excluded.validated, at = excluded.at
WHERE keys.at < :expired"""
_HOLDERS = f"""
SELECT EACH[
    k.scope, k.invoker, k.key, k.request_id, k.sent, k.validated, q.uuid, coalesce(r.uuid, q.pruned_run), r.state,
    q.origin IS NOT NULL]
FROM {rows("scope invoker key")} AS wanted
JOIN keys k ON k.scope = wanted.scope AND k.invoker = wanted.invoker AND k.key = wanted.key AND k.at >= :expired
LEFT JOIN requests q ON q.id = k.request_id LEFT JOIN runs r ON r.id = k.request_id"""
_RELEASE = "DELETE FROM keys WHERE request_id IN VALUES[ids:int]"


@dataclass(frozen=True, slots=True)
class Identity:
    """A name by which a request can be recognised when it is sent again.

    Attributes:
        scope: the flow for an idempotency key, `REQUEST_ID` for a request id.
        invoker: who sent it.
        key: the key or id.
        sent: fingerprint of flow and inputs as sent.
        validated: fingerprint of flow and inputs as validated; "" where they were not.
        again: whether it asks for a run again; then the fingerprints tell which, and how.
    """

    scope: str
    invoker: str
    key: str
    sent: str
    validated: str = ""
    again: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Original:
    """The request that came first under an identity.

    Attributes:
        id: its number.
        request_uuid: its id.
        run_uuid: id of the run it became.
        state: that run's state now.
        identity: the identity that both requests carry.
        matches: whether the later request asks for the same.
        again: whether one of them asks for a run again; then they may differ in more than the inputs.
    """

    id: int
    request_uuid: str
    run_uuid: str | None
    state: str | None
    identity: Identity
    matches: bool
    again: bool = False

    @property
    def conflict(self) -> str:
        """The code of a request that asks for something else under this identity."""
        if self.identity.scope.startswith(DELIVERY):
            return "duplicate_delivery"
        return "request_id_conflict" if self.identity.scope == REQUEST_ID else "idempotency_conflict"

    def explain(self) -> str:
        """Return the reason of a conflict for people."""
        if self.identity.scope.startswith(DELIVERY):
            return (
                f"the delivery {self.identity.key!r} came with another body before, as request {self.request_uuid}"
                f" (run {self.run_uuid}); a sender gives each delivery an id of its own"
            )
        what = "request id" if self.identity.scope == REQUEST_ID else "idempotency key"
        used = "for something else" if self.again else "with other inputs"
        return (
            f"the {what} {self.identity.key!r} was used {used} by request {self.request_uuid}"
            f" (run {self.run_uuid}); use a new one for a new intent"
        )


@dataclass(frozen=True, slots=True)
class Claimant:
    """A request that wants its keys: its number, the ids it and its run will have, its identities, its first state."""

    id: int
    request_uuid: str
    run_uuid: str
    identities: tuple[Identity, ...]
    state: RunState

    def name(self, original: Original) -> Original:
        """Fill in the ids of an original that this same transaction is about to insert."""
        again = original.again or any(identity.again for identity in self.identities)
        return replace(original, request_uuid=self.request_uuid, run_uuid=self.run_uuid, state=self.state, again=again)


def lookup_sql() -> str:
    """Return the query for the holders of identities, for use on a reader too."""
    return _HOLDERS


def lookup_parameters(identities: list[Identity], now: int) -> dict[str, Any]:
    """Return the parameters of that query."""
    wanted = [[identity.scope, identity.invoker, identity.key] for identity in identities]
    return {"rows": dump(wanted), "expired": now - RETENTION}


def originals(found: list[list[Any]], identities: list[Identity]) -> dict[Identity, Original]:
    """Match what the query found with the identities that were looked for."""
    holders = {(row[0], row[1], row[2]): row for row in found}
    result: dict[Identity, Original] = {}
    for identity in identities:
        row = holders.get((identity.scope, identity.invoker, identity.key))
        if row is not None:
            matches = identity.sent == row[4] or (identity.validated != "" and identity.validated == row[5])
            again = identity.again or bool(row[9])
            result[identity] = Original(row[3], row[6], row[7], row[8], identity, matches, again)
    return result


def claim_keys(tx: Transaction, wanted: list[Claimant]) -> dict[int, Original]:
    """Take the keys for numbered requests, and return the originals of those that came too late."""
    losers: dict[int, Original] = {}
    names = {claimant.id: claimant for claimant in wanted}
    while wanted:
        # The first of this transaction speaks for the others: a statement must not meet a row twice (PostgreSQL).
        first_rows: dict[tuple[str, str, str], list[Any]] = {}
        for claimant in wanted:
            for identity in claimant.identities:
                name = (identity.scope, identity.invoker, identity.key)
                first_rows.setdefault(name, [*name, claimant.id, identity.sent, identity.validated])
        tx.execute(_CLAIM, {"rows": dump(list(first_rows.values())), "now": tx.now, "expired": tx.now - RETENTION})
        identities = [identity for claimant in wanted for identity in claimant.identities]
        found = originals(tx.array(_HOLDERS, lookup_parameters(identities, tx.now)), identities)
        late: dict[int, Original] = {}
        for claimant in wanted:
            first = next((found[i] for i in claimant.identities if found[i].id != claimant.id), None)
            if first is not None:
                known = names.get(first.id)
                late[claimant.id] = first if known is None else known.name(first)
        release_keys(tx, list(late))
        # Whoever lost against a loser tries again: that one has given its keys back.
        again = {number for number, original in late.items() if original.id in late}
        losers |= {number: original for number, original in late.items() if number not in again}
        wanted = [claimant for claimant in wanted if claimant.id in again]
    return losers


def known_original(
    tx: Transaction, identities: tuple[Identity, ...], claimants: dict[int, Claimant]
) -> Original | None:
    """Return the original of a request that takes no keys, such as a dry run; it may be of the same transaction."""
    wanted = list(identities)
    found = originals(tx.array(_HOLDERS, lookup_parameters(wanted, tx.now)), wanted)
    first = next((found[identity] for identity in wanted if identity in found), None)
    if first is None:
        return None
    known = claimants.get(first.id)
    return first if known is None else known.name(first)


def release_keys(tx: Transaction, request_ids: list[int]) -> None:
    """Give back the keys of requests that were not admitted."""
    tx.execute(_RELEASE, {"ids": dump(request_ids)})

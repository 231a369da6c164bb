"""The rows that rates are counted from: one for each admission, as long as it counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pullcord.store.statement import dump, rows
from pullcord.store.transaction import Transaction

# The key's row is locked until the transaction ends, so that no other server counts meanwhile.
_LOCK = f"""
INSERT INTO rates (key, until) SELECT key, until FROM {rows("key until:int")} AS s WHERE true
ON CONFLICT (key) DO UPDATE SET
    until = CASE WHEN excluded.until > rates.until THEN excluded.until ELSE rates.until END"""
_USES = "SELECT EACH[key, at] FROM rate_uses WHERE key IN VALUES[keys]"
_FORGET = f"""
DELETE FROM rate_uses WHERE EXISTS (SELECT 1 FROM {rows("key before:int")} AS s
    WHERE s.key = rate_uses.key AND rate_uses.at <= s.before) AND key IN VALUES[keys]"""
_USE = f"""
INSERT INTO rate_uses (key, at, request_id) SELECT key, at, request_id FROM {rows("key at:int request_id:int")} AS s"""


def counted_uses(tx: Transaction, spans: Mapping[str, int]) -> dict[str, list[int]]:
    """Lock the keys, and return what counts of each; what counts no longer is deleted."""
    tx.execute(_LOCK, {"rows": dump([[key, tx.now + spans[key]] for key in sorted(spans)])})
    keys = dump(sorted(spans))
    uses: dict[str, list[int]] = {key: [] for key in spans}
    over: dict[str, int] = {}
    for key, at in tx.array(_USES, {"keys": keys}):
        if at <= tx.now - spans[key]:
            over[key] = tx.now - spans[key]
        else:
            uses[key].append(at)
    if over:
        tx.execute(_FORGET, {"rows": dump([list(pair) for pair in over.items()]), "keys": dump(sorted(over))})
    for times in uses.values():
        times.sort()
    return uses


def forget_rates(tx: Transaction) -> None:
    """Delete what counts no longer, of keys that nobody may ever use again."""
    tx.execute("DELETE FROM rate_uses WHERE key IN (SELECT key FROM rates WHERE until <= :now)", {"now": tx.now})
    tx.execute("DELETE FROM rates WHERE until <= :now", {"now": tx.now})


def write_uses(tx: Transaction, used: Sequence[Sequence[Any]], later: Mapping[str, int]) -> None:
    """Write what was admitted.

    Args:
        tx: the transaction.
        used: key, time and number of each admission; of one that is delayed, the time at which it may start.
        later: until when the keys of delayed ones count, microseconds.
    """
    tx.execute(_USE, {"rows": dump(used)})
    if later:
        tx.execute(_LOCK, {"rows": dump(sorted(map(list, later.items())))})

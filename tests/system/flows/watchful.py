"""An event that counts, a flow for each number, and a flow after each end: every number is there once, or something
was lost or doubled."""

from __future__ import annotations

import pullcord as pc

LAST = 40


@pc.flow(concurrency=None)
def counted(n: int) -> dict[str, int]:
    return {"n": n}


@pc.flow(concurrency=None, triggers=[pc.completion(counted)])
def followed(n: int) -> int:
    return n


@pc.event(flow=counted, every="50ms")
def counting(cursor: pc.Cursor) -> list[pc.Fire] | pc.Skip:
    first = cursor.value or 0
    if first >= LAST:
        return pc.Skip("that was all")
    cursor.value = first + 2
    return [pc.Fire({"n": first + 1}), pc.Fire({"n": first + 2})]

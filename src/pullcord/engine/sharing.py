"""How new runs are shared among workers that have some already."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heapreplace


def shares(busy: Sequence[int], count: int) -> list[int]:
    """Return how many of so many new runs each worker gets: none gets one while another has fewer.

    Args:
        busy: how many runs each worker has; there is at least one worker.
        count: how many runs there are to share.
    """
    given = [0] * len(busy)
    order = [(runs, worker) for worker, runs in enumerate(busy)]
    heapify(order)
    for _ in range(count):
        runs, worker = order[0]
        heapreplace(order, (runs + 1, worker))
        given[worker] += 1
    return given

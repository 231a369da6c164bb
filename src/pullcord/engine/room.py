"""How many more runs each lane can take: counted here, read by the writer's thread before it claims."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence

from pullcord.store.commands.claim import Claimed


class Room:
    """The free room of all lanes.

    Args:
        floor: only runs with a higher number are claimed.
    """

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self._closed = False
        self._lock = threading.Lock()
        self._capacity: Counter[str] = Counter()
        self._taken: Counter[str] = Counter()

    def room(self) -> Mapping[str, int]:
        """Return the free room by lane."""
        with self._lock:
            if self._closed:
                return {}
            return {lane: capacity - self._taken[lane] for lane, capacity in self._capacity.items()}

    def usage(self) -> list[tuple[str, int, int]]:
        """Return each lane with its capacity and how much of it is taken."""
        with self._lock:
            return [(lane, capacity, self._taken[lane]) for lane, capacity in self._capacity.items()]

    def reserve(self, claimed: Sequence[Claimed]) -> None:
        """Take the room of claimed runs."""
        with self._lock:
            for run in claimed:
                self._taken[run.lane] += 1

    def take(self, lane: str) -> None:
        """Take room for one run."""
        with self._lock:
            self._taken[lane] += 1

    def free(self, lane: str) -> None:
        """Give the room of one run back."""
        with self._lock:
            self._taken[lane] -= 1

    def grow(self, lane: str, by: int) -> None:
        """Change a lane's capacity; negative shrinks it."""
        with self._lock:
            self._capacity[lane] += by

    def close(self) -> None:
        """Claim nothing more, even if workers become ready."""
        with self._lock:
            self._closed = True

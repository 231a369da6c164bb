"""Counting HTTP calls: by route, never by address, so that there are few figures however many runs there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from pullcord.histogram import Histogram

OTHER: Final = "(other)"
"""The route of a call that matches none, and the method of one that nobody knows."""

LOGGED: Final = "pullcord.logged"
"""Set in the scope of a call whose unexpected error was logged."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Traffic:
    """The calls so far.

    Attributes:
        answers: how many there were, by method, route and status.
        seconds: how long they took, by route; streams of events are left out.
        streams: how many streams of events are open.
    """

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, str, int]] = Counter()
        self.seconds: dict[str, Histogram] = {}
        self.streams = 0

    def answered(self, method: str, route: str, status: int, seconds: float | None) -> None:
        """Count a call; None for the time leaves it out."""
        self.answers[method if method in _METHODS else OTHER, route, status] += 1
        if seconds is not None:
            known = self.seconds.get(route)
            if known is None:
                known = self.seconds[route] = Histogram()
            known.observe(seconds)


def route_of(scope: Mapping[str, Any]) -> str:
    """Return the pattern of the route that a call took, such as `/v1/runs/{run_id}`."""
    path = getattr(scope.get("route"), "path", OTHER)
    return str(path)

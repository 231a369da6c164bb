"""A service that goes down, and comes up again."""

from __future__ import annotations

import socket
from typing import Any, Unpack
from urllib.parse import urlsplit

from pullcord.core.durations import Duration, seconds
from pullcord.core.errors import DefinitionError
from pullcord.core.event import Cursor, EventTrigger, Fire, PollError, Skip
from pullcord.events.declare import Flows, Options, declared
from pullcord.events.http import checked, get, named

UP, DOWN = "up", "down"


class HealthCheck:
    """Fires when a service goes down, and when it comes up again. At first it is taken to be up.

    Args:
        target: `http://…` or `https://…`, which must answer with 2xx, or `tcp://host:port`, which must accept.
        failures: so many failed checks in a row make it down; one good check makes it up.
        timeout: seconds that a check may take.
        details: put the target and the reason into the context too.
    """

    def __init__(self, target: str, failures: int = 3, timeout: float = 5.0, details: bool = False) -> None:
        if failures < 1:
            raise DefinitionError(f"failures is at least 1, not {failures}")
        self.target, self.failures, self.timeout, self.details = target, failures, timeout, details
        self._address = _address(target)

    def poll(self, state: Cursor) -> Fire | Skip:
        """Check once."""
        known: dict[str, Any] = state.value or {"state": UP, "failures": 0, "changes": 0}
        trouble = self._trouble()
        failures = 0 if trouble is None else min(known["failures"] + 1, self.failures)
        now = DOWN if failures >= self.failures else known["state"] if trouble else UP
        changes = known["changes"] + (now != known["state"])
        state.value = {"state": now, "failures": failures, "changes": changes}
        if now == known["state"]:
            return Skip(now if trouble is None or now == DOWN else f"{failures} of {self.failures} failures: {trouble}")
        context = {"state": now}
        if self.details:
            context |= {"target": self.target, "reason": trouble or "it answers"}
        return Fire(context, key=str(changes))

    def _trouble(self) -> str | None:
        """Check, and return what is wrong."""
        if self._address is None:
            try:
                status = get(self.target, self.timeout).status
            except PollError as error:
                return error.message
            return None if 200 <= status < 300 else f"{named(self.target)} answers {status}"
        try:
            socket.create_connection(self._address, self.timeout).close()
        except (OSError, UnicodeError) as error:  # the latter for a name that cannot be
            return f"{self.target} does not accept: {getattr(error, 'strerror', None) or error}"
        return None


def _address(target: str) -> tuple[str, int] | None:
    """Return host and port of a TCP target; None for a web address."""
    if not target.startswith("tcp://"):
        checked(target)
        return None
    try:
        parts = urlsplit(target)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise DefinitionError(f"{target!r} needs a host and a port, like 'tcp://db.example.org:5432'")
    return host, port


def health(
    target: str,
    *,
    failures: int = 3,
    timeout: Duration = "5s",
    details: bool = False,
    flow: Flows = (),
    every: Duration = "10s",
    name: str | None = None,
    **options: Unpack[Options],
) -> EventTrigger:
    """Run a flow when a service goes down, and when it comes up again.

    At first it is taken to be up, so one that is down from the beginning is told, and one that is up is not.

    Args:
        target: `http://…` or `https://…`, which must answer with 2xx, or `tcp://host:port`, which must accept a
            connection.
        failures: so many failed checks in a row make it down; one good check makes it up.
        timeout: how long a check may take.
        details: the context is `{"state": "down"}` or `{"state": "up"}`, and with details also `target` and `reason`.
        flow: what to run: a flow, its name, or a list.
        every: time between checks.
        name: `{flow}-health` unless given.
        **options: `allow_concurrent`, `max_errors` and `enabled`, as `pc.event` takes them.

    Raises:
        DefinitionError: the declaration cannot work.
    """
    length = seconds(timeout)
    parameters = {"target": target, "failures": failures, "timeout": length, "details": details}
    return declared(
        HealthCheck, "health", parameters, flow=flow, every=every, name=name, timeout=length + 5, options=options
    )

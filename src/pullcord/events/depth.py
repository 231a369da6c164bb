"""A queue that grows too long."""

from __future__ import annotations

from typing import Any, Unpack

from pullcord.core.durations import Duration
from pullcord.core.errors import DefinitionError
from pullcord.core.event import Cursor, EventTrigger, Fire, PollError, Skip
from pullcord.events.database import Database
from pullcord.events.declare import Flows, Options, declared


class QueueDepth:
    """Fires once when a queue has grown to a threshold, and again only after it was short in between.

    The depth is what a query counts, or what a subclass's `depth()` says.

    Args:
        threshold: it fires when the queue is this long or longer.
        low: only after the queue was this long or shorter it can fire again; half the threshold unless given.
        address: SQLAlchemy's, without a password, or `env:NAME`.
        query: which gives one number.
        details: put the threshold into the context too.
    """

    def __init__(
        self,
        threshold: int,
        low: int | None = None,
        address: str | None = None,
        query: str | None = None,
        details: bool = False,
    ) -> None:
        low = threshold // 2 if low is None else low
        if not 0 <= low < threshold:
            raise DefinitionError(f"low must be below the threshold {threshold} and not below 0; it is {low}")
        if (address is None) != (query is None):
            raise DefinitionError("address and query go together")
        if address is None and type(self).depth is QueueDepth.depth:
            raise DefinitionError("give address and query, or make a subclass with a method depth()")
        self.threshold, self.low, self.details = threshold, low, details
        self._query = query or ""
        self._database = None if address is None else Database(address)

    def depth(self) -> int:
        """Return how long the queue is now.

        Raises:
            PollError: the database cannot be asked, or gives no number.
        """
        assert self._database is not None
        with self._database.select(self._query, {}, 2) as result:
            rows = result.fetchmany(2)
        value: Any = rows[0][0] if len(rows) == 1 and len(rows[0]) == 1 else None
        if isinstance(value, bool) or not isinstance(value, int):
            raise PollError("the query must give one whole number, as SELECT count(*) does", permanent=True)
        return value

    def poll(self, state: Cursor) -> Fire | Skip:
        """Compare the depth with the threshold.

        Raises:
            PollError: the depth is not known.
        """
        known: dict[str, Any] = state.value or {"high": False, "rises": 0}
        depth = self.depth()
        if depth >= self.threshold and not known["high"]:
            rises = known["rises"] + 1
            state.value = {"high": True, "rises": rises}
            return Fire({"depth": depth} | ({"threshold": self.threshold} if self.details else {}), key=str(rises))
        if depth <= self.low and known["high"]:
            state.value = known | {"high": False}
        if known["high"] and depth > self.low:
            return Skip(f"has fired already; waits for {self.low} or fewer")
        return Skip(f"below {self.threshold}")

    def teardown(self) -> None:
        """Close the connection."""
        if self._database is not None:
            self._database.close()


def depth(
    address: str,
    query: str,
    threshold: int,
    *,
    low: int | None = None,
    details: bool = False,
    flow: Flows = (),
    every: Duration = "10s",
    name: str | None = None,
    **options: Unpack[Options],
) -> EventTrigger:
    """Run a flow once when a queue in a database has grown to a threshold.

    It can fire again after the queue was short in between, so a queue that goes up and down around the threshold makes
    one run. For another kind of queue, write a subclass of `QueueDepth` with a method `depth()` under `@pc.event`.

    Args:
        address: any address that SQLAlchemy knows, without a password in it, or `env:NAME` for the variable of the
            server's environment that holds it.
        query: which gives one number, like `SELECT count(*) FROM jobs WHERE done = 0`.
        threshold: it fires when the queue is this long or longer.
        low: only after the queue was this long or shorter it can fire again; half the threshold unless given.
        details: the context is `{"depth": …}`, and with details also `threshold`.
        flow: what to run: a flow, its name, or a list.
        every: time between queries.
        name: `{flow}-depth` unless given.
        **options: `allow_concurrent`, `max_errors` and `enabled`, as `pc.event` takes them.

    Raises:
        DefinitionError: the declaration cannot work.
    """
    parameters = {
        "address": address, "query": query, "threshold": threshold, "low": low, "details": details,
    }  # fmt: skip
    return declared(QueueDepth, "depth", parameters, flow=flow, every=every, name=name, options=options)

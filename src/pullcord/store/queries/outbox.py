"""The outbox: what is to be sent, what became of it, and what is told in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pullcord.clock import rfc3339
from pullcord.core.headlines import title
from pullcord.core.states import QuestionState
from pullcord.store.commands.happenings import DELIVERED, GATHERING, GIVEN_UP, NAMED, PENDING
from pullcord.store.connection import Connection
from pullcord.store.queries.page import Listed, Page, fetch_page
from pullcord.store.queries.runs import equal_conditions, parsed, run_summaries
from pullcord.store.statement import dump

STATES: Final = (PENDING, DELIVERED, GIVEN_UP)
"""The states that people see; what still gathers is pending too."""

_COLUMNS = """t.id, t.uuid, t.channel, t.event, t.flow, t.state, t.count, t.created_at, t.last_at, t.due_at,
    t.trying_since, t.tries, t.last_error, t.ended_at"""
_FIRST_RUN = """(SELECT r.uuid FROM happenings h JOIN runs r ON r.id = h.run_id
    WHERE h.notification_id = t.id ORDER BY h.id LIMIT 1)"""
_QUESTIONS = "SELECT EACH[uuid, state] FROM questions WHERE uuid IN VALUES[uuids]"
_UNSENT = f"state IN ('{GATHERING}', '{PENDING}')"


@dataclass(frozen=True, slots=True)
class Stored:
    """A notification as the store has it.

    Attributes:
        id: its number.
        uuid: its id.
        channel: who is told.
        event: of what.
        flow: about which flow; empty in a digest.
        state: `gathering`, `pending`, `delivered` or `failed`.
        count: how many happenings it tells of.
        created_at: when the first of them happened, microseconds.
        last_at: when the last of them happened.
        due_at: when it is to be sent next.
        trying_since: since when it is tried, or None.
        tries: how often it was sent in vain, and the last time with success.
        last_error: why it was not taken last.
        ended_at: when it was delivered or given up.
    """

    id: int
    uuid: str
    channel: str
    event: str
    flow: str
    state: str
    count: int
    created_at: int
    last_at: int
    due_at: int
    trying_since: int | None
    tries: int
    last_error: str | None
    ended_at: int | None


@dataclass(frozen=True, slots=True)
class Told:
    """One happening that a notification tells of.

    Attributes:
        event: what happened.
        flow: about which flow.
        at: when, microseconds.
        count: for how many equal ones it stands.
        detail: more about it.
        run: the run it is about as lists show it, where it is about one that is still known.
        open: of a question, whether it still waits for its answer; None where it is about none that is known by its id.
    """

    event: str
    flow: str
    at: int
    count: int
    detail: dict[str, Any] | None
    run: dict[str, Any] | None
    open: bool | None = None


def waiting_channels(connection: Connection) -> dict[str, dict[str, int]]:
    """Return for each channel with unsent notifications when the first of each state is due, microseconds."""
    found: dict[str, dict[str, int]] = {}
    rows = connection.execute(
        f"SELECT channel, state, min(due_at) FROM notifications WHERE {_UNSENT} GROUP BY channel, state"
    )
    for channel, state, due in rows.fetchall():
        found.setdefault(channel, {})[state] = due
    return found


def next_pending(connection: Connection, channel: str, now: int, tried: list[int]) -> Stored | None:
    """Return the oldest sealed notification of a channel that is due and was not tried just now."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM notifications t WHERE t.channel = :channel AND t.state = 'pending' "
        "AND t.due_at <= :now AND t.id NOT IN VALUES[tried:int] ORDER BY t.id LIMIT 1",
        {"channel": channel, "now": now, "tried": dump(tried)},
    ).fetchone()
    return None if row is None else Stored(*row)


def gathered(connection: Connection, channel: str, now: int) -> list[int]:
    """Return the numbers of a channel's notifications that are due and not sealed, the oldest first."""
    rows = connection.array(
        "SELECT EACH[id] FROM (SELECT id FROM notifications WHERE channel = :channel AND state = 'gathering' "
        "AND due_at <= :now ORDER BY created_at, id) AS due",
        {"channel": channel, "now": now},
    )
    return [row[0] for row in rows]


def sealed_since(connection: Connection, channel: str, since: int) -> list[int]:
    """Return when a channel's messages since a time were sealed, microseconds, the oldest first."""
    rows = connection.array(
        "SELECT EACH[sealed_at] FROM (SELECT sealed_at FROM notifications WHERE channel = :channel "
        "AND sealed_at > :since ORDER BY sealed_at) AS sealed",
        {"channel": channel, "since": since},
    )
    return [row[0] for row in rows]


def notification(connection: Connection, number: int) -> Stored | None:
    """Return a notification by its number."""
    row = connection.execute(f"SELECT {_COLUMNS} FROM notifications t WHERE t.id = :id", {"id": number}).fetchone()
    return None if row is None else Stored(*row)


def kept_message(connection: Connection, number: int) -> str | None:
    """Return the message of a notification as it was sealed, JSON; None while it gathers."""
    row = connection.execute("SELECT message FROM notifications WHERE id = :id", {"id": number}).fetchone()
    return None if row is None else row[0]


def told_in(connection: Connection, number: int) -> list[Told]:
    """Return the first happenings that a notification tells of, as many as a message names."""
    rows = connection.execute(
        "SELECT h.event, h.flow, h.at, h.count, h.detail, r.uuid FROM happenings h LEFT JOIN runs r ON r.id = h.run_id "
        "WHERE h.notification_id = :id ORDER BY h.id LIMIT :most",
        {"id": number, "most": NAMED},
    ).fetchall()
    runs = run_summaries(connection, [row[5] for row in rows if row[5] is not None])
    details = [parsed(row[4]) for row in rows]
    waits = _waits(connection, [each["question_id"] for each in details if each and "question_id" in each])
    return [
        Told(row[0], row[1], row[2], row[3], detail, runs.get(row[5]), waits.get((detail or {}).get("question_id")))
        for row, detail in zip(rows, details, strict=True)
    ]


def _waits(connection: Connection, questions: list[str]) -> dict[str | None, bool]:
    """Return for questions, by id, whether they wait for an answer; one that is gone does not."""
    found = connection.array(_QUESTIONS, {"uuids": dump(questions)}) if questions else []
    states = {row[0]: row[1] for row in found}
    return {each: states.get(each) == QuestionState.OPEN for each in questions}


def digested(connection: Connection, number: int) -> list[tuple[str, str, int]]:
    """Return event, flow and count of each kind of happenings that a digest tells of, the most frequent first."""
    rows = connection.execute(
        "SELECT event, flow, sum(count) AS times FROM happenings WHERE notification_id = :id "
        "GROUP BY event, flow ORDER BY times DESC, event, flow LIMIT :most",
        {"id": number, "most": NAMED},
    ).fetchall()
    return [(row[0], row[1], int(row[2])) for row in rows]


# --- for people --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NotificationFilter:
    """Which notifications a list shows; None shows all.

    Attributes:
        state: `pending`, `delivered` or `failed`.
        channel: a channel.
        flow: a flow.
        event: an event.
    """

    state: str | None = None
    channel: str | None = None
    flow: str | None = None
    event: str | None = None


def list_notifications(connection: Connection, which: NotificationFilter, page: Page) -> dict[str, Any]:
    """Return a page of notifications, newest first."""
    pending = which.state == PENDING
    equal = {"channel": which.channel, "flow": which.flow, "state": None if pending else which.state}
    filters, parameters = equal_conditions(equal)
    others: list[str] = []
    if pending:
        others.append(f"t.{_UNSENT}")
    if which.event is not None:
        others.append("t.event = :event")
        parameters["event"] = which.event
    select = f"SELECT {_COLUMNS}, {_FIRST_RUN} FROM notifications t"
    return fetch_page(
        connection, Listed({"t": "notifications"}, select, filters, others, parameters, None, None), page, _item
    )


def get_notification(connection: Connection, uuid: str) -> tuple[Stored, dict[str, Any]] | None:
    """Return a notification and its item by its id."""
    row = connection.execute(
        f"SELECT {_COLUMNS}, {_FIRST_RUN} FROM notifications t WHERE t.uuid = :uuid", {"uuid": uuid}
    ).fetchone()
    return None if row is None else (Stored(*row[:-1]), _item(row))


def outbox_figures(connection: Connection) -> dict[str, Any]:
    """Return `{"pending", "failed", "oldest"}`: how many there are, and when the oldest pending one was made."""
    pending, oldest = connection.execute(
        f"SELECT count(*), min(created_at) FROM notifications WHERE {_UNSENT}"
    ).fetchone()
    failed = connection.execute("SELECT count(*) FROM notifications WHERE state = 'failed'").fetchone()[0]
    return {"pending": pending, "failed": failed, "oldest": oldest}


def stuck_channels(connection: Connection) -> list[tuple[str, int, str]]:
    """Return channels whose messages were not taken and are tried again: name, how many, and the last error."""
    rows = connection.execute(
        "SELECT channel, count(*), max(last_error) FROM notifications "
        "WHERE state = 'pending' AND last_error IS NOT NULL GROUP BY channel ORDER BY channel"
    ).fetchall()
    return [(row[0], row[1], row[2]) for row in rows]


def refusing_channels(connection: Connection) -> list[tuple[str, str]]:
    """Return channels that took nothing since a message to them was given up: name, and why it was."""
    rows = connection.execute(
        "SELECT n.channel, max(n.last_error) FROM (SELECT channel, max(ended_at) AS at FROM notifications "
        "WHERE state = 'failed' GROUP BY channel) f JOIN notifications n ON n.channel = f.channel "
        "AND n.state = 'failed' AND n.ended_at = f.at WHERE NOT EXISTS (SELECT 1 FROM notifications d "
        "WHERE d.channel = f.channel AND d.state = 'delivered' AND d.ended_at > f.at) GROUP BY n.channel "
        "ORDER BY n.channel"
    ).fetchall()
    return [(row[0], row[1] or "") for row in rows]


def _item(row: Any) -> dict[str, Any]:
    stored = Stored(*row[:-1])
    unsent = stored.state in (GATHERING, PENDING)
    return {
        "id": stored.uuid,
        "event": stored.event,
        "channel": stored.channel,
        "flow": stored.flow or None,
        "run_id": row[-1] if stored.count == 1 else None,
        "title": title(stored.event, stored.flow, stored.count),
        "state": PENDING if unsent else stored.state,
        "gathering": stored.state == GATHERING,
        "count": stored.count,
        "tries": stored.tries,
        "next_try_at": rfc3339(stored.due_at) if unsent else None,
        "last_error": stored.last_error,
        "created_at": rfc3339(stored.created_at),
        "delivered_at": rfc3339(stored.ended_at) if stored.state == DELIVERED else None,
    }

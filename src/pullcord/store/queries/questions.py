"""Questions: the list and the item, in one vocabulary; and how many runs are parked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pullcord.clock import rfc3339
from pullcord.store.connection import Connection
from pullcord.store.queries.page import Listed, Page, fetch_page
from pullcord.store.queries.runs import equal_conditions, parsed

_COLUMNS = """t.id, t.uuid, r.uuid, t.flow, t.state, t.text, t.details, t.schema, t.recipients, t.asked_at,
    t.expires_at, t.fallback, t.answer, t.answered_by, t.answered_at, t.reason"""
_FROM = "FROM questions t LEFT JOIN runs r ON r.id = t.run_id"
_PARKED = "SELECT count(*) FROM runs WHERE state = 'waiting' AND owner IS NULL"


@dataclass(frozen=True, slots=True)
class QuestionFilter:
    """Which questions a list shows; None shows all.

    Attributes:
        flow: of one flow.
        state: a question state.
        to: those that name this recipient.
    """

    flow: str | None = None
    state: str | None = None
    to: str | None = None


def list_questions(connection: Connection, which: QuestionFilter, page: Page) -> dict[str, Any]:
    """Return a page of questions, newest first."""
    filters, parameters = equal_conditions({"flow": which.flow, "state": which.state})
    others: list[str] = []
    if which.to is not None:
        # Within a JSON list of texts, a text with its quotes stands only where it is an item.
        parameters["recipient"] = json.dumps(which.to)
        others.append("replace(t.recipients, :recipient, '') <> t.recipients")
    listed = Listed({"t": "questions"}, f"SELECT {_COLUMNS} {_FROM}", filters, others, parameters, None, None)
    return fetch_page(connection, listed, page, _item)


def get_question(connection: Connection, uuid: str) -> dict[str, Any] | None:
    """Return a question, or None."""
    row = connection.execute(f"SELECT {_COLUMNS} {_FROM} WHERE t.uuid = :uuid", {"uuid": uuid}).fetchone()
    return None if row is None else _item(row)


def count_parked(connection: Connection) -> int:
    """Return how many runs wait without a worker."""
    return int(connection.execute(_PARKED).fetchone()[0])


def _item(row: Any) -> dict[str, Any]:
    return {
        "id": row[1],
        "run_id": row[2],
        "flow": row[3],
        "state": row[4],
        "question": row[5],
        "details": parsed(row[6]),
        "schema": parsed(row[7]),
        "to": parsed(row[8]),
        "asked_at": rfc3339(row[9]),
        "expires_at": rfc3339(row[10]),
        "on_timeout": None if row[10] is None else "fail" if row[11] is None else {"default": parsed(row[11])},
        "answer": parsed(row[12]),
        "answered_by": row[13],
        "answered_at": rfc3339(row[14]),
        "reason": row[15],
    }

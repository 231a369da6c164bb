"""Questions that runs ask people: `client.questions`, sync and async."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from pullcord.client import calls
from pullcord.client.aconnection import AsyncConnection
from pullcord.client.calls import Call, Page
from pullcord.client.connection import Connection
from pullcord.client.paging import pages, pages_async


def listing(flow: str | None, state: str | None, to: str | None, limit: int, cursor: str | None) -> Call[Page]:
    """`GET /v1/questions`."""
    return calls.get("/v1/questions", calls.page_of, flow=flow, state=state, to=to, limit=limit, cursor=cursor)


def getting(question_id: str) -> Call[dict[str, Any]]:
    """`GET /v1/questions/{id}`."""
    return calls.get(f"/v1/questions/{calls.segment(question_id)}", calls.item_of)


def answering(question_id: str, answer: Any, reason: str | None) -> Call[dict[str, Any]]:
    """`POST /v1/questions/{id}/answer`; the same answer again is no error, so it can be sent again."""
    body = calls.encode({"answer": answer, "reason": reason})
    path = f"/v1/questions/{calls.segment(question_id)}/answer"
    return Call("POST", path, calls.item_of, body=body, repeatable=True)


class Questions:
    """Questions that runs ask people: `client.questions`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(
        self,
        *,
        flow: str | None = None,
        state: str | None = None,
        to: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Return a page of questions, newest first.

        Args:
            flow: those that runs of this flow ask.
            state: `open`, `answered`, `expired` or `cancelled`.
            to: those that name this person, group or role.
            limit: how many.
            cursor: what the page before gave as `next`.
        """
        return self._connection.send(listing(flow, state, to, limit, cursor))

    def iter(
        self, flow: str | None = None, state: str | None = None, to: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield all questions that `list` would show, page after page."""
        return pages(self.list, {"flow": flow, "state": state, "to": to})

    def get(self, question_id: str) -> dict[str, Any]:
        """Return a question.

        Raises:
            NotFoundError: there is no such question.
        """
        return self._connection.send(getting(question_id))

    def answer(self, question_id: str, answer: Any, *, reason: str | None = None) -> dict[str, Any]:
        """Answer a question; return it. The same answer of the same caller again is no error.

        Args:
            question_id: its id.
            answer: what JSON can say; it has to fit the question's `schema`.
            reason: why, kept with the answer.

        Raises:
            NotFoundError: there is no such question.
            InvalidAnswerError: the answer does not fit; `fields["errors"]` names each field.
            AlreadyAnsweredError: it has another answer.
            QuestionExpiredError: it is too late.
            QuestionCancelledError: the run has ended, or is being cancelled.
        """
        return self._connection.send(answering(question_id, answer, reason))


class AsyncQuestions:
    """Questions that runs ask people: `client.questions`."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def list(
        self,
        *,
        flow: str | None = None,
        state: str | None = None,
        to: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Return a page of questions, newest first.

        Args:
            flow: those that runs of this flow ask.
            state: `open`, `answered`, `expired` or `cancelled`.
            to: those that name this person, group or role.
            limit: how many.
            cursor: what the page before gave as `next`.
        """
        return await self._connection.send(listing(flow, state, to, limit, cursor))

    def iter(
        self, flow: str | None = None, state: str | None = None, to: str | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield all questions that `list` would show, page after page."""
        return pages_async(self.list, {"flow": flow, "state": state, "to": to})

    async def get(self, question_id: str) -> dict[str, Any]:
        """Return a question.

        Raises:
            NotFoundError: there is no such question.
        """
        return await self._connection.send(getting(question_id))

    async def answer(self, question_id: str, answer: Any, *, reason: str | None = None) -> dict[str, Any]:
        """Answer a question; return it. The same answer of the same caller again is no error.

        Args:
            question_id: its id.
            answer: what JSON can say; it has to fit the question's `schema`.
            reason: why, kept with the answer.

        Raises:
            NotFoundError: there is no such question.
            InvalidAnswerError: the answer does not fit; `fields["errors"]` names each field.
            AlreadyAnsweredError: it has another answer.
            QuestionExpiredError: it is too late.
            QuestionCancelledError: the run has ended, or is being cancelled.
        """
        return await self._connection.send(answering(question_id, answer, reason))

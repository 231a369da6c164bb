"""The routes of questions that runs ask people: look at them, and answer."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI
from pydantic import AfterValidator

from pullcord.api.dependencies import Caller, Cursor, Limit, Text, body_of, json_response
from pullcord.api.models import AnswerRequest
from pullcord.app import App
from pullcord.core.errors import NotFoundError
from pullcord.core.states import QuestionState
from pullcord.store.queries.page import Page
from pullcord.store.queries.questions import QuestionFilter, list_questions


def _question_id(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise NotFoundError(
            f"no question has the id {text[:60]!r}; `pullcord questions list` shows the open ones"
        ) from None


QuestionId = Annotated[str, AfterValidator(_question_id)]
Answer = Annotated[AnswerRequest, body_of(AnswerRequest)]


def add_questions(rest: FastAPI, app: App) -> None:
    """Add the routes of questions."""

    @rest.get("/v1/questions", tags=["questions"], summary="List questions, newest first")
    async def questions(
        flow: Text = None, state: QuestionState | None = None, to: Text = None, limit: Limit = 50, cursor: Cursor = None
    ) -> Any:
        found = await app.store.read(list_questions, QuestionFilter(flow, state, to), Page(limit, cursor))
        return json_response(found)

    @rest.get("/v1/questions/{question_id}", tags=["questions"], summary="Look at a question")
    async def question(question_id: QuestionId) -> Any:
        return json_response(await app.answers.get(question_id))

    @rest.post("/v1/questions/{question_id}/answer", tags=["questions"], summary="Answer a question")
    async def answer(question_id: QuestionId, invoker: Caller, body: Answer) -> Any:
        return json_response(await app.answers.answer(question_id, body.answer, invoker, body.reason))

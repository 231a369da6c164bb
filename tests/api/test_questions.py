"""Questions over HTTP: looking at them, answering, and who was first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pullcord.client import AsyncClient, Client
from pullcord.core.errors import AlreadyAnsweredError, InvalidAnswerError, NotFoundError
from tests.api.server import Api, Json, Server, events_of, locations, problem_of

PEOPLE = Path(__file__).with_name("people")
QUESTION = {
    "id", "run_id", "flow", "state", "question", "details", "schema", "to", "asked_at", "expires_at", "on_timeout",
    "answer", "answered_by", "answered_at", "reason",
}  # fmt: skip


@pytest.fixture(scope="module")
def desk_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("people") / "data", PEOPLE) as running:
        yield running


@pytest.fixture
def desk(desk_server: Server) -> Iterator[Api]:
    with desk_server.client() as client:
        yield client


def ask(api: Api, flow: str, inputs: Any = None) -> Json:
    """Start a run, and follow it until it asks; return the question."""
    run = api.submit(flow, inputs)["run_id"]
    while True:
        waits = api.get(f"/v1/runs/{run}")["waiting_for"]
        if waits is not None and waits["kind"] == "answer":
            question: Json = api.get(f"/v1/questions/{waits['question_id']}")
            assert question["run_id"] == run
            return question


def answer(api: Api, question: Json, value: Any, **more: Any) -> Any:
    """Answer; return the response."""
    return api.http.post(f"/v1/questions/{question['id']}/answer", json={"answer": value, **more})


def test_a_question_says_everything_that_is_needed_to_answer_it(desk: Api) -> None:
    question = ask(desk, "order", {"to": "night shift"})
    assert set(question) == QUESTION
    assert (question["flow"], question["state"], question["to"]) == ("order", "open", ["night shift"])
    assert (question["question"], question["details"]) == ("How many?\n\nAt least one.", {"shelf": 7})
    assert question["schema"]["properties"]["pieces"] == {"minimum": 1, "title": "Pieces", "type": "integer"}
    assert question["expires_at"] is question["on_timeout"] is question["answer"] is None
    shown = desk.get(f"/v1/runs/{question['run_id']}")["waiting_for"]
    assert shown == {"kind": "answer", "text": "How many?", "question_id": question["id"]}
    with_time = ask(desk, "decide")
    asked_at, expires_at = (datetime.fromisoformat(with_time[name]) for name in ("asked_at", "expires_at"))
    assert expires_at - asked_at == timedelta(days=1)
    assert with_time["on_timeout"] == {"default": "no"}


def test_an_answer_is_kept_with_who_gave_it_and_the_run_goes_on(desk: Api) -> None:
    question = ask(desk, "order")
    response = answer(desk, question, {"pieces": 3}, reason="counted twice")
    assert response.status_code == 200
    answered = response.json()
    assert (answered["state"], answered["answer"], answered["reason"]) == ("answered", {"pieces": 3}, "counted twice")
    assert answered["answered_by"] == "owner" and answered["answered_at"] >= question["asked_at"]
    run = desk.ended(question["run_id"])
    assert run["result"] == {"type": "Order", "pieces": 3}
    assert desk.get(f"/v1/questions/{question['id']}") == answered
    (step,) = run["steps"]
    assert (step["name"], step["state"], step["result"]) == ("ask", "succeeded", {"pieces": 3})


def test_whoever_follows_a_run_hears_of_its_question_and_of_the_answer(desk: Api) -> None:
    question = ask(desk, "decide")
    answer(desk, question, "yes")
    events = events_of(desk, question["run_id"])
    assert events[-1].kind == "end"
    assert any(event.kind == "step" and event.data["name"] == "ask" for event in events)


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"pieces": 0}, ["answer", "pieces"]),
        ({"pieces": "three"}, ["answer", "pieces"]),
        ({}, ["answer"]),
        ("three", ["answer"]),
        (None, ["answer"]),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_and_changes_nothing(value: Any, where: list[Any], desk: Api) -> None:
    question = ask(desk, "order")
    problem = problem_of(answer(desk, question, value), 422, "invalid_answer")
    assert locations(problem) == [where]
    assert "three" not in str(problem), "what was sent is not repeated"
    assert desk.get(f"/v1/questions/{question['id']}") == question


@pytest.mark.parametrize("body", [{}, {"answer": "yes", "colour": "red"}, {"answer": "yes", "reason": 5}, []])
def test_a_body_that_is_no_answer_is_refused(body: Any, desk: Api) -> None:
    question = ask(desk, "decide")
    response = desk.http.post(f"/v1/questions/{question['id']}/answer", json=body)
    problem_of(response, 422, "invalid_request")
    assert desk.get(f"/v1/questions/{question['id']}")["state"] == "open"


def test_one_answer_counts(desk: Api) -> None:
    question = ask(desk, "decide")
    first = answer(desk, question, "yes", reason="first")
    assert answer(desk, question, "yes", reason="again").json() == first.json(), "the same again is no second answer"
    problem = problem_of(answer(desk, question, "no"), 409, "already_answered")
    assert (problem["answered_by"], problem["answered_at"]) == ("owner", first.json()["answered_at"])
    assert desk.ended(question["run_id"])["result"] == "yes"


def test_after_its_time_and_after_its_run_a_question_takes_no_answer(desk: Api) -> None:
    late = desk.run("hurry")
    assert late["error"]["type"] == "pullcord.core.errors.AskTimeoutError" or late["error"]["type"] == "ask_timeout"
    (expired,) = [q for q in desk.pages("/v1/questions", flow="hurry") if q["run_id"] == late["id"]]
    problem_of(answer(desk, expired, True), 409, "question_expired")
    question = ask(desk, "decide")
    desk.post(f"/v1/runs/{question['run_id']}/cancel")
    desk.ended(question["run_id"])
    problem_of(answer(desk, question, "yes"), 409, "question_cancelled")
    assert desk.get(f"/v1/questions/{question['id']}")["state"] == "cancelled"


def test_questions_are_listed_newest_first_by_flow_state_and_recipient(desk: Api) -> None:
    asked = [ask(desk, "order", {"to": "stock keeper"}) for _ in range(3)]
    mine = desk.pages("/v1/questions", limit=2, to="stock keeper")
    assert [question["id"] for question in mine] == [question["id"] for question in reversed(asked)]
    answer(desk, asked[1], {"pieces": 1})
    left = desk.pages("/v1/questions", limit=1, flow="order", state="open", to="stock keeper")
    assert [question["id"] for question in left] == [asked[2]["id"], asked[0]["id"]]
    assert desk.pages("/v1/questions", to="stock") == []
    problem_of(desk.http.get("/v1/questions", params={"state": "closed"}), 422, "invalid_request")


@pytest.mark.parametrize("name", ["no-id", "01a1fdd1-e01c-7061-86ac-68c0eb5c4508"])
def test_there_is_no_such_question(name: str, desk: Api) -> None:
    problem_of(desk.http.get(f"/v1/questions/{name}"), 404, "not_found")
    problem_of(desk.http.post(f"/v1/questions/{name}/answer", json={"answer": 1}), 404, "not_found")


def test_only_whoever_has_the_token_may_look_and_answer(desk: Api, desk_server: Server) -> None:
    question = ask(desk, "decide")
    with desk_server.client("nobody") as stranger:
        problem_of(stranger.http.get("/v1/questions"), 401, "unauthenticated")
        problem_of(answer(stranger, question, "yes"), 401, "unauthenticated")


def test_the_client_answers(desk: Api, desk_server: Server) -> None:
    question = ask(desk, "order", {"to": "client"})
    with Client(desk_server.url, desk_server.token) as client:
        assert client.questions.get(question["id"]) == question
        assert list(client.questions.iter(to="client")) == client.questions.list(to="client") == [question]
        with pytest.raises(InvalidAnswerError) as wrong:
            client.questions.answer(question["id"], {"pieces": 0})
        assert wrong.value.fields["errors"][0]["loc"] == ["answer", "pieces"]
        assert client.questions.answer(question["id"], {"pieces": 2}, reason="so be it")["reason"] == "so be it"
        with pytest.raises(AlreadyAnsweredError) as late:
            client.questions.answer(question["id"], {"pieces": 3})
        assert late.value.fields["answered_by"] == "owner"
        with pytest.raises(NotFoundError):
            client.questions.get("no-id")


async def test_the_async_client_answers(desk: Api, desk_server: Server) -> None:
    question = ask(desk, "order", {"to": "async client"})
    async with AsyncClient(desk_server.url, desk_server.token) as client:
        assert await client.questions.get(question["id"]) == question
        assert [item async for item in client.questions.iter(to="async client")] == [question]
        assert await client.questions.list(to="async client", state="open") == [question]
        assert (await client.questions.answer(question["id"], {"pieces": 2}))["state"] == "answered"
        with pytest.raises(AlreadyAnsweredError):
            await client.questions.answer(question["id"], {"pieces": 3})
        assert (await client.runs.wait(question["run_id"]))["result"]["pieces"] == 2

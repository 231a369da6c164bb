"""The OpenAPI document: it is valid, it is complete, and fuzzing along it finds nothing it does not say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from pullcord.api.auth import Authenticator
from pullcord.api.rest import make_rest
from pullcord.app import App
from pullcord.core.states import Outcome, RunState
from tests.api.server import RECEIPT, Api, Hold, Json, Server, checked

DOCUMENT: Json = make_rest(App(), cast(Authenticator, None)).openapi()
"""As an app without flows shows it: the document does not depend on what is served."""

schema = schemathesis.openapi.from_dict(DOCUMENT)
# It counts parameters as unexpected that it then leaves out of the address; `test_lists` sends real ones.
schema.config.generation.allow_extra_parameters = False


@pytest.fixture
def known(api: Api) -> dict[str, str]:
    """Names that exist on the server, by path parameter."""
    run = api.run("steps", {"first": 1})
    names = {"run_id": run["id"], "request_id": run["request_id"], "name": "echo", "trigger": "leap-day"}
    api.run("asks")
    question = api.get("/v1/questions")["items"][0]["id"]
    names |= {"channel": "ops", "limit": "one-by-one", "question_id": question}
    return names | {"notification_id": run["id"]}


@schema.parametrize()
@settings(
    max_examples=30,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_as_the_document_says(
    case: schemathesis.Case[Any], server: Server, known: dict[str, str]
) -> None:
    """All checks of schemathesis but one: a schema cannot say everything that makes a request acceptable.

    Which flows there are and what they take is decided on by the server, so that valid data may be refused; what the
    refusal looks like is checked. Half of the calls are made to find something.
    """
    if sum(map(ord, str(case.path_parameters))) % 2:
        case.path_parameters.update({name: known[name] for name in case.path_parameters})
    if case.meta is not None and case.meta.generation.mode.is_positive and isinstance(case.body, dict):
        case.body.update({"flow": "echo"} if "flow" in case.body and len(str(case.body)) % 2 else {})
    case.call_and_validate(
        base_url=server.url,
        headers={"Authorization": f"Bearer {server.token}"},
        excluded_checks=[positive_data_acceptance],
        timeout=30,
    )


def test_the_document_is_valid(api: Api) -> None:
    schemathesis.openapi.from_dict(api.get("/openapi.json")).validate()


def test_the_document_does_not_depend_on_the_server(api: Api) -> None:
    assert api.get("/openapi.json") == DOCUMENT


def references(node: Any) -> Iterator[str]:
    """Yield all references within a document."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_reference_leads_somewhere_and_nothing_is_left_over() -> None:
    named = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert set(references(DOCUMENT)) == named


def test_the_document_names_all_calls_of_the_contract() -> None:
    calls = {(method.upper(), path) for path, operations in DOCUMENT["paths"].items() for method in operations}
    assert calls >= {
        ("POST", "/v1/runs"), ("POST", "/v1/runs/batch"), ("GET", "/v1/runs"), ("GET", "/v1/runs/{run_id}"),
        ("GET", "/v1/runs/{run_id}/events"), ("GET", "/v1/runs/{run_id}/logs"), ("POST", "/v1/runs/{run_id}/cancel"),
        ("POST", "/v1/runs/{run_id}/rerun"), ("POST", "/v1/runs/{run_id}/resume"), ("POST", "/v1/runs/retry-failed"),
        ("GET", "/v1/requests"), ("GET", "/v1/requests/{request_id}"),
        ("GET", "/v1/triggers"), ("GET", "/v1/triggers/{trigger}"), ("PATCH", "/v1/triggers/{trigger}"),
        ("GET", "/v1/triggers/{trigger}/history"), ("POST", "/v1/triggers/{trigger}/preview"),
        ("POST", "/v1/triggers/{trigger}/replay"), ("GET", "/v1/channels"), ("GET", "/v1/notifications"),
        ("GET", "/v1/notifications/{notification_id}"), ("POST", "/v1/notifications/{notification_id}/retry"),
        ("GET", "/v1/flows/{name}/notifications"), ("PUT", "/v1/flows/{name}/notifications"),
        ("POST", "/v1/channels/{channel}/test"),
        ("GET", "/v1/flows"), ("GET", "/v1/code/diff"), ("POST", "/v1/hooks/{name}"),
        ("POST", "/v1/flows/{name}/pause"), ("POST", "/v1/flows/{name}/resume"),
        ("GET", "/v1/flows/{name}/stats"), ("GET", "/v1/stats"),
        ("GET", "/v1/flows/{name}"), ("POST", "/v1/flows/{name}/validate"), ("GET", "/healthz"),
        ("GET", "/v1/runs/{run_id}/artifacts"), ("GET", "/v1/runs/{run_id}/artifacts/{name}"),
        ("GET", "/v1/retention"), ("GET", "/v1/retention/preview"), ("POST", "/v1/retention/prune"),
        ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/openapi.json"),
    }  # fmt: skip


def test_every_operation_has_a_name_a_summary_and_a_tag() -> None:
    operations = [operation for path in DOCUMENT["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        assert operation["summary"] and operation["tags"]
        assert all(response["description"] for response in operation["responses"].values())


def test_only_probes_come_without_a_credential() -> None:
    assert DOCUMENT["security"] == [{"bearer": []}]
    for path, operations in DOCUMENT["paths"].items():
        for operation in operations.values():
            assert ("401" in operation["responses"]) is path.startswith("/v1/")
            # Who delivers to a webhook signs instead.
            open_to_all = not path.startswith("/v1/") or path.startswith("/v1/hooks/")
            assert (operation.get("security") == []) is open_to_all


def test_the_fields_of_a_request_are_those_of_the_contract() -> None:
    assert set(DOCUMENT["components"]["schemas"]["RunRequest"]["properties"]) == {
        "flow", "inputs", "request_id", "idempotency_key", "reason", "not_before", "priority", "on_behalf_of", "test",
        "dry_run", "expires_in",
    }  # fmt: skip
    ask = DOCUMENT["paths"]["/v1/runs"]["post"]
    assert {(item["in"], item["name"]) for item in ask["parameters"]} == {
        ("query", "wait"), ("query", "until"), ("header", "Idempotency-Key"),
    }  # fmt: skip
    assert set(ask["responses"]) == {
        "200", "202", "400", "401", "403", "404", "409", "413", "415", "422", "429", "503",
    }  # fmt: skip


def test_states_and_outcomes_are_listed() -> None:
    receipt = DOCUMENT["components"]["schemas"]["Receipt"]["properties"]
    assert set(receipt["outcome"]["enum"]) == {str(outcome) for outcome in Outcome}
    run = DOCUMENT["components"]["schemas"]["Run"]["properties"]
    assert set(run["state"]["enum"]) == {str(state) for state in RunState}


def test_answers_have_the_fields_of_their_schemas_and_no_others(api: Api, hold: Hold) -> None:
    """What schemathesis cannot see, for it only asks: that no answer has a field that the document does not name."""
    shapes = DOCUMENT["components"]["schemas"]
    run = api.run("steps", {"first": 1})
    assert set(shapes["Run"]["properties"]) == set(run)
    assert set(shapes["Step"]["properties"]) == set(run["steps"][0])
    assert set(shapes["RunSummary"]["properties"]) == set(api.get("/v1/runs", limit=1)["items"][0])
    assert set(shapes["LedgerRow"]["properties"]) == set(api.get("/v1/requests", limit=1)["items"][0])
    assert set(shapes["Flow"]["properties"]) == set(api.get("/v1/flows/steps"))
    listed = api.get("/v1/triggers")
    assert set(shapes["TriggerPage"]["properties"]) == set(listed)
    assert set(shapes["Trigger"]["properties"]) == set(listed["items"][0])
    assert set(shapes["FlowPage"]["properties"]) == set(api.get("/v1/flows"))
    assert set(shapes["Readiness"]["properties"]) == set(api.get("/readyz"))
    assert set(shapes["Receipt"]["properties"]) == RECEIPT | {"errors", "run"}
    refusal = checked(api.http.post("/v1/runs", json={"flow": "add"}), 422)
    assert set(shapes["Refusal"]["properties"]) == set(refusal)
    failed = api.run("fail")
    assert set(shapes["Failure"]["properties"]) == set(failed["error"])

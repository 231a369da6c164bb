"""What needs no credential: health, readiness, metrics, and the document."""

from __future__ import annotations

import pytest

import pullcord
from tests.api.server import Api, Server, problem_of

PROBES = ["/healthz", "/readyz", "/metrics", "/openapi.json"]


def test_alive_and_ready(server: Server) -> None:
    with server.client("") as stranger:
        assert stranger.get("/healthz") == {"status": "ok"}
        ready = stranger.get("/readyz")
        parts = ready.pop("parts")
        assert ready == {"ready": True, "locations": {"flows": "ready"}, "failures": []}
        assert [part["name"] for part in parts] == ["listening", "store", "location flows", "workers flows"]
        assert all(part["ready"] and part["detail"] for part in parts)


@pytest.mark.parametrize("path", PROBES)
def test_probes_take_get_and_head_only(server: Server, path: str) -> None:
    with server.client("") as stranger:
        got, head = stranger.http.get(path), stranger.http.head(path)
        assert (got.status_code, head.status_code, head.content) == (200, 200, b"")
        assert got.headers["content-type"] == head.headers["content-type"]
        for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            response = stranger.http.request(method, path)
            problem_of(response, 405, "method_not_allowed")
            assert response.headers["allow"] == "GET, HEAD"


def test_the_document_names_its_version(api: Api) -> None:
    document = api.get("/openapi.json")
    assert document["info"] == {"title": "Pullcord", "version": pullcord.__version__}
    assert document["openapi"].startswith("3.1")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1/runs", "GET, POST"),
        ("DELETE", "/v1/runs", "GET, POST"),
        ("OPTIONS", "/v1/runs", "GET, POST"),
        ("HEAD", "/v1/runs", "GET, POST"),
        ("DELETE", "/v1/runs/x", "GET"),
        ("GET", "/v1/runs/x/cancel", "POST"),
        ("PATCH", "/v1/flows", "GET"),
        ("GET", "/v1/flows/add/validate", "POST"),
    ],
)
def test_other_methods(api: Api, method: str, path: str, allow: str) -> None:
    response = api.http.request(method, path)
    assert response.status_code == 405
    assert response.headers["allow"] == allow
    if method != "HEAD":
        problem_of(response, 405, "method_not_allowed")


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v2/runs", "/v1/runs/", "//v1/runs", "/v1/runs/x/y", "/v1/RUNS", "/v1/%2e%2e/runs", "/docs",
     "/favicon.ico", "/%00", "/\N{SNOWMAN}", "/" + "x" * 60_000],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_other_addresses(server: Server, path: str, method: str) -> None:
    with server.client() as api:
        problem_of(api.http.request(method, path), 404, "not_found")

"""What needs no credential: health, readiness, metrics, and the document."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import pullcord
from pullcord.api import readiness
from pullcord.store.commands.probe import Probe
from tests.api.server import Api, Json, Server, problem_of

PROBES = ["/healthz", "/readyz", "/metrics", "/openapi.json"]


def test_alive_and_ready(server: Server, api: Api) -> None:
    api.run("add", {"a": 1})  # a worker that another test had killed has been replaced
    with server.client("") as stranger:
        assert stranger.get("/healthz") == {"status": "ok"}
        ready = stranger.get("/readyz")
        parts = ready.pop("parts")
        assert ready == {"ready": True, "locations": {"flows": "ready"}, "failures": []}
        assert [part["name"] for part in parts] == ["listening", "store", "location flows", "workers flows"]
        assert all(part["ready"] and part["detail"] for part in parts)


def store_part(ready: Json) -> Json:
    """Return what `/readyz` says of the store."""
    part: Json = next(part for part in ready["parts"] if part["name"] == "store")
    return part


def test_a_store_that_hangs_is_told_and_forgiven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two commits nobody knows whether the store can be written; a write of its own finds out."""
    with Server(tmp_path / "data") as server, server.client() as api:
        monkeypatch.setattr(readiness, "FRESH", 0.0)
        assert store_part(api.get("/readyz"))["ready"]
        commits = server.app.store.commits
        assert store_part(api.get("/readyz"))["ready"]
        assert server.app.store.commits > commits
        monkeypatch.setattr(readiness, "PATIENCE", 0.01)
        go = threading.Event()
        with monkeypatch.context() as patched:
            patched.setattr(Probe, "apply", lambda tx, commands: [go.wait() for _ in commands])
            response = api.http.get("/readyz")
            go.set()
        assert response.status_code == 503
        assert "hangs" in store_part(response.json())["detail"]
        monkeypatch.setattr(readiness, "PATIENCE", 30.0)
        assert store_part(api.get("/readyz"))["ready"]


def test_a_writer_that_died_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(tmp_path / "data") as server, server.client() as api:
        server.app.store._writer.stop()
        response = api.http.get("/readyz")
        assert (response.status_code, response.json()["ready"]) == (503, False)
        assert "its writer has died" in store_part(response.json())["detail"]
        assert "pullcord_store_up 0.0" in api.http.get("/metrics").text


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

"""What needs no credential: health, readiness, metrics, and the document."""

from __future__ import annotations

import re

import pytest

import pullcord
from tests.api.server import Api, Hold, Server, problem_of

PROBES = ["/healthz", "/readyz", "/metrics", "/openapi.json"]
SAMPLE = re.compile(r'(\w+)(\{\w+="[^"]*"(?:,\w+="[^"]*")*\})? (\d+)')


def test_alive_and_ready(server: Server) -> None:
    with server.client("") as stranger:
        assert stranger.get("/healthz") == {"status": "ok"}
        assert stranger.get("/readyz") == {"ready": True, "locations": {"flows": "ready"}, "failures": []}


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


def figures(api: Api) -> dict[str, int]:
    """Return the metrics, after checking that they are in Prometheus' text format."""
    response = api.http.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: dict[str, int] = {}
    described: set[str] = set()
    for line in response.text.splitlines():
        if line.startswith("# "):
            assert re.fullmatch(r"# (HELP \w+ \S.*|TYPE \w+ (counter|gauge))", line)
            described.add(line.split()[2])
        else:
            sample = SAMPLE.fullmatch(line)
            assert sample is not None, line
            assert sample[1] in described
            found[f"{sample[1]}{sample[2] or ''}"] = int(sample[3])
    assert response.text.endswith("\n")
    return found


def test_metrics_say_what_goes_on(api: Api, hold: Hold) -> None:
    before = figures(api)
    receipts = [api.submit("one-by-one", {"port": hold.port})["run_id"] for _ in range(3)]
    held = hold.begun()
    during = figures(api)
    assert during['pullcord_runs{state="running"}'] == before['pullcord_runs{state="running"}'] + 1
    assert during['pullcord_runs{state="queued"}'] == before['pullcord_runs{state="queued"}'] + 2
    assert during["pullcord_commits_total"] > before["pullcord_commits_total"]
    assert during['pullcord_workers{location="flows",role="control"}'] == 1
    assert during['pullcord_workers{location="flows",role="shared"}'] >= 1
    held.release()
    for _ in receipts[1:]:
        hold.begun().release()
    for run_id in receipts:
        api.ended(run_id)
    assert figures(api)['pullcord_runs{state="queued"}'] == before['pullcord_runs{state="queued"}']


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

"""Artifacts over HTTP, by the client and on the command line; and how long things are kept."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pullcord.client import AsyncClient, Client
from pullcord.core.artifact import content_path
from pullcord.core.errors import NotFoundError, UsageError
from pullcord.services import pruner
from tests.api.server import Api, Server, problem_of

KEEPING = Path(__file__).with_name("keeping")
NAME = 'ä "b"; c.txt'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("keeping")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # The server prunes when it is told to, and not on its own in the middle of a test.
        patch.setattr(pruner, "FIRST", 86_400.0)
        with Server(folder / "data", KEEPING) as running:
            yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url, server.token) as client:
        yield client


def listed(api: Api, run: dict[str, Any]) -> dict[str, Any]:
    page = api.get(f"/v1/runs/{run['id']}/artifacts")
    assert page["next"] is None
    return {item["name"]: item for item in page["items"]}


def test_what_a_run_has_stored_is_listed_and_downloaded(api: Api) -> None:
    run = api.run("report", {"text": "ü"})
    items = listed(api, run)
    assert list(items) == ["page.html", "table.csv"]
    page, table = items.values()
    assert [table["sha256"], page["sha256"]] == run["result"]
    assert (page["step"], page["description"], page["media_type"]) == ("render", "the page", "text/html")
    assert (table["step"], table["description"], table["media_type"]) == (None, None, "text/csv")
    assert [step["name"] for step in run["steps"]] == ["artifact", "render"]
    answer = api.http.get(f"/v1/runs/{run['id']}/artifacts/page.html")
    assert answer.text == "<h1>ü</h1>"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-length"] == str(page["size"])
    assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
    assert answer.headers["content-disposition"] == 'attachment; filename="page.html"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]


def test_parts_and_what_is_known_already(api: Api) -> None:
    run = api.run("asynchronous")
    assert run["result"] == [10, 3]
    assert listed(api, run)["within"]["step"] == "within"
    path = f"/v1/runs/{run['id']}/artifacts/%C3%A4%20%22b%22%3B%20c.txt"
    whole = api.http.get(path)
    assert whole.headers["content-disposition"] == "attachment; filename*=utf-8''%C3%A4%20%22b%22%3B%20c.txt"
    part = api.http.get(path, headers={"range": "bytes=2-4"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    tag = whole.headers["etag"]
    resumed = api.http.get(path, headers={"range": "bytes=8-", "if-range": tag})
    assert (resumed.status_code, resumed.content) == (206, b"89")
    changed = api.http.get(path, headers={"range": "bytes=8-", "if-range": '"another"'})
    assert (changed.status_code, changed.content) == (200, b"0123456789")
    assert api.http.get(path, headers={"range": "bytes=99-"}).status_code == 416
    known = api.http.get(path, headers={"if-none-match": f'"x", {tag}'})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", tag)


@pytest.mark.parametrize("name", ["another", "%2E%2E%2Fetc%2Fpasswd", "%00", "x" * 300, "page.html%0A"])
def test_what_is_not_there_is_not_found(api: Api, name: str) -> None:
    run = api.run("report")
    problem_of(api.http.get(f"/v1/runs/{run['id']}/artifacts/{name}"), 404, "not_found")


def test_artifacts_of_no_run(api: Api) -> None:
    for path in ("artifacts", "artifacts/a"):
        problem_of(api.http.get(f"/v1/runs/00000000-0000-7000-8000-000000000000/{path}"), 404, "not_found")


def test_nobody_gets_a_file_without_a_token(server: Server, api: Api) -> None:
    run = api.run("report")
    with server.client("") as stranger:
        answer = stranger.http.get(f"/v1/runs/{run['id']}/artifacts/page.html")
    problem_of(answer, 401, "unauthenticated")


def test_a_content_that_is_not_there_is_no_artifact_that_never_was(server: Server, api: Api, tmp_path: Path) -> None:
    run = api.run("report", {"text": "restored without artifacts"})
    path = f"/v1/runs/{run['id']}/artifacts"
    sha256 = listed(api, run)["page.html"]["sha256"]
    (server.data_dir / "artifacts" / content_path(sha256)).unlink()
    found = problem_of(api.http.get(f"{path}/page.html"), 404, "not_found")
    assert "is not in the data folder" in found["detail"] and "back-up without artifacts" in found["detail"]
    assert "not in the data folder" in pullcord(server, tmp_path, "runs", "download", run["id"], "page.html", status=3)
    for name in ("another", "a%00b"):
        found = problem_of(api.http.get(f"{path}/{name}"), 404, "not_found")
        assert "the run has no artifact" in found["detail"]


def test_what_cannot_be_stored_is_the_flows_own_matter(api: Api, tmp_path: Path) -> None:
    assert api.run("refused", {"path": str(tmp_path)})["result"] == "not_a_file"
    run = api.run("refused", {"path": str(tmp_path / "nothing")})
    assert (run["result"], listed(api, run)) == ("missing", {})
    (step,) = run["steps"]
    assert (step["state"], step["error"]["type"]) == ("failed", "artifact_not_stored")


def test_the_client_downloads_whole_files_or_none(client: Client, tmp_path: Path) -> None:
    run = client.run("report", {"data": "z", "times": 3_000_000}, wait=True).run_id or ""
    names = [item["name"] for item in client.runs.artifacts(run)]
    assert names == ["page.html", "table.csv"]
    told: list[tuple[int, int]] = []
    path = client.runs.download(run, "table.csv", tmp_path / "t", lambda done, total: told.append((done, total)))
    assert path.read_text() == "z" * 3_000_000
    assert told[-1] == (3_000_000, 3_000_000)
    with pytest.raises(NotFoundError):
        client.runs.download(run, "nothing", tmp_path / "u")
    with pytest.raises(UsageError, match="is a folder"):
        client.runs.download(run, "table.csv", tmp_path)
    with pytest.raises(UsageError, match="cannot be written"):
        client.runs.download(run, "table.csv", tmp_path / "no" / "where")
    assert [file.name for file in tmp_path.iterdir()] == ["t"], "nothing is left of what did not arrive"


def test_the_asynchronous_client_does_the_same(server: Server, tmp_path: Path) -> None:
    async def work() -> str:
        async with AsyncClient(server.url, server.token) as client:
            run = (await client.run("report", {"text": "a"}, wait=True)).run_id or ""
            assert len(await client.runs.artifacts(run)) == 2
            assert (await client.retention.get())["retention"]["runs"] == 90 * 86_400
            return (await client.runs.download(run, "page.html", tmp_path / "page")).read_text()

    assert asyncio.run(work()) == "<h1>a</h1>"


def test_what_is_no_regular_file_is_never_replaced(server: Server, client: Client, tmp_path: Path) -> None:
    run = client.run("report", wait=True).run_id or ""
    pipe, socket, link, file = (tmp_path / name for name in ("pipe", "socket", "link", "file"))
    os.mkfifo(pipe)
    os.mknod(socket, stat.S_IFSOCK | 0o600)
    file.write_text("kept")
    link.symlink_to(file)

    async def work(target: Path) -> None:
        async with AsyncClient(server.url, server.token) as client:
            await client.runs.download(run, "page.html", target)

    for target in (pipe, socket, link):
        with pytest.raises(UsageError, match="no regular file"):
            client.runs.download(run, "page.html", target)
        with pytest.raises(UsageError, match="no regular file"):
            asyncio.run(work(target))
        said = pullcord(server, tmp_path, "runs", "download", run, "page.html", "-o", str(target), "--force", status=2)
        assert "no regular file" in said
    assert pipe.is_fifo() and socket.is_socket() and link.is_symlink()
    assert file.read_text() == "kept"
    assert len(list(tmp_path.iterdir())) == 4


def pullcord(server: Server, folder: Path, *arguments: str, status: int = 0) -> str:
    """Type a command."""
    done = subprocess.run(
        [sys.executable, "-m", "pullcord", *arguments, "--data-dir", str(server.data_dir)],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stdout or done.stderr


def test_the_commands(server: Server, api: Api, tmp_path: Path) -> None:
    run = api.run("report", {"text": "hi"})["id"]
    assert "page.html  11 B  text/html  render" in pullcord(server, tmp_path, "runs", "artifacts", run)
    said = json.loads(pullcord(server, tmp_path, "runs", "artifacts", run, "--json"))
    assert [item["name"] for item in said["items"]] == ["page.html", "table.csv"]
    assert pullcord(server, tmp_path, "runs", "download", run, "page.html") == "page.html (11 B)\n"
    assert (tmp_path / "page.html").read_text() == "<h1>hi</h1>"
    assert "there already" in pullcord(server, tmp_path, "runs", "download", run, "page.html", status=2)
    assert pullcord(server, tmp_path, "runs", "download", run, "page.html", "-o", "-") == "<h1>hi</h1>"
    said = json.loads(pullcord(server, tmp_path, "runs", "download", run, "page.html", "--force", "--json"))
    assert said == {"file": "page.html", "bytes": 11}
    pullcord(server, tmp_path, "runs", "download", run, "another", status=3)
    assert "no artifacts" in pullcord(server, tmp_path, "runs", "artifacts", api.run("refused", {"path": "/"})["id"])


def test_a_flow_keeps_as_many_runs_as_it_says(server: Server, api: Api, tmp_path: Path) -> None:
    runs = [api.run("forgotten", {"text": text}) for text in ("one", "two", "three")]
    state = api.get("/v1/retention")
    assert state["flows"]["forgotten"]["count"] == 1
    assert ["runs", "forgotten", "2"] in [
        line.split() for line in pullcord(server, tmp_path, "prune", "--dry-run").split("\n")
    ]
    seen = json.loads(pullcord(server, tmp_path, "prune", "--dry-run", "--json"))
    gone = json.loads(pullcord(server, tmp_path, "prune", "--json"))
    assert {"kind": "runs", "of": "forgotten", "count": 2, "bytes": None} in gone["items"]
    assert seen["items"] == [item for item in gone["items"] if item["kind"] != "contents"]
    assert gone["failure"] is None
    assert pullcord(server, tmp_path, "prune") == "nothing has been kept long enough\n"
    for run in runs[:2]:
        problem_of(api.http.get(f"/v1/runs/{run['id']}"), 404, "not_found")
        problem_of(api.http.get(f"/v1/runs/{run['id']}/artifacts"), 404, "not_found")
        row = api.get(f"/v1/requests/{run['request_id']}")
        assert (row["outcome"], row["run_id"], row["run_pruned"], row["state"]) == ("admitted", run["id"], True, None)
        assert not list((server.data_dir / "logs").rglob(f"{run['id']}.jsonl"))
    assert list(listed(api, runs[2])) == ["a.txt"]
    assert list((server.data_dir / "logs").rglob(f"{runs[2]['id']}.jsonl")), "the last run keeps all that it has"
    first = api.submit("forgotten", {"text": "again"}, idempotency_key="again", query={"wait": "30s"}, status=200)
    api.run("forgotten")
    pullcord(server, tmp_path, "prune")
    again = api.submit("forgotten", {"text": "again"}, idempotency_key="again", query={"wait": "30s"}, status=200)
    assert (again["outcome"], again["run_id"], again["state"]) == ("replayed", first["run_id"], None)
    assert again.get("run") is None
    assert "pullcord_pruned_total" in api.http.get("/metrics").text

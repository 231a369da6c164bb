"""Where a client finds its server, and whom it shows the folder's token."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pullcord.client.discovery import find_server, short_path
from pullcord.client.errors import ServerUnreachableError
from pullcord.core.errors import UsageError


@pytest.fixture
def listening() -> Iterator[str]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def record(folder: Path, token: str = "secret", **what: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.json").write_text(json.dumps({"pid": os.getpid()} | what))
    (folder / "token").write_text(token + "\n")
    return folder


def test_the_folders_server_gets_the_folders_token(tmp_path: Path, listening: str) -> None:
    found = find_server(None, None, record(tmp_path, url=listening), {})
    assert (found.base, found.key, found.found) == (listening, "secret", True)


def test_another_address_does_not_get_the_folders_token(tmp_path: Path, listening: str) -> None:
    record(tmp_path, url=listening)
    assert find_server("http://127.0.0.1:1", None, tmp_path, {}).key is None
    assert find_server("https://elsewhere.example", None, tmp_path, {}).key is None
    assert find_server(None, None, None, {"PULLCORD_URL": "http://x", "PULLCORD_DATA_DIR": str(tmp_path)}).key is None


def test_the_same_address_given_by_hand_gets_it(tmp_path: Path, listening: str) -> None:
    record(tmp_path, url=listening)
    assert find_server(f"{listening}/", None, tmp_path, {}).key == "secret"


def test_a_key_from_the_environment_goes_before_the_token(tmp_path: Path, listening: str) -> None:
    record(tmp_path, url=listening)
    assert find_server(None, None, tmp_path, {"PULLCORD_API_KEY": "mine"}).key == "mine"
    assert find_server(None, "given", tmp_path, {"PULLCORD_API_KEY": "mine"}).key == "given"


def test_a_key_from_the_environment_stays_on_this_machine(
    tmp_path: Path, listening: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pullcord.client.discovery._listens", lambda address: True)
    record(tmp_path, url="http://collector.example")
    assert find_server(None, None, tmp_path, {"PULLCORD_API_KEY": "mine"}).key == "secret"


def test_a_folder_named_by_hand_goes_before_a_url_of_the_environment(tmp_path: Path, listening: str) -> None:
    record(tmp_path, url=listening)
    assert find_server(None, None, tmp_path, {"PULLCORD_URL": "http://x"}).base == listening
    assert (
        find_server(None, None, None, {"PULLCORD_URL": "http://x", "PULLCORD_DATA_DIR": str(tmp_path)}).base
        == "http://x"
    )


def test_a_dead_process_is_no_server(tmp_path: Path, listening: str) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    with pytest.raises(ServerUnreachableError, match="no server runs"):
        find_server(None, None, record(tmp_path, url=listening, pid=gone.pid), {})


def test_a_closed_port_is_no_server(tmp_path: Path) -> None:
    with closing(socket.socket()) as taken:  # nobody listens there, and nobody else can
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ServerUnreachableError):
            find_server(None, None, record(tmp_path, url=url), {})


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1}', '{"pid": -1, "url": "http://127.0.0.1"}']
)
def test_a_strange_record_is_no_server(tmp_path: Path, text: str) -> None:
    (tmp_path / "server.json").write_text(text)
    with pytest.raises(ServerUnreachableError):
        find_server(None, None, tmp_path, {})


@pytest.mark.parametrize("depth", [1, 12])
def test_sockets_are_found_also_under_long_paths(tmp_path: Path, depth: int) -> None:
    folder = tmp_path.joinpath(*["a-rather-long-name"] * depth)
    folder.mkdir(parents=True)
    path = folder / "server.sock"
    with short_path(path) as short, closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(short)
        with pytest.raises(ServerUnreachableError):
            find_server(None, None, record(folder, socket=str(path)), {})
        server.listen()
        found = find_server(None, None, folder, {})
    assert (found.socket, found.key) == (path, "secret")


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8321", "ftp://x", "http://", "http://x:port", "http://x/?a=b", "http://u:p@x"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="not the address"):
        find_server(url, None, None, {})

"""`pullcord notify`, through a server and without one, with a real receiver."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pullcord.api.schemas import SCHEMAS
from pullcord.client import AsyncClient, Client
from pullcord.core.errors import NotFoundError
from pullcord.core.signatures import standard
from tests.unit.test_cli_commands import Place

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Receiver:
    """A web server: `/bad` answers 503, anything else 200."""

    port: int = 0
    came: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    here = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            here.came.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(503 if self.path == "/bad" else 200)
            self.send_header("retry-after", "90")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        here.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield here
        server.shutdown()
        thread.join()


def place_with_channels(folder: Path, receiver: Receiver) -> Place:
    place = Place(folder)
    lines = []
    for name in ("good", "bad"):
        lines += [
            f"[channels.{name}]", 'kind = "webhook"', f'url = "http://127.0.0.1:{receiver.port}/{name}"',
            f'secret = "file:{folder}/secret"',
        ]  # fmt: skip
    (folder / "pullcord.toml").write_text("\n".join([*lines, 'group = "5m"', "per_hour = 60"]))
    (folder / "secret").write_text(SECRET + "\n")
    return place


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Place]:
    place = place_with_channels(tmp_path_factory.mktemp("served"), receiver)
    with place.start("serve", "--port", "0", "--workers", "1") as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("Pullcord is ready")
        yield place
        server.send_signal(signal.SIGTERM)
        _, log = server.communicate(timeout=60)
    assert server.returncode == 0
    assert SECRET not in log


@pytest.fixture
def alone(tmp_path: Path, receiver: Receiver) -> Place:
    return place_with_channels(tmp_path, receiver)


@pytest.fixture(params=["served", "alone"])
def place(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def test_channels_are_listed_without_their_secrets(place: Place, receiver: Receiver) -> None:
    lines = place.call("notify", "channels").stdout.splitlines()
    assert lines[0].split() == ["channel", "kind", "configured"]
    secret = f"secret=file:{place.folder}/secret"
    assert lines[1].split()[:4] == ["bad", "webhook", f"url=http://127.0.0.1:{receiver.port}/…", secret]
    assert lines[1].endswith("timeout=10 s group=300 s per_hour=60")
    page = place.call_json("notify", "channels")
    assert [item["name"] for item in page["items"]] == ["bad", "good"]
    assert page["next"] is None
    assert set(page["items"][0]) == set(SCHEMAS["Channel"]["required"])


def test_a_channel_is_tried(place: Place, receiver: Receiver) -> None:
    receiver.came.clear()
    said = place.call("notify", "test", "good").stdout
    assert said.startswith("good: delivered in ")
    [(path, headers, body)] = receiver.came
    assert path == "/good"
    assert standard(headers, body, [SECRET], int(time.time())) == headers["webhook-id"]
    assert json.loads(body)["type"] == "test"
    result = place.call_json("notify", "test", "good")
    assert (result["channel"], result["delivered"], result["error"]) == ("good", True, None)
    assert set(result) == set(SCHEMAS["ChannelTest"]["required"])


def test_why_a_message_does_not_arrive(place: Place) -> None:
    done = place.call("notify", "test", "bad", status=1)
    assert done.stdout == ""
    assert done.stderr.startswith("bad: not delivered after ")
    assert done.stderr.endswith(": the receiver answers 503; it asks to be left alone for 1 min 30 s\n")
    result = place.call_json("notify", "test", "bad", status=1)
    assert result["delivered"] is False
    assert (result["permanent"], result["retry_after"]) == (False, 90.0)


def test_all_channels_are_tried_although_one_fails(place: Place) -> None:
    done = place.call("notify", "test", "--all", status=1)
    assert done.stdout.startswith("good: delivered")
    assert done.stderr.startswith("bad: not delivered")
    results = place.call_json("notify", "test", "--all", status=1)["items"]
    assert [result["channel"] for result in results] == ["bad", "good"]


def test_what_is_asked_in_a_wrong_way(place: Place) -> None:
    assert "there are: bad, good" in place.call("notify", "test", "nobody", status=3).stderr
    assert "name one channel, or give --all" in place.call("notify", "test", status=2).stderr
    assert "name one channel" in place.call("notify", "test", "good", "--all", status=2).stderr


def test_a_secret_is_looked_up_when_a_message_is_sent(place: Place) -> None:
    secret = place.folder / "secret"
    secret.rename(place.folder / "gone")
    said = place.call("notify", "test", "good", status=1).stderr
    assert f"the secret in the file {secret} cannot be read" in said
    (place.folder / "gone").rename(secret)
    assert "delivered" in place.call("notify", "test", "good").stdout


def test_a_rule_is_taken_back_for_those_who_are_named_or_for_all(served: Place) -> None:
    tell = ("notify", "tell", "twice")
    served.call(*tell, "run.failed", "good", "bad")
    served.call(*tell, "run.failing", "good", "--count", "3")
    said = served.call(*tell, "run.failing", "good", "--count", "3", "--remove", status=2).stderr
    assert "no --count; leave that out" in " ".join(said.split())
    assert "'run.fail' is nothing that can be told" in served.call(*tell, "run.fail", "--remove", status=2).stderr
    rules = served.call_json(*tell, "run.failed", "bad", "--remove")["rules"]
    told = [(rule["event"], rule["channels"]) for rule in rules]
    assert told == [("run.failed", ["good"]), ("run.failing", ["good"])]
    for event in ("run.failed", "run.failing"):
        rules = served.call_json(*tell, event, "--remove")["rules"]
    assert rules == []


def test_no_channels(tmp_path: Path) -> None:
    place = Place(tmp_path)
    assert "add one to pullcord.toml" in place.call("notify", "channels").stdout
    assert "add one to pullcord.toml" in place.call("notify", "test", "--all").stdout
    assert place.call_json("notify", "channels") == {"items": [], "next": None}


def test_settings_that_make_no_sense_are_told(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (tmp_path / "pullcord.toml").write_text('[channels.x]\nkind = "pigeon"\n')
    said = place.call("notify", "channels", status=2).stderr
    assert "the channel 'x': kind must be one of webhook, smtp, slack, apprise" in said


def test_both_clients(served: Place) -> None:
    folder = served.folder / ".pullcord"
    with Client(data_dir=folder) as client:
        assert [item["name"] for item in client.channels.list()] == ["bad", "good"]
        assert client.channels.test("good")["delivered"]
        with pytest.raises(NotFoundError):
            client.channels.test("nobody")

    async def the_other() -> None:
        async with AsyncClient(data_dir=folder) as aclient:
            assert [item["name"] for item in await aclient.channels.list()] == ["bad", "good"]
            assert not (await aclient.channels.test("bad"))["delivered"]

    asyncio.run(the_other())

"""A real server process, and a client that speaks plain HTTP to it."""

from __future__ import annotations

import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2

from tests.system.processes import PATIENCE, alive, await_end, kill, marked, parent, poll, tree

HERE = Path(__file__).parent
FLOWS = HERE / "flows"
STEADY = FLOWS / "steady.py"

Constants = Mapping[str, Mapping[str, Any]]
Inputs = dict[str, Any] | None


@dataclass(frozen=True)
class Reply:
    """What the server answered."""

    status: int
    body: dict[str, Any]

    @property
    def run_id(self) -> str:
        """The run's id of a receipt."""
        assert self.status in (200, 202), self
        run_id: str = self.body["run_id"]
        return run_id


class Api:
    """One server's API, safe to use from many threads."""

    def __init__(self, url: str, token: str) -> None:
        limits = httpx2.Limits(max_connections=200, max_keepalive_connections=100)
        headers = {"authorization": f"Bearer {token}"}
        self._client = httpx2.Client(base_url=url, headers=headers, timeout=PATIENCE, limits=limits, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def post(self, path: str, body: Any = None, **query: str) -> Reply:
        """Call."""
        response = self._client.post(path, json=body, params=query)
        return Reply(response.status_code, response.json())

    def call(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, **query: str
    ) -> Reply:
        """Call by any method; a body of bytes is sent as it is."""
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {"content-type": "application/json"} | dict(headers or {})
        response = self._client.request(method.upper(), path, content=content, headers=sent, params=query)
        return Reply(response.status_code, response.json())

    def get(self, path: str, **query: str) -> Reply:
        """Call."""
        response = self._client.get(path, params=query)
        return Reply(response.status_code, response.json())

    def text(self, path: str) -> str:
        """Return a text."""
        return self._client.get(path).text

    def plain(self, path: str) -> str | None:
        """Return a text, or None when it is not there."""
        response = self._client.get(path)
        return response.text if response.status_code == 200 else None

    def ask(
        self, flow: str, inputs: Inputs = None, *, wait: str | None = None, until: str = "ended", **more: Any
    ) -> Reply:
        """Ask for a run."""
        query = {} if wait is None else {"wait": wait, "until": until}
        return self.post("/v1/runs", {"flow": flow, "inputs": inputs or {}} | more, **query)

    def run(self, flow: str, inputs: Inputs = None, **more: Any) -> str:
        """Ask for a run that must be admitted; return its id."""
        return self.ask(flow, inputs, **more).run_id

    def result(self, flow: str, inputs: Inputs = None, **more: Any) -> dict[str, Any]:
        """Run to the end and return the run."""
        reply = self.ask(flow, inputs, wait=f"{PATIENCE}s", **more)
        assert reply.status == 200, reply
        run: dict[str, Any] = reply.body["run"]
        return run

    def look(self, run_id: str) -> dict[str, Any]:
        """Return a run as it is now."""
        reply = self.get(f"/v1/runs/{run_id}")
        assert reply.status == 200, reply
        return reply.body

    def cancel(self, run_id: str, **how: Any) -> Reply:
        """Cancel a run."""
        return self.post(f"/v1/runs/{run_id}/cancel", how)

    def events(self, run_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield a run's events until its end, or until the test has waited too long."""
        deadline = time.monotonic() + PATIENCE
        kind = ""
        with self._client.stream("GET", f"/v1/runs/{run_id}/events") as response:
            assert response.status_code == 200, response.read()
            for line in response.iter_lines():
                assert time.monotonic() < deadline, f"run {run_id} is not there yet: {self.look(run_id)}"
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield kind, json.loads(line.removeprefix("data: "))

    def follow(self, run_id: str, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until a run is as it should be; return it."""
        with closing(self.events(run_id)) as events:
            for kind, data in events:
                if kind == "run" and until(data):
                    return data
        raise AssertionError(f"it never came to that: {self.look(run_id)}")

    def step(self, run_id: str, name: str) -> dict[str, Any]:
        """Wait until a run has a finished record of a step."""
        with closing(self.events(run_id)) as events:
            return next(data for kind, data in events if kind == "step" and data["name"] == name)

    def state(self, run_id: str, *states: str) -> dict[str, Any]:
        """Wait until a run is in one of these states."""
        return self.follow(run_id, lambda run: run["state"] in states)

    def end(self, run_id: str) -> dict[str, Any]:
        """Wait until a run has ended."""
        return self.state(run_id, "succeeded", "failed", "cancelled")


class Server:
    """A server process over a data folder; it can be started again after its death.

    Args:
        data_dir: the data folder.
        flows: code locations.
        workers: run workers for each.
        environment: added to the environment.
        constants: constants to change, by module.
        command: `serve` or `dev`.
        log: where its stderr goes; beside the data folder unless given.
    """

    def __init__(
        self,
        data_dir: Path,
        *flows: Path,
        workers: int = 2,
        environment: Mapping[str, str] | None = None,
        constants: Constants | None = None,
        command: str = "serve",
        log: Path | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.flows = flows or (STEADY,)
        self.workers = workers
        self.environment = dict(environment or {})
        self.constants = constants
        self.command = command
        self.mark = f"pullcord-test-{uuid4()}"
        self.log = log or data_dir.with_name(f"{data_dir.name}.log")
        self._process: subprocess.Popen[bytes] | None = None
        self._apis: list[Api] = []

    # --- life ----------------------------------------------------------------------------------------

    def start(self) -> Server:
        """Start, and wait until it says that it is ready."""
        self.spawn()
        self.ready()
        record = json.loads((self.data_dir / "server.json").read_text())
        self._apis.append(Api(record["url"], (self.data_dir / "token").read_text().strip()))
        return self

    def hang_up_on_the_dead(self) -> None:
        """Close the connections to servers before the one before this one; calls to that may still be on their way."""
        while len(self._apis) > 2:
            self._apis.pop(0).close()

    def spawn(self) -> None:
        """Start without waiting."""
        assert self._process is None or self._process.poll() is not None, "it is running"
        self._hang_up()
        path = os.pathsep.join(filter(None, [str(FLOWS), os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"PYTHONPATH": path, "PULLCORD_TEST": self.mark} | self.environment
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command_line(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                cwd=self.log.parent, env=environment,
            )  # fmt: skip

    def _command_line(self) -> list[str]:
        flows = [str(flow) for flow in self.flows]
        if self.constants is not None:
            what = {
                "data_dir": str(self.data_dir), "flows": flows, "workers": self.workers, "constants": self.constants,
            }  # fmt: skip
            return [sys.executable, str(HERE / "launch.py"), json.dumps(what)]
        options = ["--data-dir", str(self.data_dir), "--port", "0", "--workers", str(self.workers)]
        return [sys.executable, "-m", "pullcord", self.command, *flows, *options]

    def ready(self) -> str:
        """Wait for the line that says it is ready; return it."""
        line = b""
        stdout = self.process.stdout
        assert stdout is not None
        deadline = time.monotonic() + PATIENCE
        while not line.endswith(b"\n"):
            assert select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))[0], f"not ready:\n{self.says}"
            piece = os.read(stdout.fileno(), 4096)
            assert piece, f"it ended with status {self.process.wait()} before it was ready:\n{self.says}"
            line += piece
        return line.decode()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process, dead or alive."""
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self.process.pid

    @property
    def says(self) -> str:
        """All that it and its workers wrote to stderr."""
        return self.log.read_text(errors="replace")

    @property
    def api(self) -> Api:
        """The API of the latest server."""
        return self._apis[-1]

    # --- death ---------------------------------------------------------------------------------------

    @property
    def template(self) -> int:
        """Process id of the first location's template; a new one takes a moment after the last one's death."""
        return poll(lambda: [pid for pid in self.templates if alive(pid)])[0]

    @property
    def templates(self) -> list[int]:
        """Process ids of all templates."""
        return [process.pid for process in tree(self.pid) if parent(process) == self.pid]

    def workers_alive(self) -> list[int]:
        """Return the process ids of the workers: the grandchildren."""
        return [process.pid for process in tree(self.pid) if parent(process) not in (self.pid, None)]

    def staff(self) -> list[int]:
        """Return the process ids of the workers when all have been started: the server is ready before that."""
        count = len(self.flows) * (1 + self.workers)
        return poll(lambda: (pids := self.workers_alive())[count - 1 :] and pids)

    def parked(self, *runs: str) -> None:
        """Wait until runs are in no worker: the code of one has come to an end there before that is on disk."""

        def without_worker() -> bool:
            with closing(sqlite3.connect(f"file:{self.data_dir / 'pullcord.db'}?mode=ro", uri=True)) as db:
                rows = db.execute("SELECT uuid FROM runs WHERE state = 'waiting' AND owner IS NULL").fetchall()
            return set(runs) <= {row[0] for row in rows}

        poll(without_worker)

    def kill(self) -> None:
        """`kill -9` the server alone, and wait until its workers have died with it."""
        self.process.kill()
        self.died()

    def kill_everything(self) -> None:
        """`kill -9` the server and all below it, in this order."""
        kill([self.pid, *(process.pid for process in tree(self.pid))])
        self.died()

    def kill_workers(self) -> list[int]:
        """`kill -9` the workers alone, and wait for their ends."""
        pids = self.workers_alive()
        kill(pids)
        await_end(pids)
        return pids

    def died(self) -> int:
        """Wait for the server to die by itself, and its workers with it; return its exit status."""
        status = self.process.wait(PATIENCE)
        await_end(marked(self.mark))
        return status

    def stop(self) -> int:
        """SIGTERM, and wait until it has left; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE + 4)

    def clean_up(self) -> None:
        """Kill what is left of it."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(PATIENCE)
        kill(marked(self.mark))
        self._hang_up()
        for api in self._apis:
            api.close()

    def _hang_up(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()


def together(count: int, call: Callable[[int], Any]) -> list[Any]:
    """Call from many threads at the same instant; return what each gave, or the connection error it met."""
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    barrier = Barrier(count)

    def one(number: int) -> Any:
        barrier.wait()
        try:
            return call(number)
        except httpx2.TransportError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


Start = Callable[..., Server]
"""What the fixture `serve` is: it makes and starts a server, and cleans up after the test."""

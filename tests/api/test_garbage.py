"""Garbage from a worker: it costs that worker its life, and the server, other runs and the ledger nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pullcord.engine.worker import WorkerHandle
from pullcord.wire import messages as kinds
from pullcord.wire.frames import MAX_FRAME, Message, encode
from pullcord.wire.shape import SHAPES
from tests.api.server import Api, Server
from tests.unit.test_shape import ANYTHING


class Recorded:
    """A server, and what its workers really said while a few runs went through."""

    def __init__(self, server: Server, api: Api) -> None:
        self.server = server
        self.api = api
        self.said: list[list[Message]] = []
        engine = server.app.engine
        receive = engine.receive

        def listen(worker: WorkerHandle, messages: list[Message]) -> None:
            self.said.append([list(message) for message in messages])
            receive(worker, messages)

        for fleet in engine.fleets.values():
            for worker in fleet.workers:
                worker._receive = listen
        self.works()
        self.works(wrong=True)
        for fleet in engine.fleets.values():
            for worker in fleet.workers:
                worker._receive = receive
        assert {message[0] for messages in self.said for message in messages} >= {
            kinds.STEP, kinds.FINISHED, kinds.VALIDATED,
        }  # fmt: skip

    def works(self, wrong: bool = False) -> None:
        """See that a run goes through, and that all can be listed."""
        inputs = {"first": "no number" if wrong else 4}
        answer = self.api.http.post("/v1/runs", json={"flow": "steps", "inputs": inputs}, params={"wait": "30s"})
        if wrong:
            assert answer.status_code == 422
            return
        assert answer.json()["run"]["result"] == 16, answer.text
        for path in ("/v1/runs", "/v1/requests", "/v1/flows", f"/v1/runs/{answer.json()['run_id']}"):
            assert self.api.http.get(path).status_code == 200

    def say(self, data: bytes, role: str) -> None:
        """Let a worker say something, and wait for its end if that is what it costs."""

        async def speak() -> None:
            (fleet,) = self.server.app.engine.fleets.values()
            async with asyncio.timeout(30):
                while True:
                    found = [w for w in fleet.workers if w.ready and w.role == role and not w.retired]
                    if found:
                        break
                    await asyncio.sleep(0.01)
                victim = found[0]
                victim.data_received(data)
                if victim.deliberate is not None:
                    await victim.ended.wait()
                else:
                    victim._decoder._buffer.clear()

        self.server.do(speak())


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    logging.getLogger("pullcord").setLevel(logging.CRITICAL)
    with Server(tmp_path_factory.mktemp("garbage") / "data") as server, server.client() as api:
        yield Recorded(server, api)
    logging.getLogger("pullcord").setLevel(logging.NOTSET)


GARBLED = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
ROLES = st.sampled_from(["shared", "control"])
SMALL = st.integers(0, 20)


@GARBLED
@given(data=st.data(), role=ROLES)
def test_flipped_bits_and_cuts(recorded: Recorded, data: st.DataObject, role: str) -> None:
    frame = bytearray(encode(data.draw(st.sampled_from(recorded.said))))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(4, len(frame) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    cut = data.draw(st.none() | st.integers(5, len(frame)))
    body = bytes(frame[4:cut])
    recorded.say(len(body).to_bytes(4, "big") + body, role)
    recorded.works()


@GARBLED
@given(
    kind=st.sampled_from([*SHAPES, kinds.HELLO, kinds.RUN, "nonsense"]),
    numbers=st.tuples(SMALL, SMALL),
    fields=st.lists(ANYTHING, max_size=12),
    role=ROLES,
)
def test_any_message(recorded: Recorded, kind: str, numbers: tuple[int, int], fields: list[Any], role: str) -> None:
    """Also about runs and tokens that there are, or were."""
    recorded.say(encode([[kind, *numbers, *fields]]), role)
    recorded.works()


@GARBLED
@given(data=st.data(), role=ROLES)
def test_real_messages_with_a_wrong_field(recorded: Recorded, data: st.DataObject, role: str) -> None:
    message = list(data.draw(st.sampled_from(data.draw(st.sampled_from(recorded.said)))))
    message[data.draw(st.integers(0, len(message) - 1))] = data.draw(ANYTHING)
    recorded.say(encode([message]), role)
    recorded.works()


@pytest.mark.parametrize("role", ["shared", "control"])
def test_a_frame_that_is_too_long(recorded: Recorded, role: str) -> None:
    recorded.say((MAX_FRAME + 1).to_bytes(4, "big"), role)
    recorded.works()

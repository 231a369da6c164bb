"""The worker's end of the channel, over a real socket pair: order, batching, back-pressure, and the server's end."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from pullcord.wire.frames import Decoder, Message, encode
from pullcord.worker.channel import Channel


@dataclass
class Ends:
    """Both ends of a channel."""

    channel: Channel
    server: socket.socket
    received: list[Message] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    decoder: Decoder = field(default_factory=Decoder)
    undeliverable: list[Message] = field(default_factory=list)

    def take(self, message: Message) -> None:
        """Take a message as the worker would."""
        self.received.append(message)
        self.arrived.set()

    async def receive(self, count: int) -> list[Message]:
        """Wait until the worker has so many messages."""
        async with asyncio.timeout(10):
            while len(self.received) < count:
                self.arrived.clear()
                await self.arrived.wait()
        return self.received

    async def read(self, count: int) -> list[Message]:
        """Read messages as the server would."""
        loop = asyncio.get_running_loop()
        messages: list[Message] = []
        while len(messages) < count:
            messages += self.decoder.feed(await loop.sock_recv(self.server, 65536))
        return messages


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    """Connect a channel with a socket that plays the server."""
    worker, server = socket.socketpair()
    server.setblocking(False)
    loop = asyncio.get_running_loop()
    made: list[Ends] = []
    channel = Channel(
        worker,
        loop,
        lambda message: made[0].take(message),
        lambda: made[0].lost.set(),
        lambda message, _: made[0].undeliverable.append(message),
    )
    made.append(Ends(channel, server))
    yield made[0]
    loop.remove_reader(worker.fileno())
    loop.remove_writer(worker.fileno())
    worker.close()
    server.close()


async def test_messages_of_one_turn_leave_together_and_in_order(ends: Ends) -> None:
    for number in range(5):
        ends.channel.send(["n", number])
    data = await asyncio.get_running_loop().sock_recv(ends.server, 65536)
    assert data == encode([["n", number] for number in range(5)])


async def test_a_message_that_cannot_be_written_harms_no_neighbour(ends: Ends) -> None:
    """Rule 12."""
    bad = ["bad", object()]
    for message in (["first"], bad, ["last"]):
        ends.channel.send(message)
    assert await ends.read(2) == [["first"], ["last"]]
    assert ends.undeliverable == [bad]


async def test_messages_of_other_threads_arrive_too(ends: Ends) -> None:
    def send(name: str) -> None:
        for number in range(200):
            ends.channel.send([name, number])

    threads = [threading.Thread(target=send, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    messages = await ends.read(600)
    for thread in threads:
        thread.join()
    for name in "abc":
        assert [number for kind, number in messages if kind == name] == list(range(200))


async def test_what_the_socket_does_not_take_at_once_follows(ends: Ends) -> None:
    text = "x" * 400_000
    for number in range(5):
        ends.channel.send_now(["big", number, text])
    messages = await ends.read(5)
    assert [(kind, number, len(body)) for kind, number, body in messages] == [("big", n, 400_000) for n in range(5)]
    ends.channel.send(["after"])
    assert await ends.read(1) == [["after"]]


async def test_messages_arrive_however_they_are_cut(ends: Ends) -> None:
    loop = asyncio.get_running_loop()
    stream = encode([["a", 1], ["b", "ü"]]) + encode([["c"]])
    for start in range(0, len(stream), 3):
        await loop.sock_sendall(ends.server, stream[start : start + 3])
    assert await ends.receive(3) == [["a", 1], ["b", "ü"], ["c"]]


async def test_the_end_of_the_server_is_noticed(ends: Ends) -> None:
    ends.server.close()
    async with asyncio.timeout(10):
        await ends.lost.wait()


async def test_writing_to_a_server_that_is_gone_is_noticed(ends: Ends) -> None:
    ends.server.close()
    ends.channel.send_now(["too late"])
    assert ends.lost.is_set()


async def test_a_busy_loop_can_read_for_itself(ends: Ends) -> None:
    """A sync step right on the loop's thread waits for its acknowledgement, which only this thread can read."""
    answers: list[Any] = []

    def server() -> None:
        ends.server.setblocking(True)
        decoder = Decoder()
        messages: list[Message] = []
        while not messages:
            messages = decoder.feed(ends.server.recv(65536))
        answers.append(messages)
        ends.server.sendall(encode([["other", 1]]) + encode([["ack", 7]]))

    thread = threading.Thread(target=server)
    thread.start()
    assert ends.channel.on_loop_thread()
    ends.channel.send(["step", 7])
    ends.channel.pump_until(lambda: ["ack", 7] in ends.received)
    thread.join()
    assert answers == [[["step", 7]]]
    assert ends.received == [["other", 1], ["ack", 7]]


async def test_another_thread_is_not_the_loops(ends: Ends) -> None:
    assert not await asyncio.to_thread(ends.channel.on_loop_thread)

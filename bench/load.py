"""A small HTTP load generator: keep-alive connections, one request at a time on each, answers checked."""

from __future__ import annotations

import asyncio
import json
import time
from multiprocessing.connection import Connection
from urllib.parse import urlsplit

import uvloop


def post_many(began: Connection, url: str, token: str, flow: str, count: int, connections: int) -> None:
    """Post that many run requests; sends the monotonic time of the first one through `began`."""
    uvloop.run(_post_many(began, url, token, flow, count, connections))


async def _post_many(began: Connection, url: str, token: str, flow: str, count: int, connections: int) -> None:
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 0
    streams = [await asyncio.open_connection(host, port) for _ in range(connections)]
    numbers = iter(range(count))
    head = f"POST /v1/runs HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Length: "

    async def caller(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in numbers:
            body = json.dumps({"flow": flow, "inputs": {"n": number}})
            writer.write(f"{head}{len(body)}\r\n\r\n{body}".encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 202"):
                raise RuntimeError(answer.decode())
            length = int(answer.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
        writer.close()

    began.send(time.monotonic())
    await asyncio.gather(*(caller(*stream) for stream in streams))

"""Framing: four bytes of length, big-endian, then a JSON array of messages.

Many messages travel in one frame, so that a busy channel costs one system call and one parse for a
hundred messages. Inputs and results are JSON *text* inside the messages: the server passes them on unparsed.
"""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json, to_json

from pullcord.core.errors import PullcordError

Message = list[Any]
"""One message: its kind, then its fields in the order that `wire.messages` documents."""

MAX_FRAME = 64 * 1024 * 1024
"""No frame is longer, in bytes; a longer one means the channel is not speaking this protocol."""

_HEADER = 4


class FrameError(PullcordError):
    """The other side sent something that is not a frame."""

    code = "wire_error"


def encode(messages: list[Message]) -> bytes:
    """Write messages as one frame, or as several where one would be too long.

    Raises:
        FrameError: a single message is longer than `MAX_FRAME`.
    """
    body = to_json(messages)
    if len(body) > MAX_FRAME:
        if len(messages) == 1:
            raise FrameError(f"a message of {len(body)} bytes is over the limit of {MAX_FRAME}")
        middle = len(messages) // 2
        return encode(messages[:middle]) + encode(messages[middle:])
    return len(body).to_bytes(_HEADER, "big") + body


def encode_each(messages: list[Message]) -> tuple[bytes, list[tuple[Message, Exception]]]:
    """Write messages as frames; return also those that cannot be written, so that they harm no neighbour (rule 12)."""
    try:
        return encode(messages), []
    except (ValueError, FrameError):
        pass
    frames: list[bytes] = []
    failures: list[tuple[Message, Exception]] = []
    for message in messages:
        try:
            frames.append(encode([message]))
        except (ValueError, FrameError) as error:
            failures.append((message, error))
    return b"".join(frames), failures


class Decoder:
    """Turns received bytes into messages, however they were cut on the way."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Take bytes and return all messages that are complete now.

        Raises:
            FrameError: the bytes are not frames of messages.
        """
        buffer = self._buffer
        buffer += data
        messages: list[Message] = []
        start = 0
        while len(buffer) - start >= _HEADER:
            length = int.from_bytes(buffer[start : start + _HEADER], "big")
            if length > MAX_FRAME:
                raise FrameError(f"a frame announces {length} bytes, over the limit of {MAX_FRAME}")
            end = start + _HEADER + length
            if len(buffer) < end:
                break
            messages += _parse(bytes(buffer[start + _HEADER : end]))
            start = end
        if start:
            del buffer[:start]
        return messages


def _parse(body: bytes) -> list[Message]:
    try:
        messages = from_json(body)
    except ValueError as error:
        raise FrameError(f"a frame is not JSON: {error}") from None
    if not isinstance(messages, list) or not all(isinstance(item, list) and item for item in messages):
        raise FrameError("a frame is not an array of messages")
    return messages

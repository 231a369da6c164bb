"""Frames on the wire: however the bytes are cut, the same messages arrive; what is no frame is noticed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullcord.wire import frames
from pullcord.wire.frames import MAX_FRAME, Decoder, FrameError, Message, encode

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
fields = st.none() | st.booleans() | st.integers(-(2**64), 2**64) | text | st.lists(text | st.integers(), max_size=3)
messages = st.lists(st.tuples(text, fields, fields).map(list), max_size=6)


def framed(body: bytes) -> bytes:
    """Put a header before a body."""
    return len(body).to_bytes(4, "big") + body


@given(st.lists(messages, max_size=4), st.data())
def test_any_cutting_gives_the_same_messages(batches: list[list[Message]], data: Any) -> None:
    stream = b"".join(encode(batch) for batch in batches)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder = Decoder()
    received: list[Message] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += decoder.feed(stream[start:end])
    assert received == [message for batch in batches for message in batch]


def test_byte_by_byte() -> None:
    stream = encode([["a", 1]]) + encode([["b", "ü"], ["c", None]])
    decoder = Decoder()
    assert [message for byte in stream for message in decoder.feed(bytes([byte]))] == [
        ["a", 1],
        ["b", "ü"],
        ["c", None],
    ]


@given(st.lists(st.tuples(st.just("k"), st.text("abc", max_size=40)).map(list), max_size=12))
def test_what_is_too_long_together_travels_in_several_frames(batch: list[Message]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "MAX_FRAME", 64)
        stream = encode(batch)
        assert Decoder().feed(stream) == batch


def test_a_single_message_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_FRAME", 64)
    encode([["k", "x" * 50]])
    with pytest.raises(FrameError, match="over the limit of 64"):
        encode([["ok"], ["k", "x" * 80]])


def test_a_frame_that_announces_too_much_is_refused_before_it_arrives() -> None:
    with pytest.raises(FrameError, match="announces"):
        Decoder().feed((MAX_FRAME + 1).to_bytes(4, "big"))
    assert Decoder().feed(MAX_FRAME.to_bytes(4, "big")) == []


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"{}", b"1", b"null", b'"text"', b"[1]", b'["k"]', b"[[]]", b'[["k"],{}]', b'[["k"]', b"\xff\xfe"],
)
def test_garbage_is_noticed(body: bytes) -> None:
    with pytest.raises(FrameError):
        Decoder().feed(framed(body))


def test_something_that_speaks_http_is_noticed() -> None:
    with pytest.raises(FrameError):
        Decoder().feed(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")


@given(st.binary(max_size=60))
def test_any_bytes_are_messages_or_a_frame_error(data: bytes) -> None:
    try:
        received = Decoder().feed(data)
    except FrameError:
        return
    assert all(isinstance(message, list) and message for message in received)

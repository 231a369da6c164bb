"""What a worker may say: real messages fit, and whatever else comes is named as a misfit, never an exception."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullcord.wire import messages as kinds
from pullcord.wire.frames import Decoder, FrameError, encode
from pullcord.wire.shape import PARSED, SHAPES, misfit

AT = 1_700_000_000_000_000
ERROR = '{"type":"ValueError","message":"m","traceback":null}'
TROUBLE = {"type": "ValueError", "message": "no", "traceback": None, "permanent": False, "retry_after": 1.5}
GOOD: list[list[Any]] = [
    [kinds.HELLO, 1, 4711, "3.11.7", "2.12.0"],
    [kinds.HELLO, 2],
    [kinds.MANIFEST, {"location": "flows"}],
    [
        kinds.MANIFEST,
        {"location": "flows", "flows": [], "failures": [{"place": "a:1", "message": "m", "traceback": ""}]},
    ],
    [kinds.VALIDATED, 1, '{"n":1}', None],
    [kinds.VALIDATED, 1, None, [{"loc": ["inputs", "n", 0], "msg": "m", "type": "missing"}]],
    [kinds.POLLING, 7],
    [
        kinds.POLLED,
        [
            [7, "fire", '{"at":1}', [['{"n":1}', None], ["{}", "key"]], 120, False],
            [8, "skip", None, "nothing", 5, False],
            [9, "failed", None, {"type": "OSError", "message": "m", "permanent": False, "retry_after": 2.5}, 5, True],
        ],
    ],
    [kinds.MAPPED, 7, ["fire", [['{"n":1}', None]]]],
    [kinds.MAPPED, 8, ["skip", None]],
    [kinds.STEP, 1, 1, 1, "abc", 1, "work", 1, "succeeded", AT, AT, "42", None, None],
    [kinds.STEP, 1, 1, 1, "abc", 1, "work", 1, "running", AT, None, None, None, '["orders.parquet"]'],
    [kinds.STEP, 1, 1, 1, "abc", 1, "work", 1, "failed", AT, AT, None, ERROR, None],
    [kinds.STEP, 1, 1, 1, "abc", 1, "work", 1, "interrupted", AT, AT, None, None, None],
    [kinds.STOPPING, 1, 1, True],
    [kinds.ARTIFACT, 1, 1, "abc", "work", "report.html", "0a" * 32, 0, "text/html", "a report"],
    [kinds.ARTIFACT, 1, 1, "abc", None, "ü", "0a" * 32, 2**62, None, None],
    [kinds.FINISHED, 1, 1, "succeeded", "null", None],
    [kinds.FINISHED, 1, 1, "failed", None, ERROR],
    [kinds.RELEASED, 1, 1],
    [kinds.ASK, 1, 1, 1, "abc", 2, "Good?", '{"a":1}', "{}", '["ops"]', 1_000_000, "true"],
    [kinds.ASK, 1, 1, 1, "abc", 2, "", None, "{}", "[]", None, None],
    [kinds.PARKED, 1, 1, [["abc", None], ["def", AT]]],
    [kinds.WAITING, 1, 1, "time", "sleeps"],
    [kinds.WAITING, 1, 1, None, None],
    [kinds.CHILD, 1, 1, 1, "flow", "{}", "abc"],
    [kinds.PROGRESS, 1, 1, 0.5, None, "half"],
    [kinds.LOG, 1, 1, [[AT, "info", "flow", "a\0b"]]],
    [kinds.DOOMED, "a thread", 1, 1, None],
    [kinds.BEAT, 50_000_000, 0.001],
    [kinds.POLLING, 7],
    [kinds.POLLED, []],
    [kinds.POLLED, [[1, "skip", None, None, 12, False], [2, "fire", "3", [['{"a":1}', None], ["{}", "k"]], 9, False]]],
    [kinds.POLLED, [[3, "failed", '"x"', TROUBLE, 30_000_000, True]]],
    [kinds.MAPPED, 4, ["fire", [["{}", None]]]],
    [kinds.MAPPED, 5, ["skip", "not for us"]],
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("message", GOOD, ids=lambda message: str(message[0]))
def test_what_workers_say_fits(message: list[Any]) -> None:
    assert misfit(message) is None


def test_every_kind_has_a_shape() -> None:
    assert {message[0] for message in GOOD} == {*SHAPES, kinds.HELLO}


@pytest.mark.parametrize(
    "message",
    [
        ["nonsense"],
        [None, 1],
        [[], 1],
        [{}],
        [kinds.ACK, 1, 1, 1],
        [kinds.HELLO],
        [kinds.HELLO, True],
        [kinds.STEP, 1, 1],
        [kinds.RELEASED, 1, 1, 1],
        [kinds.ASK, 1, 1, 1, "abc", 2, "Good?", None, "[]", "[]", None, None],
        [kinds.ASK, 1, 1, 1, "abc", 2, "Good?", None, "{}", "[1]", None, None],
        [kinds.ASK, 1, 1, 1, "abc", 2, "Good?", None, "{}", "[]", -1, None],
        [kinds.ASK, 1, 1, 1, "abc", 2, "Good?", None, "{}", "[]", None, "{"],
        [kinds.PARKED, 1, 1, []],
        [kinds.PARKED, 1, 1, [["abc", -1]]],
        [kinds.RELEASED, True, 1],
        [kinds.RELEASED, 2**63, 1],
        [kinds.FINISHED, 1, 1, "running", None, None],
        [kinds.FINISHED, 1, 1, ["failed"], None, None],
        [kinds.FINISHED, 1, 1, "succeeded", "{", None],
        [kinds.FINISHED, 1, 1, "failed", None, "{}"],
        [kinds.PROGRESS, 1, 1, float("nan"), None, None],
        [kinds.PROGRESS, 1, 1, float("inf"), None, None],
        [kinds.PROGRESS, 1, 1, 1, float("inf"), None],
        [kinds.PROGRESS, 1, 1, 1e16, None, None],
        [kinds.PROGRESS, 1, 1, None, None, None],
        [kinds.PROGRESS, 1, 1, True, None, None],
        [kinds.PROGRESS, 1, 1, 1, None, "a\0b"],
        [kinds.LOG, 1, 1, [[2**62, "info", "flow", "text"]]],
        [kinds.LOG, 1, 1, [[AT, "info", "flow"]]],
        [kinds.CHILD, 1, 1, 1, "flow", "[]", "abc"],
        [kinds.VALIDATED, 1, "17", None],
        [kinds.VALIDATED, 1, None, [{"loc": "inputs", "msg": "m", "type": "t"}]],
        [kinds.PROGRESS, 1, 1, 10**400, None, None],
        [kinds.ARTIFACT, 1, 1, "abc", None, "../up", "0a" * 32, 1, None, None],
        [kinds.ARTIFACT, 1, 1, "abc", None, "a\u200bb", "0a" * 32, 1, None, None],
        [kinds.ARTIFACT, 1, 1, "abc", None, "ok", "0a" * 32 + "\n", 1, None, None],
        [kinds.POLLED, [[7, "fire", None, "nothing", 5, False]]],
        [kinds.POLLED, [[7, "skip", "{", None, 5, False]]],
        [kinds.MAPPED, 7, ["seen", None]],
        [kinds.STOPPING, 1, 1, 1],
        [kinds.MANIFEST, {"flows": [{"name": 1}]}],
        [kinds.MANIFEST, {"flows": 7}],
        [kinds.MANIFEST, {"digest": None}],
    ],
    ids=lambda message: str(message)[:80],
)
def test_what_nobody_says_does_not(message: list[Any]) -> None:
    assert misfit(message) is not None


def test_a_misfit_names_the_kind_and_the_field() -> None:
    message = [kinds.STEP, 1, 1, 1, "abc", 1, "work", 1, "succeeded", -1, AT, "42", None, None]
    assert misfit(message) == ("step with a field 9 that makes no sense: Input should be greater than or equal to 0")
    assert (misfit([kinds.LOG, 1, 1, [[AT, "info", 5, "text"]]]) or "").startswith("log with a field 3.0.2 that makes")
    assert (misfit([kinds.RELEASED, 1]) or "").startswith("released with a field 2 that makes no sense: Field required")


def test_a_long_result_is_not_parsed() -> None:
    result = "[" * PARSED
    assert misfit([kinds.FINISHED, 1, 1, "succeeded", result, None]) is not None
    assert misfit([kinds.FINISHED, 1, 1, "succeeded", result + "[", None]) is None


@given(st.sampled_from([message[0] for message in GOOD]) | ANYTHING, st.lists(ANYTHING, max_size=14))
def test_any_message_is_judged(kind: Any, fields: list[Any]) -> None:
    verdict = misfit([kind, *fields])
    assert verdict is None or verdict


@given(st.sampled_from(GOOD), st.data())
def test_one_wrong_field_is_judged(message: list[Any], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(message) - 1))
    misfit([*message[:index], data.draw(ANYTHING), *message[index + 1 :]])


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_messages_or_no_frame(data: bytes, framed: bool) -> None:
    stream = len(data).to_bytes(4, "big") + data if framed else data
    decoder = Decoder()
    try:
        messages = decoder.feed(stream)
    except FrameError:
        return
    for message in messages:
        assert type(message) is list
        misfit(message)


@given(st.lists(st.sampled_from(GOOD), min_size=1, max_size=5), st.integers(0, 10**6), st.integers(0, 7))
def test_a_flipped_bit_in_a_real_frame(messages: list[list[Any]], place: int, bit: int) -> None:
    frame = bytearray(encode(messages))
    frame[place % len(frame)] ^= 1 << bit
    try:
        received = Decoder().feed(bytes(frame))
    except FrameError:
        return
    for message in received:
        misfit(message)


def test_a_frame_nested_as_deep_as_can_be_is_no_frame() -> None:
    body = b"[" * 1_000_000
    with pytest.raises(FrameError):
        Decoder().feed(len(body).to_bytes(4, "big") + body)

"""Signatures of webhooks: the published examples, and that nothing else passes."""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullcord.core.errors import DefinitionError, InvalidSignatureError, PullcordError, SecretError, TimestampError
from pullcord.core.signatures import github, sign, standard, stripe
from pullcord.core.webhook import webhook
from pullcord.secrets import LARGEST, resolve

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(b"another secret").decode()
NOW = 1614265330
BODY = b'{"test": 2432232314}'
# The example of the Standard Webhooks reference implementations.
HEADERS = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": str(NOW),
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}


def stripe_headers(body: bytes, at: int, secret: str = "whsec_stripe") -> dict[str, str]:
    signature = hmac.new(secret.encode(), f"{at}.".encode() + body, sha256).hexdigest()
    return {"stripe-signature": f"t={at},v1={signature},v0=ignored"}


def test_the_published_example_of_standard_webhooks() -> None:
    assert standard(HEADERS, BODY, [SECRET], NOW) == "msg_p5jXN8AQM9LWM0D4loKWxJek"


def test_what_is_signed_here_is_the_published_example() -> None:
    assert sign("msg_p5jXN8AQM9LWM0D4loKWxJek", BODY, [SECRET], NOW) == HEADERS


def test_during_a_rotation_both_secrets_sign() -> None:
    headers = sign("1", BODY, [OTHER, SECRET], NOW)
    for secret in (SECRET, OTHER):
        assert standard(headers, BODY, [secret], NOW) == "1"


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_no base64!"])
def test_nothing_is_signed_with_what_is_no_secret(secret: str) -> None:
    with pytest.raises(SecretError, match="whsec_"):
        sign("1", BODY, [secret], NOW)


def test_the_published_example_of_github() -> None:
    headers = {
        "x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
    }
    body, secrets = b"Hello, World!", ["It's a Secret to Everybody"]
    assert github(headers, body, secrets, 0) == "72d3162e-cc78-11e3-81ab-4c9367dc0958"


def test_stripe_has_its_id_in_the_body() -> None:
    body = b'{"id": "evt_1"}'
    assert stripe(stripe_headers(body, NOW), body, ["whsec_stripe"], NOW) == "evt_1"


@pytest.mark.parametrize("body", [b'{"id": 7}', b"{}", b"[]", b"\xff", b'{"id": ""}'])
def test_a_stripe_event_without_an_id_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidSignatureError, match="no id"):
        stripe(stripe_headers(body, NOW), body, ["whsec_stripe"], NOW)


@given(st.integers(0, len(BODY) * 8 - 1))
def test_a_body_with_any_flipped_bit_is_refused(bit: int) -> None:
    changed = bytearray(BODY)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InvalidSignatureError):
        standard(HEADERS, bytes(changed), [SECRET], NOW)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_header_with_any_flipped_bit_is_refused(name: str) -> None:
    for bit in range(len(HEADERS[name]) * 8):
        changed = bytearray(HEADERS[name].encode())
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(InvalidSignatureError):
            standard(HEADERS | {name: changed.decode("latin-1")}, BODY, [SECRET], NOW)


def test_hexadecimal_signatures_with_any_flipped_bit_are_refused() -> None:
    body, signature = b'{"id": "evt_1"}', hmac.new(b"key", b'{"id": "evt_1"}', sha256).hexdigest()
    stripe_signature = hmac.new(b"key", f"{NOW}.".encode() + body, sha256).hexdigest()
    cases: list[tuple[Callable[..., str], str, str]] = [
        (github, "x-hub-signature-256", f"sha256={signature}"),
        (stripe, "stripe-signature", f"t={NOW},v1={stripe_signature}"),
    ]
    for verify, name, value in cases:
        assert verify({name: value, "x-github-delivery": "evt_1"}, body, ["key"], NOW) == "evt_1"
        for bit in range(len(value) * 8):
            changed = bytearray(value.encode())
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises(InvalidSignatureError):
                verify({name: changed.decode("latin-1"), "x-github-delivery": "evt_1"}, body, ["key"], NOW)


def test_what_is_signed_cannot_be_taken_apart_in_another_way() -> None:
    signed = hmac.digest(base64.b64decode(SECRET[6:]), b"a.%d.%d.{}" % (NOW, NOW), sha256)
    headers = {"webhook-timestamp": str(NOW), "webhook-signature": f"v1,{base64.b64encode(signed).decode()}"}
    with pytest.raises(InvalidSignatureError, match="dot"):
        standard(headers | {"webhook-id": f"a.{NOW}"}, b"{}", [SECRET], NOW)


def test_nobody_signs_with_an_empty_secret() -> None:
    signature = hmac.new(b"", BODY, sha256).hexdigest()
    headers = {"x-hub-signature-256": f"sha256={signature}", "x-github-delivery": "a"}
    for secrets in ([""], ["key", ""]):
        with pytest.raises(SecretError, match="empty"):
            github(headers, BODY, secrets, NOW)


@given(st.sampled_from(sorted(HEADERS)), st.text(max_size=60))
def test_any_other_header_is_refused(name: str, value: str) -> None:
    if HEADERS[name] in value.split():
        return
    with pytest.raises(PullcordError):
        standard(HEADERS | {name: value}, BODY, [SECRET], NOW)


@given(st.text(max_size=100))
def test_no_text_passes_for_a_signature_of_github_or_stripe(text: str) -> None:
    for verify, name in ((github, "x-hub-signature-256"), (stripe, "stripe-signature")):
        with pytest.raises(PullcordError):
            verify({name: text, "x-github-delivery": "a"}, b'{"id": "a"}', ["secret"], NOW)


def test_either_of_two_secrets_will_do_and_any_of_several_signatures() -> None:
    assert standard(HEADERS, BODY, [OTHER, SECRET], NOW)
    several = f"v1a,xxxx v1,AAAA {HEADERS['webhook-signature']}"
    assert standard(HEADERS | {"webhook-signature": several}, BODY, [SECRET], NOW)
    with pytest.raises(InvalidSignatureError):
        standard(HEADERS, BODY, [OTHER], NOW)


def test_the_window_is_five_minutes_to_the_second() -> None:
    for good in (-300, 0, 300):
        assert standard(HEADERS, BODY, [SECRET], NOW + good)
    for late in (-301, 301):
        with pytest.raises(TimestampError, match="301 s"):
            standard(HEADERS, BODY, [SECRET], NOW + late)
    body = b'{"id": "evt_1"}'
    with pytest.raises(TimestampError):
        stripe(stripe_headers(body, NOW - 301), body, ["whsec_stripe"], NOW)


@pytest.mark.parametrize("stamp", ["", "soon", "-1", "1e400", "²", "1" * 40, " 5"])
def test_an_absurd_time_is_refused_even_when_it_is_signed(stamp: str) -> None:
    signed = hmac.digest(base64.b64decode(SECRET[6:]), f"a.{stamp}.".encode() + BODY, sha256)
    headers = {
        "webhook-id": "a",
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }
    with pytest.raises(TimestampError):
        standard(headers, BODY, [SECRET], NOW)


@pytest.mark.parametrize("secret", ["whsec_", "plain", "whsec_***", ""])
def test_a_secret_of_another_kind_is_the_operators_mistake(secret: str) -> None:
    with pytest.raises(SecretError) as caught:
        standard(HEADERS, BODY, [secret], NOW)
    assert not secret or secret not in caught.value.message.replace("whsec_ and", "")


# --- references --------------------------------------------------------------------------------------


def test_a_secret_is_found_where_its_reference_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", "one")
    (tmp_path / "secret").write_text("two\n")
    assert resolve("env:HOOK_SECRET") == "one"
    assert resolve(f"file:{tmp_path}/secret") == "two"


def test_a_secret_that_is_not_there_is_named_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOK_SECRET", raising=False)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for reference in ("env:HOOK_SECRET", f"file:{tmp_path}/empty", f"file:{tmp_path}/none", f"file:{tmp_path}/bytes"):
        with pytest.raises(SecretError, match=reference.partition(":")[2]):
            resolve(reference)


@pytest.mark.parametrize(("content", "secret"), [(b"a\r\n", "a"), (b"a\n\n", "a\n"), (b" a", " a")])
def test_only_the_last_line_end_of_a_file_does_not_count(tmp_path: Path, content: bytes, secret: str) -> None:
    (tmp_path / "secret").write_bytes(content)
    assert resolve(f"file:{tmp_path}/secret") == secret


def test_what_is_no_ordinary_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(SecretError, match="not an ordinary file"):
            resolve(f"file:{place}")


def test_secrets_that_cannot_be_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large").write_bytes(b"s3cret" * LARGEST)
    (tmp_path / "blank").write_bytes(b"  \r\n")
    monkeypatch.setitem(os.environ, "HOOK_SECRET", "s3cret\udcff")
    for reference, words in (
        (f"file:{tmp_path}/large", "more than 65,536 bytes"),
        (f"file:{tmp_path}/blank", "is empty"),
        ("env:HOOK_SECRET", "no UTF-8"),
    ):
        with pytest.raises(SecretError, match=words) as caught:
            resolve(reference)
        assert "s3cret" not in caught.value.message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"secret": "whsec_c2VjcmV0"}, "is not the secret itself"),
        ({"secret": ["env:A", "env:B", "env:C"]}, "one secret, or two"),
        ({"secret": []}, "one secret, or two"),
        ({"secret": "env:A", "scheme": "md5"}, "scheme= is one of github, standard, stripe"),
        ({"secret": "env:A", "scheme": ["standard"]}, "scheme= is one of"),
        ({"secret": 7}, "is not the secret itself"),
        ({"secret": None}, "is not the secret itself"),
        ({"secret": "file:relative"}, "is not the secret itself"),
        ({"secret": "file:/a\0b"}, "is not the secret itself"),
        ({"secret": "env:A\n"}, "is not the secret itself"),
        ({"secret": "env:A", "max_body": 0}, "max_body"),
        ({"secret": "env:A", "max_body": 10**5000}, "max_body"),
        ({"secret": "env:A", "max_body": "9GB"}, "max_body"),
        ({"secret": "env:A", "max_body": "1e400"}, "max_body"),
        ({"secret": "env:A", "max_body": "much"}, "max_body"),
        ({"secret": "env:A", "inputs": lambda: {}}, "has to take the body"),
        ({"secret": "env:A", "inputs": lambda body, *, headers: {}}, "has to take the body"),
        ({"secret": "env:A", "max_body": True}, "max_body"),
        ({"secret": "env:A", "inputs": "map"}, "takes a function"),
        ({"secret": "env:A", "name": "a/b"}, "no trigger name"),
    ],
)
def test_a_webhook_that_cannot_work_is_refused(options: dict[str, object], words: str) -> None:
    name = options.pop("name", "hook")
    with pytest.raises(DefinitionError, match=words) as caught:
        webhook(name, **options)  # type: ignore[arg-type]
    assert "c2VjcmV0" not in caught.value.message


@pytest.mark.parametrize(("written", "meant"), [(1, 1), ("512KB", 512_000), ("1MiB", 1024 * 1024), ("20", 20)])
def test_sizes_are_numbers_or_texts(written: int | str, meant: int) -> None:
    assert webhook("hook", secret="env:A", max_body=written).settings()["max_body"] == meant


@pytest.mark.parametrize("function", [lambda body: body, lambda body, headers: body, lambda *both: both[0]])
def test_functions_of_a_body_and_perhaps_headers_can_map(function: Callable[..., Any]) -> None:
    assert webhook("hook", secret="env:A", inputs=function).settings()["mapped"] is True

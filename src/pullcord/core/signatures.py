"""Who sent a webhook: signatures over the bytes of a body, as Standard Webhooks, GitHub and Stripe make them.

- Standard Webhooks: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
- GitHub: "Validating webhook deliveries" in GitHub's documentation
- Stripe: "Check the webhook signatures" in Stripe's documentation

A signature that has a time in it counts for five minutes in either direction, so that one that was overheard cannot be
used later.
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from pydantic_core import from_json

from pullcord.core.errors import InvalidSignatureError, SecretError, TimestampError

WINDOW: Final = 300
"""Seconds by which a signature's time and the server's may differ."""

LONGEST_ID: Final = 255
"""Characters of a delivery's id."""

_MOST_SIGNATURES: Final = 20


def standard(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: int) -> str:
    """Return the id of a delivery that is signed the Standard Webhooks way.

    Args:
        headers: with lower-case names.
        body: as it was received.
        secrets: any of them may have signed; `whsec_` and the key in base64.
        now: seconds since 1970 UTC.

    Raises:
        InvalidSignatureError: nobody who has a secret signed this.
        TimestampError: it was signed too long ago, or will be.
        SecretError: a secret is none of this kind.
    """
    identity, stamp = _identity(headers.get("webhook-id")), headers.get("webhook-timestamp", "")
    given = [part.partition(",")[2] for part in _parts(headers, "webhook-signature", " ") if part.startswith("v1,")]
    keys = [_whsec(secret) for secret in secrets]
    signed = f"{identity}.{stamp}.".encode() + body
    _check(keys, signed, given, b64encode, "webhook-signature")
    _in_time(stamp, now)
    if "." in identity:
        # "id.timestamp.body" could be taken apart in another way, with another id; the specification rules dots out.
        raise InvalidSignatureError("the delivery's id has a dot in it, which Standard Webhooks rules out")
    return identity


def sign(identity: str, body: bytes, secrets: Sequence[str], now: int) -> dict[str, str]:
    """Return the headers that sign a body the Standard Webhooks way.

    Args:
        identity: the delivery's id, the same at every try.
        body: the very bytes that are sent.
        secrets: each signs, so that receivers can change from one to the next.
        now: seconds since 1970 UTC.

    Raises:
        SecretError: a secret is none of this kind.
    """
    signed = f"{identity}.{now}.".encode() + body
    made = ["v1," + b64encode(hmac.digest(_whsec(secret), signed, sha256)).decode() for secret in secrets]
    return {"webhook-id": identity, "webhook-timestamp": str(now), "webhook-signature": " ".join(made)}


def github(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: int) -> str:
    """Return the id of a delivery that GitHub signed; its signatures have no time. See `standard`."""
    given = headers.get("x-hub-signature-256", "")
    signatures = [given.removeprefix("sha256=")] if given.startswith("sha256=") else []
    _check([secret.encode() for secret in secrets], body, signatures, _hex, "x-hub-signature-256")
    return _identity(headers.get("x-github-delivery"))


def stripe(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: int) -> str:
    """Return the id of an event that Stripe signed; it is in the body. See `standard`."""
    parts = [part.strip().partition("=") for part in _parts(headers, "stripe-signature", ",")]
    stamps = [value for key, _, value in parts if key == "t"]
    stamp = stamps[0] if len(stamps) == 1 else ""
    given = [value for key, _, value in parts if key == "v1"]
    _check([secret.encode() for secret in secrets], f"{stamp}.".encode() + body, given, _hex, "stripe-signature")
    _in_time(stamp, now)
    return _identity(_id_in(body))


Verify = Callable[[Mapping[str, str], bytes, Sequence[str], int], str]
SCHEMES: Final[Mapping[str, Verify]] = {"standard": standard, "github": github, "stripe": stripe}
"""How deliveries may be signed."""


def _check(
    keys: Sequence[bytes], signed: bytes, given: Sequence[str], write: Callable[[bytes], bytes], header: str
) -> None:
    if not all(keys):
        raise SecretError("a secret is empty, and anybody can sign with that; set it")
    if not given:
        raise InvalidSignatureError(f"there is no signature in {header}; is this hook's scheme the sender's?")
    made = [write(hmac.digest(key, signed, sha256)) for key in keys]
    # Compared as text, of which a signature has one; decoders take several for the same. All are compared, in constant
    # time: how long it takes says nothing about which was nearly right.
    good = [hmac.compare_digest(ours, theirs.encode()) for ours in made for theirs in given[:_MOST_SIGNATURES]]
    if not any(good):
        raise InvalidSignatureError(
            f"the signature in {header} does not fit the body: sender and server have different secrets, or somebody "
            "on the way changed the body"
        )


def _in_time(stamp: str, now: int) -> None:
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise TimestampError("the time of the signature is not a number of seconds since 1970")
    late = now - int(stamp)
    if abs(late) > WINDOW:
        raise TimestampError(
            f"the signature is from {abs(late)} s {'ago' if late > 0 else 'ahead'}, more than {WINDOW} s; look at the "
            "clocks of sender and server"
        )


def _identity(value: Any) -> str:
    if not isinstance(value, str) or not value or len(value) > LONGEST_ID or not value.isprintable():
        raise InvalidSignatureError(f"the delivery has no id of 1 to {LONGEST_ID} printable characters")
    return value


def _id_in(body: bytes) -> Any:
    try:
        event = from_json(body)
    except ValueError:
        return None
    return event.get("id") if isinstance(event, dict) else None


def _parts(headers: Mapping[str, str], name: str, separator: str) -> list[str]:
    return [part for part in headers.get(name, "").split(separator) if part]


def _base64(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return b""


def _hex(digest: bytes) -> bytes:
    return digest.hex().encode()


def _whsec(secret: str) -> bytes:
    key = _base64(secret.removeprefix("whsec_"))
    if not key:
        raise SecretError("the secret of a Standard Webhooks hook is whsec_ and a key in base64; correct it")
    return key

"""Canonical JSON and fingerprints: equal values have equal text, whoever wrote them.

Sorted keys, UTF-8, exact integers of any size, shortest floats. NaN, infinities and lone surrogates
are refused. This is not RFC 8785, whose doubles would merge neighbouring 64-bit ids.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from pydantic_core import from_json

from pullcord.core.errors import UsageError

_encode = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=True
).encode


def canonical_json(value: Any) -> str:
    """Write a JSON-like value as canonical text.

    Args:
        value: anything made of dicts with string keys, lists, strings, numbers, booleans and None.

    Raises:
        UsageError: the value holds NaN, an infinity, a lone surrogate, a type JSON does not know,
            is nested too deeply, or contains itself.
    """
    try:
        text = _encode(value)
        text.encode()
    except UnicodeEncodeError:
        raise UsageError("the value holds a lone surrogate; send text as well-formed Unicode") from None
    except (ValueError, TypeError) as error:
        raise UsageError(f"the value cannot be written as JSON: {error}") from None
    except RecursionError:
        raise UsageError("the value is nested too deeply; send a flatter one") from None
    return text


def parse_json(body: bytes | str) -> Any:
    """Read JSON text strictly: no NaN or Infinity, no lone surrogates, bounded depth and digits.

    Raises:
        UsageError: the text is not valid JSON; the message says where.
    """
    try:
        value = from_json(body.encode() if isinstance(body, str) else body, allow_inf_nan=False)
    except ValueError as error:
        raise UsageError(f"this is not valid JSON: {error}") from None
    canonical_json(value)  # 1e999 reads as an infinity
    return value


def fingerprint(text: str) -> str:
    """Return the SHA-256 of canonical JSON text as 64 hexadecimal digits."""
    return sha256(text.encode()).hexdigest()

"""JSON that others will read: what pydantic's parser refuses must not be written in the first place.

It refuses deep nesting, whole numbers of more than 4300 digits, and text with lone surrogates. The server kills a
worker that sends such JSON, so it is found where the flow says it, and the flow gets an error there.
"""

from __future__ import annotations

from typing import Final

from pydantic_core import from_json

SHORT: Final = 200
"""JSON up to this length, in bytes, can hold neither a number too long to be read back nor too many brackets."""

_REASONS: Final = {
    "recursion limit": "nested too deeply",
    "number out of range": "a number with too many digits",
    "lone leading surrogate": "a text with a lone surrogate",
    "unexpected end of hex escape": "a text with a lone surrogate",
}


def misread(data: str | bytes) -> str | None:
    """Say why JSON that was written could not be read back; None where it can."""
    try:
        from_json(data)
    except ValueError as error:
        text = str(error)
        return next((reason for said, reason in _REASONS.items() if text.startswith(said)), text)
    return None

"""SQL for many rows at once: a JSON parameter becomes a table of rows inside one statement.

`executemany` gives up the interpreter lock at every row, and beside a busy thread each return costs a switch
interval; one statement over `json_each` gives it up once (design: group commit).
"""

from __future__ import annotations

import re
from typing import Any

from pydantic_core import from_json, to_json

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""An escaped NUL that is no part of an escaped backslash: JSON within JSON may well speak of NULs."""


def rows(columns: str, parameter: str = "rows") -> str:
    """Return the SQL of a table made from a parameter that holds a JSON array of arrays.

    Args:
        columns: the names of the inner arrays' values, in order, separated by spaces.
        parameter: name of the bound parameter.
    """
    values = ", ".join(f"json_extract(value, '$[{index}]') AS {name}" for index, name in enumerate(columns.split()))
    return f"(SELECT {values} FROM json_each(:{parameter}))"


def values(parameter: str) -> str:
    """Return the SQL of a sub-select of the values in a JSON array parameter, for use after IN."""
    return f"(SELECT value FROM json_each(:{parameter}))"


def dump(value: Any) -> str:
    """Write rows for a parameter.

    Raises:
        ValueError: a text holds a NUL or a lone surrogate, which a database cuts or refuses.
    """
    text = to_json(value).decode()
    if "\\u0000" in text and _NUL.search(text):
        raise ValueError("a text holds a NUL character")
    return text


def load(text: str | None) -> list[Any]:
    """Read what `json_group_array` gave."""
    result: list[Any] = from_json(text) if text else []
    return result

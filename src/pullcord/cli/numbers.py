"""Numbers as they were typed: JSON reads `1.50` as a float, and a Decimal must not lose digits on that way.

Where a schema takes a number and text too, as that of a Decimal does, a number that a float would change travels as
the text that was typed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pullcord.cli.schemas import BRANCHES, Schema, resolved


class _Typed(float):
    """A number, and the text that it was read from."""

    text: str

    def __new__(cls, text: str) -> _Typed:
        found = super().__new__(cls, text)
        found.text = text
        return found


def read_json(text: str, schema: Schema) -> Any:
    """Read JSON in which a number stays text where the schema takes text too and a float would change it.

    Args:
        text: the JSON.
        schema: what the value has to fit; empty when it is not known. Its references lead into itself.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is nested too deeply.
    """
    value = json.loads(text, parse_constant=_no_constant, parse_float=_Typed)
    return _kept(value, [schema], schema)


def _kept(value: Any, schemas: list[Schema], root: Schema) -> Any:
    """Return a value with its numbers as any of the schemas wants them: which one is meant, the server finds out."""
    if isinstance(value, _Typed):
        return _number(value, list(_branches(schemas, root)))
    if not schemas:
        return value
    if isinstance(value, dict):
        branches = list(_branches(schemas, root))
        return {name: _kept(item, _of_property(branches, name), root) for name, item in value.items()}
    if isinstance(value, list):
        branches = list(_branches(schemas, root))
        return [_kept(item, _of_item(branches, place), root) for place, item in enumerate(value)]
    return value


def _number(value: _Typed, branches: list[Schema]) -> float | str:
    number = float(value)
    if repr(number) == value.text or not any(_takes(branch, "number") for branch in branches):
        return number
    fits = any(_takes(branch, "string") and _matches(branch, value.text) for branch in branches)
    return value.text if fits else number


def _takes(branch: Schema, kind: str) -> bool:
    kinds = branch.get("type")
    return kind == kinds if isinstance(kinds, str) else isinstance(kinds, list) and kind in kinds


def _matches(branch: Schema, text: str) -> bool:
    if "enum" in branch or "const" in branch:
        return False
    try:
        return "pattern" not in branch or re.search(branch["pattern"], text) is not None
    except re.error:  # JSON Schema has other expressions than Python
        return True


def _branches(schemas: list[Schema], root: Schema) -> Iterator[Schema]:
    for schema in schemas:
        part = resolved(schema, root)
        yield part
        for word in BRANCHES:
            yield from _branches(part.get(word, []), {})


def _of_property(branches: list[Schema], name: str) -> list[Schema]:
    found = [branch.get("properties", {}).get(name, branch.get("additionalProperties")) for branch in branches]
    return _different(found)


def _of_item(branches: list[Schema], place: int) -> list[Schema]:
    found = []
    for branch in branches:
        first = branch.get("prefixItems", [])
        found.append(first[place] if place < len(first) else branch.get("items"))
    return _different(found)


def _different(found: list[Any]) -> list[Schema]:
    # Branches of a recursive type lead to the same schema again, and would be twice as many on each level.
    different: list[Schema] = []
    for part in found:
        if isinstance(part, dict) and part not in different:
            different.append(part)
    return different


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")

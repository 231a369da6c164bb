"""Inputs from the command line: `--input k=v` read as the flow's schema wants it, and files of JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pullcord.cli.numbers import read_json
from pullcord.cli.schemas import Schema, resolved
from pullcord.core.errors import UsageError

_NAMES = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
    type(None): "null",
}


def read_inputs(pairs: list[str] | None, file: str | None, schema: Schema | None) -> dict[str, Any]:
    """Gather the inputs; single ones go before the file's.

    Args:
        pairs: `name=value`.
        file: a path, or `-` for stdin.
        schema: the flow's input schema, where it is known.

    Raises:
        UsageError: something cannot be read.
    """
    inputs = {} if file is None else _from_file(file, schema or {})
    given: set[str] = set()
    for pair in pairs or []:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"--input {pair[:60]!r} is not NAME=VALUE; write it like --input day=2030-01-31")
        if name in given:
            raise UsageError(f"--input {name} is given twice; a list is written as JSON, like --input '{name}=[1, 2]'")
        given.add(name)
        inputs[name] = value_of(text, property_of(schema, name))
    return inputs


def value_of(text: str, schema: Schema) -> Any:
    """Read one value: text where the schema wants text, JSON where it parses, text otherwise."""
    types = accepted_types(schema)
    if types and types <= {"string"}:
        return text
    try:
        value = read_json(text, schema)
    except (ValueError, RecursionError):
        return text
    if "string" not in types:
        return value
    # Text is welcome too, so JSON is only what the other types ask for by name: `null` or `5`, not `"5"`.
    kind = _NAMES[type(value)]
    fits = kind in types or (kind == "integer" and "number" in types)
    return value if fits and kind != "string" else text


def accepted_types(schema: Schema) -> set[str]:
    """Return the JSON types that a property accepts; empty when it accepts anything."""
    if "enum" in schema or "const" in schema:
        return {_NAMES[type(value)] for value in schema.get("enum", [schema.get("const")])}
    kinds = schema.get("type")
    if kinds is not None:
        return {kinds} if isinstance(kinds, str) else set(kinds)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            parts = [accepted_types(part) for part in schema[word]]
            return set().union(*parts) if all(parts) else set()
    if "allOf" in schema:
        return next((types for types in map(accepted_types, schema["allOf"]) if types), set())
    return set()


def property_of(schema: Schema | None, name: str) -> Schema:
    """Return the schema of one input, with its own references resolved; empty when it is not known."""
    if schema is None:
        return {}
    found = schema.get("properties", {}).get(name)
    if not isinstance(found, dict):
        return {}
    definitions = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    return resolved(found, schema) | definitions  # deeper references lead there


def missing(schema: Schema, inputs: dict[str, Any]) -> list[str]:
    """Return the names of required inputs that are not given, in the order of the flow's parameters."""
    required = set(schema.get("required", []))
    return [name for name in schema.get("properties", {}) if name in required and name not in inputs]


def _from_file(file: str, schema: Schema) -> dict[str, Any]:
    where = "stdin" if file == "-" else file
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        value = read_json(text, schema)
    except OSError as error:
        raise UsageError(f"{where} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} holds no valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise UsageError(f"{where} must hold a JSON object of inputs, not {_NAMES[type(value)]}")
    return value

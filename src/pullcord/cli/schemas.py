"""The JSON Schemas of inputs and answers, as far as the command line looks into them."""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

BRANCHES: Final = ("anyOf", "oneOf", "allOf")
"""The words under which a schema lists others."""


def resolved(part: Schema, root: Schema, depth: int = 0) -> Schema:
    """Replace `$ref` by what it names, as deep as a question to a person needs."""
    while isinstance(part.get("$ref"), str) and depth < 20:
        target: Any = root
        for step in part["$ref"].removeprefix("#/").split("/"):
            target = target.get(step, {}) if isinstance(target, dict) else {}
        part = {**target, **{key: value for key, value in part.items() if key != "$ref"}}
        depth += 1
    result = dict(part)
    for word in BRANCHES:
        if word in part and depth < 20:
            result[word] = [resolved(item, root, depth + 1) for item in part[word]]
    return result

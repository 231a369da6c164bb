"""A step's identity: its parent, name, hash of arguments and occurrence, or an explicit key.

The same call in a replay must get the same identity in another process, so nothing here may depend
on memory addresses, hash seeds or the order of a set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from typing import Any
from uuid import UUID, uuid5

from pydantic import BaseModel
from pydantic_core import to_json

_PLAIN = (str, int, float, bool, type(None))
_PLAIN_TYPES = frozenset(_PLAIN)


def identity(parent: str, name: str, arguments: bytes) -> str:
    """Return the identity of the first such call under a parent step, as 24 hexadecimal digits.

    Args:
        parent: identity of the enclosing step, or "" directly under the flow.
        name: the step's name.
        arguments: what `argument_bytes` made of the call, or the explicit key.
    """
    return blake2b(b"%b\0%b\0%b" % (parent.encode(), name.encode(), arguments), digest_size=12).hexdigest()


def child_request(parent: str, identity: str, attempt: int) -> str:
    """Return the request id of a child run: a parent that goes on elsewhere finds the child that it had started.

    Args:
        parent: id of the parent run.
        identity: the call.
        attempt: the attempt of the parent that asks; one that tries a child anew asks under an id of its own.
    """
    return str(uuid5(UUID(parent), identity if attempt == 1 else f"{identity}/{attempt}"))


def argument_bytes(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """Write the arguments of a call as bytes that are equal for equal arguments.

    What JSON cannot hold counts by its type alone: two such calls are then told apart by their order.
    """
    stable: Any = args
    if kwargs or not _PLAIN_TYPES.issuperset(map(type, args)):
        stable = [_stable(value) for value in args], {name: _stable(kwargs[name]) for name in sorted(kwargs)}
    return _written(stable)


def _written(value: Any) -> bytes:
    try:
        return to_json(value, inf_nan_mode="constants")
    except ValueError:
        # Lone surrogates, as in the names of some files: Python's own notation can hold them.
        return ascii(value).encode()


def _stable(value: Any, depth: int = 0) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if depth > 50:
        return "<deep>"
    if isinstance(value, BaseModel):
        return {name: _stable(item, depth + 1) for name, item in value}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _stable(getattr(value, field.name), depth + 1) for field in fields(value)}
    if isinstance(value, Mapping):
        pairs = [(_written(_stable(key, depth + 1)).decode(), _stable(item, depth + 1)) for key, item in value.items()]
        return dict(sorted(pairs, key=lambda pair: pair[0]))
    if isinstance(value, Set):
        return sorted(_written(_stable(item, depth + 1)).decode() for item in value)
    if isinstance(value, list | tuple):
        return [_stable(item, depth + 1) for item in value]
    try:
        # Writing an iterator would use it up before the step gets it.
        if not isinstance(value, Iterator):
            return to_json(value).decode()
    except ValueError:
        pass
    return f"<{type(value).__module__}.{type(value).__qualname__}>"

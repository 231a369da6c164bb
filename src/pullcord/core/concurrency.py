"""How many runs may be active at once, counted how, and what becomes of those that are too many (design rule 8)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from string import Formatter
from typing import Any, Final

from pydantic_core import from_json

from pullcord.core.canonical import canonical_json
from pullcord.core.errors import DefinitionError
from pullcord.core.trigger import NAME_RULE

LONGEST_KEY: Final = 200
"""Characters; of a longer key, and of one with a NUL in it, its digest is used."""

_PATH: Final = re.compile(r"\.([^.\[\]]+)|\[([^\[\]]+)\]")


class OnConflict(StrEnum):
    """What becomes of a request while all slots of its key are taken."""

    QUEUE = "queue"
    SKIP = "skip"
    REJECT = "reject"
    BUFFER_ONE = "buffer_one"
    CANCEL_RUNNING = "cancel_running"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True)
class Group:
    """A limit that several flows share.

    Args:
        name: by which flows of other files and locations can join it.
        limit: how many of their runs may be active at once, together.
    """

    name: str
    limit: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME_RULE.fullmatch(self.name):
            raise DefinitionError(f"{self.name!r} is no name of a group: letters, digits, dots, dashes, underscores")
        if self.limit is not None:
            _check_limit(self.limit, "the limit of a group")


@dataclass(frozen=True, slots=True, init=False)
class Concurrency:
    """How many runs of a flow may be active at once.

    Args:
        limit: how many, for each value of `key`; None is no limit.
        key: a pattern over the inputs such as `"{region}"` or `"{customer.id}"`: each value has a limit of its own, and
            values take turns. One limit for all runs unless given.
        on_conflict: what becomes of a request while the limit is reached. `queue`: it waits in order. `skip`: it is
            recorded as skipped. `reject`: it is refused. `buffer_one`: one waits, further ones are skipped.
            `cancel_running`: it takes the place of the oldest. `allow`: it runs all the same.
        group: a limit that the flow shares with others: a `Group`, or the name of one.

    Raises:
        DefinitionError: the values make no sense.
    """

    limit: int | None
    key: str | None
    on_conflict: OnConflict
    group: Group | None

    def __init__(
        self,
        limit: int | None = 1,
        key: str | None = None,
        on_conflict: str = "queue",
        group: str | Group | None = None,
    ) -> None:
        if limit is not None:
            _check_limit(limit, "concurrency")
        if key is not None:
            _check_key(key)
        if on_conflict not in tuple(OnConflict):
            raise DefinitionError(f"on_conflict must be one of {', '.join(OnConflict)}, not {on_conflict!r}")
        if group is not None and not isinstance(group, str | Group):
            raise DefinitionError(f"group must be a name or a Group, not {group!r}")
        object.__setattr__(self, "limit", None if on_conflict == OnConflict.ALLOW else limit)
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "on_conflict", OnConflict(on_conflict))
        object.__setattr__(self, "group", Group(group) if isinstance(group, str) else group)

    def check_parameters(self, parameters: Collection[str]) -> None:
        """Refuse a key that names no parameter of the flow.

        Raises:
            DefinitionError: it names none.
        """
        for name in _fields(self.key or ""):
            first = re.split(r"[.\[]", name, maxsplit=1)[0]
            if first not in parameters:
                known = ", ".join(parameters) or "none"
                raise DefinitionError(
                    f"the concurrency key {self.key!r} names {first!r}; the flow's parameters: {known}"
                )

    @property
    def counted(self) -> bool:
        """Whether runs have to be counted at all."""
        return self.limit is not None or self.key is not None or self.group is not None

    @property
    def shared(self) -> str | None:
        """The name under which runs of all flows of the group are counted."""
        return None if self.group is None else group_key(self.group.name)

    def slot(self, flow: str, inputs: str, limited: bool = False) -> str | None:
        """Return the name under which a run is counted: the flow's, and the value of its key. None is no limit.

        Args:
            flow: the flow's name.
            inputs: as validated, JSON.
            limited: somebody has given the flow a limit that its code does not have.
        """
        if self.key is None:
            return flow if limited or self.counted else None
        value = _Values().vformat(self.key, (), from_json(inputs))
        # JSON may speak of NULs, a text in the database has none.
        if len(value) > LONGEST_KEY or "\0" in value:
            value = sha256(value.encode()).hexdigest()
        return f"{flow}/{value}"

    def as_json(self) -> dict[str, Any]:
        """Return the settings as a JSON object, as manifests carry them."""
        group = None if self.group is None else {"name": self.group.name, "limit": self.group.limit}
        return {"limit": self.limit, "key": self.key, "on_conflict": self.on_conflict, "group": group}


def concurrency_of(value: object) -> Concurrency:
    """Read what a decorator was given, or what a manifest carries: a limit, None, a `Concurrency`, its JSON object.

    Raises:
        DefinitionError: it is none of these.
    """
    if isinstance(value, Concurrency):
        return value
    if isinstance(value, Mapping):
        return _read(value)
    if value is None:
        return UNLIMITED
    _check_limit(value, "concurrency")
    assert isinstance(value, int)
    return Concurrency(value)


def _read(value: Mapping[str, Any]) -> Concurrency:
    given = dict(value)
    group = given.get("group")
    try:
        if isinstance(group, Mapping):
            given["group"] = Group(**group)
        return Concurrency(**given)
    except TypeError:
        known = ", ".join(Concurrency.__slots__)
        raise DefinitionError(
            f"concurrency is a number, None or a pc.Concurrency with {known}, not {dict(value)!r}"
        ) from None


def flow_of(slot: str) -> str:
    """Return the flow whose limit a slot counts against; no flow's name has a slash in it."""
    return slot.partition("/")[0]


def group_key(name: str) -> str:
    """Return the name of a group among those of flows, which have no colon in them."""
    return f"group:{name}"


def _check_limit(value: object, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31 - 1:
        raise DefinitionError(f"{what} must be a whole number of at least 1, or None for no limit, not {value!r}")


def _check_key(key: object) -> None:
    if not isinstance(key, str):
        raise DefinitionError(f"a concurrency key is a pattern over the inputs such as '{{region}}', not {key!r}")
    try:
        fields = _fields(key)
    except ValueError as error:
        raise DefinitionError(f"the concurrency key {key!r} cannot be read: {error}") from None
    if not fields:
        raise DefinitionError(f"the concurrency key {key!r} names no input; write for example '{{region}}'")


def _fields(pattern: str) -> list[str]:
    """Return the inputs that a pattern names.

    Raises:
        ValueError: it is no pattern, or has formats and conversions, which JSON values do not need.
    """
    found = []
    for _, name, form, conversion in Formatter().parse(pattern):
        if name is None:
            continue
        first = re.split(r"[.\[]", name, maxsplit=1)[0]
        if form or conversion:
            raise ValueError("formats and conversions are not supported")
        if not first.isidentifier() or _PATH.sub("", name[len(first) :]):
            raise ValueError(f"{name!r} is no path to an input")
        found.append(name)
    return found


class _Values(Formatter):
    """Writes JSON values into a pattern. What is not there counts as null: inputs may be optional."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        first = re.split(r"[.\[]", field_name, maxsplit=1)[0]
        value = kwargs.get(first)
        for name, index in _PATH.findall(field_name[len(first) :]):
            part = name or index
            if isinstance(value, dict):
                value = value.get(part)
            elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
                value = value[int(part)]
            else:
                value = None
        return value, first

    def format_field(self, value: Any, format_spec: str) -> str:
        return value if isinstance(value, str) else canonical_json(value)


UNLIMITED: Final = Concurrency(None)
"""What `concurrency=None` says."""

NO_LIMIT: Final = 2**31 - 1
"""How many runs may be active where there is no limit."""

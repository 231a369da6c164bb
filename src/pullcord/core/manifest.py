"""What the server knows about the code of a location: the manifest its control worker reports."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pullcord.core.concurrency import Concurrency, concurrency_of
from pullcord.core.quotas import Quotas
from pullcord.core.retry import NO_RETRY, Retry

SHARED_SYNC, SHARED_ASYNC, ISOLATED = "sync", "async", "isolated"
"""The three lanes of a location: sync flows in threads, async flows on a loop, a process for each run."""


REMOVED = "removed"
"""The lane of runs that were queued when their flow was taken away; no worker serves it."""

PAUSED = "paused"
"""The lane of runs without a limit that are queued while their flow is paused; no worker serves it."""


@dataclass(frozen=True)
class FlowSpec:
    """One flow as the server sees it, without its code.

    Attributes:
        name: unique among all locations.
        location: name of the code location it comes from.
        version: given, or the hash of its module's source.
        place: `file:line` of the function.
        description: Markdown.
        input_schema: JSON Schema of the inputs.
        settings: as declared, JSON.
        is_async: whether it runs on an event loop.
    """

    name: str
    location: str
    version: str
    place: str
    description: str
    input_schema: dict[str, Any]
    settings: dict[str, Any]
    is_async: bool

    @cached_property
    def concurrency(self) -> Concurrency:
        """How many runs may be active at once, counted how."""
        return concurrency_of(self.settings.get("concurrency"))

    @cached_property
    def lane(self) -> str:
        """The dispatch lane of an ordinary run: location and way of running."""
        if self.settings.get("isolated"):
            return lane(self.location, ISOLATED)
        return lane(self.location, SHARED_ASYNC if self.is_async else SHARED_SYNC)

    @property
    def retry(self) -> Retry:
        """When a failed run gets a new attempt."""
        given = self.settings.get("retries")
        return Retry(**given) if given else NO_RETRY

    @cached_property
    def quotas(self) -> Quotas:
        """What it takes at most."""
        return Quotas.read(self.settings)

    @property
    def tags(self) -> list[str]:
        """Words to find the flow by."""
        tags: list[str] = self.settings.get("tags", [])
        return tags


@dataclass(frozen=True, slots=True)
class LoadFailure:
    """A file that did not import, or a flow that could not be registered.

    Attributes:
        place: file and line as the user knows them.
        message: the error in a line.
        traceback: cut to the user's own frames.
    """

    place: str
    message: str
    traceback: str


def lane(location: str, way: str) -> str:
    """Name a dispatch lane."""
    return f"{location}#{way}"


@dataclass(frozen=True, slots=True)
class TriggerSpec:
    """A trigger as the code declares it, without the code.

    Attributes:
        name: unique among all locations.
        kind: `cron`, `interval`, `at`, `event`, `webhook` or `completion`.
        location: name of the code location it comes from.
        flows: what it asks for, by name.
        place: `file:line` of the declaration.
        description: Markdown.
        enabled: whether it asks from the start.
        parameters: fixed inputs, or the arguments of an event, canonical JSON.
        settings: what is particular to its kind, canonical JSON.
    """

    name: str
    kind: str
    location: str
    flows: tuple[str, ...]
    place: str
    description: str
    enabled: bool
    parameters: str
    settings: str

"""What every trigger kind implements."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Protocol


class Trigger(Protocol):
    """Something that asks for runs."""

    def init(self, deps: Mapping[str, Any]) -> None:
        """Take what it needs; `deps["scheduler"]` is where it enqueues.

        Raises:
            PullcordRuntimeError: something it needs is missing.
        """

    def start(self) -> None:
        """Begin to ask. It is called on the server's event loop."""

    def stop(self) -> Awaitable[None] | None:
        """Stop asking; what is returned is awaited."""

    def routes(self) -> list[Any]:
        """Return HTTP routes it wants served (Starlette's). They look after credentials themselves."""

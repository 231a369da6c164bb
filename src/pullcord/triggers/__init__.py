"""What asks for runs: the `Trigger` protocol and its kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pullcord.triggers.manual import ManualTrigger as ManualTrigger

__all__ = ["ManualTrigger"]


def __getattr__(name: str) -> Any:
    if name == "ManualTrigger":
        from pullcord.triggers.manual import ManualTrigger

        return ManualTrigger
    raise AttributeError(f"module 'pullcord.triggers' has no attribute {name!r}")

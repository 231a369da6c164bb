"""What cancelling means to a step, and what a run that was cut off says about the steps it was inside of."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from string import Formatter
from typing import Any, Final, Literal, get_args

from pullcord.core.errors import DefinitionError

OnCancel = Literal["stop", "finish"]
"""`stop`: async code is interrupted, and a sync step ends the run when it is over. `finish`: the step is let run to its
end and recorded, and then the run is cancelled."""

Writes = str | Sequence[str]

MOST: Final = 10
"""How many things a text names of one step; of more it says how many there are."""

_LONGEST: Final = 500


def on_cancel_of(value: str) -> OnCancel:
    """Return what `on_cancel=` says.

    Raises:
        DefinitionError: it is neither `stop` nor `finish`.
    """
    if value == "finish":
        return "finish"
    if value == "stop":
        return "stop"
    raise DefinitionError(f"on_cancel must be {' or '.join(map(repr, get_args(OnCancel)))}, not {value!r}")


def writes_of(value: Writes | None, signature: inspect.Signature, step: str) -> tuple[str, ...]:
    """Return what `writes=` names, as patterns over the step's parameters.

    Raises:
        DefinitionError: it is no text and no list of texts, or a pattern names a parameter the step does not have.
    """
    if value is None:
        return ()
    patterns = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else ()
    if not patterns or not all(isinstance(pattern, str) and pattern for pattern in patterns):
        raise DefinitionError(f"writes of step {step!r} must be a text or a list of texts, not {value!r}")
    for pattern in patterns:
        try:
            fields = [field for _, field, _, _ in Formatter().parse(pattern) if field is not None]
        except ValueError as error:
            raise DefinitionError(f"writes of step {step!r}: {pattern!r} is no pattern: {error}") from None
        for field in fields:
            name = field.partition(".")[0].partition("[")[0]
            if name not in signature.parameters:
                raise DefinitionError(f"writes of step {step!r} names {name!r}, and the step has no such parameter")
    return patterns


def filled(patterns: Iterable[str], arguments: Mapping[str, Any]) -> list[str]:
    """Return the patterns with the arguments of a call in them; one that does not fit stays as it is."""
    texts: list[str] = []
    for pattern in patterns:
        try:
            text = pattern.format(**arguments)
        except Exception:  # user code formats its own objects, and this is only a note
            text = pattern
        texts.append(text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()[:_LONGEST])
    return texts


def partial_of(interrupted: Iterable[tuple[str, Sequence[str]]]) -> dict[str, Any]:
    """Return what a run says of the steps that were interrupted when it ended.

    Args:
        interrupted: name of each, and what it may have left half-written, in the order they began.

    Returns:
        `{"steps": [names], "text": …}`, each name once.
    """
    calls: dict[str, int] = {}
    writes: dict[str, dict[str, None]] = {}
    for name, texts in interrupted:
        calls[name] = calls.get(name, 0) + 1
        writes.setdefault(name, {}).update(dict.fromkeys(texts))
    parts = [_sentence(name, count, list(writes[name])) for name, count in calls.items()]
    return {"steps": list(calls), "text": "; ".join(parts)}


def _sentence(name: str, count: int, texts: list[str]) -> str:
    text = f"step {name} was interrupted" + (f" in {count} calls" if count > 1 else "")
    if not texts:
        return text
    more = f" and {len(texts) - MOST} more" if len(texts) > MOST else ""
    return f"{text} and may have left {', '.join(texts[:MOST])}{more} half-written"

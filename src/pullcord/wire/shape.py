"""What a message of a worker must look like. Users' code runs beside the channel, so the server trusts none of it.

A message that does not fit costs the worker that sent it its life, and nobody else anything (design rule 12). What
others will read again, namely JSON text that goes into the database, is parsed here once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pydantic_core import from_json

from pullcord.core.artifact import SHA256, check_name
from pullcord.core.context import MAX_AMOUNT
from pullcord.core.errors import UsageError
from pullcord.core.states import RunState, StepState
from pullcord.wire import messages as kinds
from pullcord.wire.frames import Message

PARSED: Final = 1_000_000
"""A result is parsed up to this many characters; a longer one would hold up the server, and only its readers see it."""

_YEAR_10000: Final = 253_402_300_800_000_000
_ENDS: Final = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED})
_STEP_STATES: Final = frozenset(StepState)

Fits = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return type(value) is str


def _whole(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _number(value: Any) -> bool:
    return type(value) is int or type(value) is float


def _amount(value: Any) -> bool:
    return (type(value) is int or type(value) is float) and abs(value) <= MAX_AMOUNT  # which NaN is not


def _words(value: Any) -> bool:
    return type(value) is str and "\0" not in value


def _time(value: Any) -> bool:
    return type(value) is int and 0 <= value < _YEAR_10000


def _length(value: Any) -> bool:
    return type(value) is int and 0 <= value < _YEAR_10000 // 2


def _dictionary(value: Any) -> bool:
    return type(value) is dict


def _maybe(fits: Fits) -> Fits:
    return lambda value: value is None or fits(value)


def _listed(fits: Fits) -> Fits:
    return lambda value: type(value) is list and all(map(fits, value))


def _some(fits: Fits) -> Fits:
    return lambda value: _listed(fits)(value) and len(value) > 0


def _row(*fields: Fits) -> Fits:
    return lambda value: (
        type(value) is list
        and len(value) == len(fields)
        and all(fits(item) for fits, item in zip(fields, value, strict=True))
    )


def _keys(**fields: Fits) -> Fits:
    return lambda value: (
        type(value) is dict and all(name in value and fits(value[name]) for name, fits in fields.items())
    )


def _json(fits: Fits) -> Fits:
    def parsed(value: Any) -> bool:
        if type(value) is not str:
            return False
        try:
            return fits(from_json(value))
        except ValueError:
            return False

    return parsed


def _artifact_name(value: Any) -> bool:
    try:
        return bool(check_name(value))
    except UsageError:
        return False


def _hash(value: Any) -> bool:
    return type(value) is str and SHA256.fullmatch(value) is not None


def _size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _anything(_: Any) -> bool:
    return True


_RESULT: Final = _maybe(lambda value: type(value) is str and (len(value) > PARSED or _json(_anything)(value)))
_ERROR: Final = _maybe(_json(_keys(type=_text, message=_text)))
_FIELD_ERROR: Final = _keys(loc=_listed(lambda part: _text(part) or _whole(part)), msg=_text, type=_text)
_FLOW: Final = _keys(
    name=_text, version=_text, place=_text, description=_text, input_schema=_dictionary, settings=_dictionary,
    is_async=lambda value: type(value) is bool,
)  # fmt: skip
_TRIGGER: Final = _keys(
    name=_text, kind=_text, flows=_listed(_text), place=_text, description=_text,
    enabled=lambda value: type(value) is bool, parameters=_dictionary, settings=_dictionary,
)  # fmt: skip
_CURSOR: Final = _maybe(_json(_anything))
_FIRES: Final = _listed(_row(_json(_dictionary), _maybe(_text)))
_TROUBLE: Final = _keys(
    type=_text, message=_text, permanent=lambda value: type(value) is bool, retry_after=_maybe(_number)
)
_SEEN: Final[Mapping[str, Fits]] = {"fire": _FIRES, "skip": _maybe(_text), "failed": _TROUBLE}
_FAILURE: Final = _keys(place=_text, message=_text, traceback=_text)


def _manifest(value: Any) -> bool:
    if type(value) is not dict:
        return False
    # Only a control worker says what is in its location.
    if "digest" in value and not _text(value["digest"]):
        return False
    parts = (("flows", _FLOW), ("triggers", _TRIGGER), ("failures", _FAILURE))
    return all(type(value.get(name)) is not list or all(map(fits, value[name])) for name, fits in parts)


_SEEING: Final = _row(_text, _anything)


def _seen(value: Any) -> bool:
    return _SEEING(value) and value[0] in _SEEN and _SEEN[value[0]](value[1])


_RESULT_OF_POLL: Final = _row(_whole, _text, _CURSOR, _anything, _whole, lambda stuck: type(stuck) is bool)


def _polled(value: Any) -> bool:
    return _RESULT_OF_POLL(value) and _seen([value[1], value[3]])


SHAPES: Final[Mapping[str, Sequence[Fits]]] = {
    kinds.MANIFEST: (_manifest,),
    kinds.VALIDATED: (_whole, _maybe(_json(_dictionary)), _maybe(_listed(_FIELD_ERROR))),
    kinds.POLLING: (_whole,),
    kinds.POLLED: (_listed(_polled),),
    kinds.MAPPED: (_whole, _seen),
    kinds.STEP: (
        _whole, _whole, _whole, _text, _whole, _text, _whole, _STEP_STATES.__contains__, _time, _maybe(_time), _RESULT,
        _ERROR, _maybe(_json(_listed(_text))),
    ),
    kinds.ARTIFACT: (
        _whole, _whole, _text, _maybe(_text), _artifact_name, _hash,
        _size, _maybe(_text), _maybe(_text),
    ),
    kinds.FINISHED: (_whole, _whole, _ENDS.__contains__, _RESULT, _ERROR),
    kinds.STOPPING: (_whole, _whole, lambda stuck: type(stuck) is bool),
    kinds.ASK: (
        _whole, _whole, _whole, _text, _whole, _text, _maybe(_json(_dictionary)), _json(_dictionary),
        _json(_listed(_text)), _maybe(_length), _maybe(_json(_anything)),
    ),
    kinds.PARKED: (_whole, _whole, _some(_row(_text, _maybe(_time)))),
    kinds.RELEASED: (_whole, _whole),
    kinds.WAITING: (_whole, _whole, _maybe(_text), _maybe(_text)),
    kinds.CHILD: (_whole, _whole, _whole, _text, _json(_dictionary), _text),
    kinds.PROGRESS: (_whole, _whole, _amount, _maybe(_amount), _maybe(_words)),
    kinds.LOG: (_whole, _whole, _listed(_row(_time, _text, _text, _text))),
    kinds.DOOMED: (_text, _whole, _whole, _ERROR),
    kinds.BEAT: (_whole, _number),
}  # fmt: skip
"""The fields of each kind after the kind itself; `hello` is checked by its version alone."""


def misfit(message: Message) -> str | None:
    """Say what is wrong with a message of a worker, or None when it fits."""
    kind = message[0]
    if kind == kinds.HELLO:
        return None if len(message) > 1 and _whole(message[1]) else "hello without a version"
    fields = SHAPES.get(kind) if type(kind) is str else None
    if fields is None:
        return f"{str(kind)[:40]!r} is no kind of message"
    if len(message) != len(fields) + 1:
        return f"{kind} with {len(message) - 1} fields instead of {len(fields)}"
    for index, fits in enumerate(fields, 1):
        try:
            good = fits(message[index])
        except TypeError:  # what cannot be hashed is no state
            good = False
        if not good:
            return f"{kind} with a field {index} that makes no sense"
    return None

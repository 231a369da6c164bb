"""What a message of a worker must look like. Users' code runs beside the channel, so the server trusts none of it.

A message that does not fit costs the worker that sent it its life, and nobody else anything (design rule 12). What
others will read again, namely JSON text that goes into the database, is parsed here once.

Nothing is converted: `true` is no number, and `"1"` none either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic_core import CoreSchema, SchemaValidator, ValidationError, core_schema

from pullcord.core.artifact import SHA256, check_name
from pullcord.core.context import MAX_AMOUNT
from pullcord.core.errors import UsageError
from pullcord.core.states import RunState, StepState
from pullcord.wire import messages as kinds
from pullcord.wire.frames import Message

PARSED: Final = 1_000_000
"""A result is parsed up to this many characters; a longer one would hold up the server, and only its readers see it."""

_YEAR_10000: Final = 253_402_300_800_000_000


def _named(name: str) -> str:
    try:
        return check_name(name)
    except UsageError as error:
        raise ValueError(str(error)) from None


def _keys(**fields: CoreSchema) -> CoreSchema:
    return core_schema.typed_dict_schema({name: core_schema.typed_dict_field(fits) for name, fits in fields.items()})


def _row(*fields: CoreSchema) -> CoreSchema:
    return core_schema.tuple_schema(list(fields), strict=False)  # it comes as a list


def _either(*ways: CoreSchema) -> CoreSchema:
    return core_schema.union_schema(list(ways), mode="left_to_right")


def _says(word: str) -> CoreSchema:
    return core_schema.literal_schema([word])


_maybe = core_schema.nullable_schema
_listed = core_schema.list_schema
_json = core_schema.json_schema

_ANYTHING: Final = core_schema.any_schema()
_BOOLEAN: Final = core_schema.bool_schema()
_TEXT: Final = core_schema.str_schema()
_WORDS: Final = core_schema.str_schema(pattern=r"^[^\x00]*$")
_WHOLE: Final = core_schema.int_schema(ge=-(2**63), le=2**63 - 1)
_SIZE: Final = core_schema.int_schema(ge=0, le=2**63 - 1)
_NUMBER: Final = core_schema.float_schema()
_AMOUNT: Final = core_schema.float_schema(ge=-MAX_AMOUNT, le=MAX_AMOUNT, allow_inf_nan=False)
_TIME: Final = core_schema.int_schema(ge=0, lt=_YEAR_10000)
_LENGTH: Final = core_schema.int_schema(ge=0, lt=_YEAR_10000 // 2)
_DICTIONARY: Final = core_schema.dict_schema()
_HASH: Final = core_schema.str_schema(pattern=f"^{SHA256.pattern}$")
_NAME: Final = core_schema.no_info_after_validator_function(_named, _TEXT)

_STEP_STATE: Final = core_schema.literal_schema([state.value for state in StepState])
_END: Final = core_schema.literal_schema([RunState.SUCCEEDED.value, RunState.FAILED.value, RunState.CANCELLED.value])
_RESULT: Final = _maybe(_either(core_schema.str_schema(min_length=PARSED + 1), _json()))
_ERROR: Final = _maybe(_json(_keys(type=_TEXT, message=_TEXT)))
_FIELD_ERROR: Final = _keys(loc=_listed(_either(_TEXT, _WHOLE)), msg=_TEXT, type=_TEXT)
_FLOW: Final = _keys(
    name=_TEXT, version=_TEXT, place=_TEXT, description=_TEXT, input_schema=_DICTIONARY, settings=_DICTIONARY,
    is_async=_BOOLEAN,
)  # fmt: skip
_TRIGGER: Final = _keys(
    name=_TEXT, kind=_TEXT, flows=_listed(_TEXT), place=_TEXT, description=_TEXT, enabled=_BOOLEAN,
    parameters=_DICTIONARY, settings=_DICTIONARY,
)  # fmt: skip
_FAILURE: Final = _keys(place=_TEXT, message=_TEXT, traceback=_TEXT)
_MANIFEST: Final = core_schema.typed_dict_schema(
    {
        "digest": core_schema.typed_dict_field(_TEXT, required=False),
        "flows": core_schema.typed_dict_field(_listed(_FLOW), required=False),
        "triggers": core_schema.typed_dict_field(_maybe(_listed(_TRIGGER)), required=False),
        "failures": core_schema.typed_dict_field(_listed(_FAILURE), required=False),
    }
)
"""Only a control worker says what is in its location."""

_MAYBE_JSON: Final = _maybe(_json())
_SEEN: Final = {
    "fire": _listed(_row(_json(_DICTIONARY), _maybe(_TEXT))),
    "skip": _maybe(_TEXT),
    "failed": _keys(type=_TEXT, message=_TEXT, permanent=_BOOLEAN, retry_after=_maybe(_NUMBER)),
}
_MAPPED: Final = _either(*[_row(_says(word), what) for word, what in _SEEN.items()])
_POLLED: Final = _either(
    *[_row(_WHOLE, _says(word), _MAYBE_JSON, what, _WHOLE, _BOOLEAN) for word, what in _SEEN.items()]
)


def _message(*fields: CoreSchema) -> SchemaValidator:
    return SchemaValidator(_row(_TEXT, *fields), core_schema.CoreConfig(strict=True))


SHAPES: Final[Mapping[str, SchemaValidator]] = {
    kinds.MANIFEST: _message(_MANIFEST),
    kinds.VALIDATED: _message(_WHOLE, _maybe(_json(_DICTIONARY)), _maybe(_listed(_FIELD_ERROR))),
    kinds.POLLING: _message(_WHOLE),
    kinds.POLLED: _message(_listed(_POLLED)),
    kinds.MAPPED: _message(_WHOLE, _MAPPED),
    kinds.STEP: _message(
        _WHOLE, _WHOLE, _WHOLE, _TEXT, _WHOLE, _TEXT, _WHOLE, _STEP_STATE, _TIME, _maybe(_TIME), _RESULT, _ERROR,
        _maybe(_json(_listed(_TEXT))),
    ),
    kinds.ARTIFACT: _message(
        _WHOLE, _WHOLE, _TEXT, _maybe(_TEXT), _NAME, _HASH, _SIZE, _maybe(_TEXT), _maybe(_TEXT)
    ),
    kinds.FINISHED: _message(_WHOLE, _WHOLE, _END, _RESULT, _ERROR),
    kinds.STOPPING: _message(_WHOLE, _WHOLE, _BOOLEAN),
    kinds.ASK: _message(
        _WHOLE, _WHOLE, _WHOLE, _TEXT, _WHOLE, _TEXT, _maybe(_json(_DICTIONARY)), _json(_DICTIONARY),
        _json(_listed(_TEXT)), _maybe(_LENGTH), _MAYBE_JSON,
    ),
    kinds.PARKED: _message(_WHOLE, _WHOLE, _listed(_row(_TEXT, _maybe(_TIME)), min_length=1)),
    kinds.RELEASED: _message(_WHOLE, _WHOLE),
    kinds.WAITING: _message(_WHOLE, _WHOLE, _maybe(_TEXT), _maybe(_TEXT)),
    kinds.CHILD: _message(_WHOLE, _WHOLE, _WHOLE, _TEXT, _json(_DICTIONARY), _TEXT),
    kinds.PROGRESS: _message(_WHOLE, _WHOLE, _AMOUNT, _maybe(_AMOUNT), _maybe(_WORDS)),
    kinds.LOG: _message(_WHOLE, _WHOLE, _listed(_row(_TIME, _TEXT, _TEXT, _TEXT))),
    kinds.DOOMED: _message(_TEXT, _WHOLE, _WHOLE, _ERROR),
    kinds.BEAT: _message(_WHOLE, _NUMBER),
}  # fmt: skip
"""The fields of each kind after the kind itself; `hello` is checked by its version alone."""

_VERSION: Final = SchemaValidator(_WHOLE, core_schema.CoreConfig(strict=True))


def misfit(message: Message) -> str | None:
    """Say what is wrong with a message of a worker, or None when it fits."""
    kind = message[0]
    shape = SHAPES.get(kind) if type(kind) is str else None
    if shape is None:
        if kind == kinds.HELLO:
            return None if len(message) > 1 and _VERSION.isinstance_python(message[1]) else "hello without a version"
        return f"{str(kind)[:40]!r} is no kind of message"
    try:
        shape.validate_python(message)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part) for part in wrong["loc"] if isinstance(part, int) or part.isidentifier())
        return f"{kind} with a field {field} that makes no sense: {wrong['msg']}"
    return None

"""Results as JSON, decoded through the return annotation on the first execution and on every replay."""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from typing import Any, get_type_hints

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, SchemaError, from_json, to_json

from pullcord.core.errors import DefinitionError, ResultError
from pullcord.core.readable import SHORT, misread

_EXPECTED = re.compile(r"Expected `([^`]+)`")
_CAME = re.compile(r"(?:input_type=|but got `)(\w+)")
_FIELD = re.compile(r"\[field_name='([^']+)'")

MAX_RESULT = 8 * 1024 * 1024
"""No result is longer as JSON, in bytes: what is larger belongs into a file."""


class ResultCodec:
    """Writes what a function returns as JSON text and reads it back as its return annotation says.

    Args:
        function: the function whose annotation counts; without one any JSON value will do.

    Raises:
        DefinitionError: the annotation is not one pydantic can read from JSON.
    """

    __slots__ = ("_adapter", "_name")

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = getattr(function, "__qualname__", repr(function))
        self._adapter: TypeAdapter[Any] | None = None
        try:
            annotation = get_type_hints(function, include_extras=True).get("return", Any)
        except NameError as error:
            raise DefinitionError(
                f"the annotations of {self._name!r} name something unknown: {error}; import it at module level"
            ) from None
        if annotation is not Any and annotation is not types.NoneType:
            try:
                self._adapter = TypeAdapter(annotation)
            except (PydanticSchemaGenerationError, PydanticUserError, SchemaError) as error:
                raise DefinitionError(
                    f"the return annotation of {self._name!r} cannot be kept as JSON: {in_a_line(error)}; "
                    "annotate a type pydantic knows, or return a path to the data"
                ) from None

    def encode(self, value: Any) -> str:
        """Write a result as JSON text.

        Raises:
            ResultError: the value cannot be written as JSON.
        """
        if value is None:
            return "null"
        try:
            if self._adapter is not None:
                # The serializer itself: the adapter's wrapper costs more than writing a small result.
                data = self._adapter.serializer.to_json(value, warnings="error")
            else:
                data = to_json(value, inf_nan_mode="null")
        except (PydanticSerializationError, ValueError, UnicodeError, RecursionError) as error:
            raise ResultError(
                f"{self._name} returned a value of type {type(value).__qualname__} that cannot be kept as JSON "
                f"({unwritable(error)}); return JSON-able data or a path, or fix the return annotation"
            ) from None
        if len(data) > MAX_RESULT:
            raise ResultError(
                f"{self._name} returned {len(data):,} bytes of JSON, over the limit of {MAX_RESULT:,}; "
                "write the data to a file and return its path"
            )
        if len(data) > SHORT and (reason := misread(data)) is not None:
            raise ResultError(
                f"{self._name} returned what cannot be read back from JSON: {reason}; write the data to a file and "
                "return its path"
            )
        return data.decode()

    def decode(self, text: str) -> Any:
        """Read a result back.

        Raises:
            ResultError: the recorded text does not fit the return annotation.
        """
        if self._adapter is None:
            try:
                return from_json(text)
            except ValueError as error:
                raise ResultError(f"the result of {self._name} cannot be read back as JSON: {error}") from None
        try:
            return self._adapter.validator.validate_json(text)
        except ValidationError as error:
            raise ResultError(
                f"the result of {self._name} does not fit its return annotation: {first_misfit(error)}; "
                "fix the annotation or the value"
            ) from None


def first_misfit(error: ValidationError) -> str:
    """Return the first thing that does not fit, and where it is."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{first['msg']} at {'.'.join(map(str, first['loc'])) or 'the top'}"


def unwritable(error: Exception) -> str:
    """Return why pydantic cannot write a value: what it expected and what came, where it says so, without the value."""
    found: list[tuple[str, str]] = []
    for line in str(error).splitlines():
        expected, came, field = _EXPECTED.search(line), _CAME.findall(line), _FIELD.search(line)
        if expected is not None and came:
            where = f" in {field[1]!r}" if field is not None else ""
            found.append((expected[1], f", not {came[-1]}{where}"))
    if not found:
        return in_a_line(error)
    came_first = found[0][1]
    wanted = dict.fromkeys(expected for expected, came in found if came == came_first)  # the branches of a union
    return f"expected {' or '.join(wanted)}{came_first}"


def in_a_line(error: Exception) -> str:
    """Return what pydantic says of a type in one line: a schema error names its cause last, the others first."""
    return str(error).strip().splitlines()[-1 if isinstance(error, SchemaError) else 0].strip()

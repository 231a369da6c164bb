"""Inputs: a schema from the function's signature, validation, and the canonical form."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection, Mapping, Set
from typing import Annotated, Any, cast, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
    create_model,
)
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import ErrorDetails, PydanticSerializationError, SchemaError, to_json

from pullcord.core.errors import DefinitionError, FieldError, InvalidInputsError
from pullcord.core.readable import SHORT, misread
from pullcord.core.results import in_a_line, unwritable


class InputModel:
    """The validated inputs of one flow.

    Each parameter becomes a field of a pydantic model under an alias, so that a parameter may be
    called `schema`, `copy` or `json` without getting in the way of the model's own methods.

    Args:
        function: the flow's function.
        without: names of parameters that are no inputs.

    Raises:
        DefinitionError: a parameter cannot come from JSON (`*args`, `**kwargs`, positional-only, a type
            pydantic does not know).
    """

    def __init__(self, function: Callable[..., Any], *, without: Collection[str] = ()) -> None:
        self._name = getattr(function, "__qualname__", repr(function))
        signature = inspect.signature(function)
        self._parameters = [item for name, item in signature.parameters.items() if name not in without]
        try:
            hints = get_type_hints(function, include_extras=True)
        except NameError as error:
            raise DefinitionError(
                f"the annotations of {self._name!r} name something unknown: {error}; import it at module level"
            ) from None
        fields: dict[str, Any] = {}
        for parameter in self._parameters:
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise DefinitionError(f"{self._name!r} takes {parameter}: inputs have names, so write plain parameters")
            hint: Any = hints.get(parameter.name, Any)
            default = ... if parameter.default is parameter.empty else parameter.default
            if isinstance(default, FieldInfo):
                hint, default = Annotated[hint, default], default.default
            fields[f"input_{parameter.name}"] = (
                hint,
                Field(default, alias=parameter.name, title=parameter.name.replace("_", " ").strip().capitalize()),
            )
        try:
            self._model = self._build(function.__module__, fields, check_defaults=False)
            self._validator = TypeAdapter(self._model).validator
            self._fields = [(parameter.name, f"input_{parameter.name}") for parameter in self._parameters]
            given = {name: field for name, field in fields.items() if not field[1].is_required()}
            if given:
                # A default never passes through JSON, so it is checked once, here, as a Python value.
                self._build(function.__module__, given, check_defaults=True)()
            self.schema: dict[str, Any] = self._model.model_json_schema(schema_generator=_InputSchema)
            schema_text = json.dumps(self.schema)
            self._has_sets = '"uniqueItems": true' in schema_text
            if '"writeOnly": true' in schema_text:
                raise DefinitionError(
                    f"an input of {self._name!r} is a secret; inputs are kept and shown, so take the secret's name "
                    "and look it up in the flow"
                )
        except (PydanticSchemaGenerationError, PydanticUserError, PydanticInvalidForJsonSchema, SchemaError) as error:
            raise DefinitionError(
                f"an input of {self._name!r} has a type that cannot come from JSON: {in_a_line(error)}"
            ) from None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise DefinitionError(
                f"the default of {str(first['loc'][0])!r} in {self._name!r} does not fit its annotation: {first['msg']}"
            ) from None

    def _build(self, module: str, fields: dict[str, Any], *, check_defaults: bool) -> type[BaseModel]:
        config = ConfigDict(extra="forbid", validate_default=check_defaults)
        model: type[BaseModel] = create_model(
            self._name.rpartition(".")[2], __config__=config, __module__=module, **fields
        )
        return model

    def validate(self, text: str) -> str:
        """Return inputs given as JSON text as validated, defaults included, as JSON that validates to the same again.

        Raises:
            InvalidInputsError: with one entry for each field that is wrong.
        """
        written = self._written(self._read(text))
        again = self._read_back(written)
        if again != written:  # a default has not passed through the validators before
            written, again = again, self._read_back(again)
        if again != written:
            # The worker reads what is kept, and so does every run that goes on with this one.
            raise InvalidInputsError(
                f"inputs of {self._name} become something else each time they are read; let the flow convert them",
                _changing(json.loads(written), json.loads(again)),
            )
        return written

    def _read_back(self, written: str) -> str:
        try:
            return self._written(self._read(written))
        except InvalidInputsError as error:
            errors = [{**item, "msg": f"this value does not survive as JSON: {item['msg']}"} for item in error.errors]
            raise InvalidInputsError(error.message, cast(list[FieldError], errors)) from None

    def arguments(self, text: str) -> dict[str, Any]:
        """Return the keyword arguments for the function that inputs given as JSON text stand for.

        Raises:
            InvalidInputsError: with one entry for each field that is wrong.
        """
        model = self._read(text)
        return {name: getattr(model, field) for name, field in self._fields}

    def _written(self, model: BaseModel) -> str:
        if not self._has_sets:
            return model.model_dump_json(by_alias=True)
        dumped = model.model_dump(mode="json")
        ordered = {name: in_order(getattr(model, field), dumped[field]) for name, field in self._fields}
        return to_json(ordered, inf_nan_mode="null").decode()

    def _read(self, text: str) -> BaseModel:
        try:
            model: BaseModel = self._validator.validate_json(text)
            return model
        except ValidationError as error:
            raise InvalidInputsError(
                f"the inputs of {self._name} are not valid; correct the named fields", field_errors(error)
            ) from None

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Write the arguments of a Python call as input JSON, for a flow called inside a flow.

        Raises:
            InvalidInputsError: the arguments do not fit the signature or the types, or cannot be kept as JSON.
        """
        names = [parameter.name for parameter in self._parameters]
        if len(args) > len(names):
            raise InvalidInputsError(
                f"{self._name} takes {len(names)} inputs, {len(args)} were given",
                [{"loc": ["inputs"], "msg": "too many arguments", "type": "too_many_arguments"}],
            )
        given = dict(zip(names, args, strict=False)) | kwargs
        try:
            model = self._model.model_validate(given)
        except ValidationError as error:
            raise InvalidInputsError(f"the inputs of {self._name} are not valid", field_errors(error)) from None
        try:
            text = self._written(model)
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            raise self._unkept(model, unwritable(error)) from None
        reason = misread(text) if len(text) > SHORT else None
        if reason is not None:
            raise self._unkept(model, reason)
        return text

    def _unkept(self, model: BaseModel, reason: str) -> InvalidInputsError:
        """Return the error of arguments that cannot be kept as JSON; it names those that are to blame."""
        named = [name for name, field in self._fields if not _can_be_kept(model, field)]
        said = f"cannot be kept as JSON: {reason}"
        return InvalidInputsError(
            f"inputs of {self._name} cannot be kept as JSON ({', '.join(named)}: {reason}); pass JSON-able data or a "
            "path",
            [{"loc": ["inputs", name], "msg": said, "type": "unserializable"} for name in named],
        )


def _can_be_kept(model: BaseModel, field: str) -> bool:
    try:
        return misread(model.model_dump_json(include={field})) is None
    except (PydanticSerializationError, ValueError, RecursionError):
        return False


def in_order(value: Any, dumped: Any) -> Any:
    """Return the JSON form of a value with its sets sorted: a set's own order is another in every process.

    Args:
        value: the Python value.
        dumped: its JSON form, in the same order of iteration.
    """
    if isinstance(value, BaseModel) and isinstance(dumped, dict):
        fields = {key: getattr(value, key, None) for key in dumped}
        return {key: in_order(fields[key], item) for key, item in dumped.items()}
    if isinstance(value, Mapping) and isinstance(dumped, dict):
        return {key: in_order(inner, item) for inner, (key, item) in zip(value.values(), dumped.items(), strict=True)}
    if isinstance(value, Set | list | tuple) and isinstance(dumped, list):
        items = [in_order(inner, item) for inner, item in zip(value, dumped, strict=True)]
        return sorted(items, key=to_json) if isinstance(value, Set) else items
    return dumped


class _InputSchema(GenerateJsonSchema):
    """Pydantic's JSON Schema, without a warning for a default that JSON cannot show."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}


def _changing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[FieldError]:
    said = (
        "a validator changes this value again when it has changed it; let the flow do it, or leave alone what is done"
    )
    return [
        {"loc": ["inputs", name], "msg": said, "type": "not_idempotent"}
        for name in before
        if before[name] != after.get(name)
    ]


def field_errors(error: ValidationError) -> list[FieldError]:
    """Turn pydantic's error into field errors, without the values (a value may be a secret)."""
    return [
        {"loc": ["inputs", *item["loc"]], "msg": _message(item), "type": item["type"]}
        for item in error.errors(include_url=False, include_input=False)
    ]


def _message(item: ErrorDetails) -> str:
    """Return pydantic's message, or our own where pydantic's repeats the value."""
    if item["type"] == "union_tag_invalid":
        return f"The tag must be one of {item['ctx']['expected_tags']}"
    return item["msg"]

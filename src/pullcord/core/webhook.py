"""Webhooks: another system tells by HTTP that something has happened, and proves that it is the one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pydantic import ByteSize, TypeAdapter, ValidationError

from pullcord.core.errors import DefinitionError
from pullcord.core.reference import REFERENCE
from pullcord.core.signatures import SCHEMES
from pullcord.core.trigger import WEBHOOK, Declaration

MAX_BODY: Final = 1024 * 1024
"""No body is longer unless told otherwise, in bytes: no inputs are longer either."""

LARGEST_BODY: Final = 64 * 1024 * 1024
"""No webhook can take more, in bytes."""

_SIZE: Final = TypeAdapter(ByteSize)


class WebhookTrigger(Declaration):
    """A webhook.

    Attributes:
        scheme: how deliveries are signed.
        secrets: names of the secrets, one or two.
        inputs: makes the inputs from a delivery, or None: the body is the inputs.
        max_body: bytes.
    """

    kind = WEBHOOK

    def __init__(
        self,
        name: str,
        *,
        secret: str | Sequence[str],
        scheme: str = "standard",
        inputs: Callable[..., Any] | None = None,
        max_body: int | str = MAX_BODY,
        parameters: Mapping[str, Any] | None = None,
        enabled: bool = True,
    ) -> None:
        if not isinstance(name, str):
            raise DefinitionError("webhook() needs a name: it is the last part of its address, /v1/hooks/{name}")
        super().__init__(name, parameters, enabled)
        self.secrets = list(secret) if isinstance(secret, list | tuple) else [secret]
        if not 1 <= len(self.secrets) <= 2:
            raise DefinitionError("a webhook has one secret, or two while one takes the other's place")
        if not all(isinstance(item, str) and REFERENCE.fullmatch(item) for item in self.secrets):
            # What was given is not repeated: it may be the secret.
            raise DefinitionError(
                'secret= says where the secret is, "env:NAME" or "file:/path", and is not the secret itself'
            )
        if not isinstance(scheme, str) or scheme not in SCHEMES:
            raise DefinitionError(f"scheme= is one of {', '.join(sorted(SCHEMES))}, not {scheme!r}")
        if inputs is not None:
            _check_mapping(inputs)
        self.scheme = scheme
        self.inputs = inputs
        self.max_body = _size(max_body)

    def settings(self) -> dict[str, Any]:
        """Return scheme, names of secrets and limit as a JSON object."""
        return {
            "scheme": self.scheme,
            "secrets": self.secrets,
            "max_body": self.max_body,
            "mapped": self.inputs is not None,
        }


def webhook(
    name: str,
    *,
    secret: str | Sequence[str],
    scheme: str = "standard",
    inputs: Callable[..., Any] | None = None,
    max_body: int | str = MAX_BODY,
    parameters: Mapping[str, Any] | None = None,
    enabled: bool = True,
) -> WebhookTrigger:
    """Run a flow when a signed request comes to `POST /v1/hooks/{name}`; for `triggers=[…]` of the flow.

    The JSON body is the inputs unless `inputs` makes them.

    Args:
        name: the last part of the address, and the trigger's name.
        secret: where the server finds the secret, `"env:NAME"` or `"file:/path"`; a list of two while one takes the
            other's place.
        scheme: `standard` (Standard Webhooks), `github` or `stripe`.
        inputs: a function of the body, and of the headers if it takes two arguments, that returns the inputs,
            `pc.Fire(…)` or `pc.Skip("why")`.
        max_body: largest body, in bytes or as a text such as `"512KB"`; 1 MiB unless given.
        parameters: inputs that are the same every time.
        enabled: whether it is served from the start.

    Raises:
        DefinitionError: the declaration cannot work.
    """
    return WebhookTrigger(
        name,
        secret=secret,
        scheme=scheme,
        inputs=inputs,
        max_body=max_body,
        parameters=parameters,
        enabled=enabled,
    )


def _check_mapping(function: Callable[..., Any]) -> None:
    if not inspect.isfunction(function):
        raise DefinitionError(f"inputs= takes a function that makes inputs from a delivery, not {function!r}")
    signature = inspect.signature(function)
    for arguments in ((None,), (None, None)):
        try:
            signature.bind(*arguments)
        except TypeError:
            continue
        return
    raise DefinitionError(f"{function.__qualname__}() has to take the body, and perhaps the headers: (body, headers)")


def _size(value: int | str) -> int:
    try:
        size = 0 if isinstance(value, bool) or not isinstance(value, int | str) else int(_SIZE.validate_python(value))
    except (ValidationError, ArithmeticError, ValueError):
        size = 0
    if not 1 <= size <= LARGEST_BODY:
        raise DefinitionError(f"max_body is 1 to {LARGEST_BODY:,} bytes, as a number or such as '512KB'")
    return size

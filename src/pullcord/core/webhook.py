"""Webhooks: another system tells by HTTP that something has happened, and proves that it is the one."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pullcord.core.errors import DefinitionError
from pullcord.core.signatures import SCHEMES
from pullcord.core.trigger import WEBHOOK, Declaration

MAX_BODY: Final = 1024 * 1024
"""No body is longer unless told otherwise, in bytes: no inputs are longer either."""

LARGEST_BODY: Final = 64 * 1024 * 1024
"""No webhook can take more, in bytes."""

REFERENCE: Final = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+")
"""How a secret is named: an environment variable or a file of the server's. The secret itself is never written down."""


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
        max_body: int = MAX_BODY,
        parameters: Mapping[str, Any] | None = None,
        enabled: bool = True,
    ) -> None:
        if not isinstance(name, str):
            raise DefinitionError("webhook() needs a name: it is the last part of its address, /v1/hooks/{name}")
        super().__init__(name, parameters, enabled)
        self.secrets = [secret] if isinstance(secret, str) else list(secret)
        if not 1 <= len(self.secrets) <= 2:
            raise DefinitionError("a webhook has one secret, or two while one takes the other's place")
        if not all(isinstance(item, str) and REFERENCE.fullmatch(item) for item in self.secrets):
            # What was given is not repeated: it may be the secret.
            raise DefinitionError(
                'secret= says where the secret is, "env:NAME" or "file:/path", and is not the secret itself'
            )
        if scheme not in SCHEMES:
            raise DefinitionError(f"scheme= is one of {', '.join(sorted(SCHEMES))}, not {scheme!r}")
        if inputs is not None and not inspect.isfunction(inputs):
            raise DefinitionError(f"inputs= takes a function that makes inputs from a delivery, not {inputs!r}")
        if isinstance(max_body, bool) or not isinstance(max_body, int) or not 1 <= max_body <= LARGEST_BODY:
            raise DefinitionError(f"max_body is a number of bytes up to {LARGEST_BODY:,}, not {max_body!r}")
        self.scheme = scheme
        self.inputs = inputs
        self.max_body = max_body

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
    max_body: int = MAX_BODY,
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
        max_body: largest body, in bytes.
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

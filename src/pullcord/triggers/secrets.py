"""Secrets that the server itself needs: found when they are used, in memory only, and named in messages, never shown.

Design rule 11.
"""

from __future__ import annotations

import os
from pathlib import Path

from pullcord.core.errors import SecretError


def resolve(reference: str) -> str:
    """Return the secret that a reference names: `env:NAME` or `file:/path` (without its last newline).

    Raises:
        SecretError: there is none, or it is empty.
    """
    where, _, name = reference.partition(":")
    if where == "env":
        value = os.environ.get(name, "")
        advice = f"set the environment variable {name} of the server and restart it"
    else:
        try:
            value = Path(name).read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, ValueError) as error:
            raise SecretError(
                f"the secret in the file {name} cannot be read: {type(error).__name__}; see that the server can read it"
            ) from None
        advice = f"put the secret into the file {name}"
    if not value:
        raise SecretError(f"the secret {reference} is empty or not there; {advice}")
    return value

"""Secrets that the server itself needs: found when they are used, in memory only, and named in messages, never shown.

Design rule 11.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from pullcord.core.errors import SecretError

LARGEST: Final = 64 * 1024
"""A file with a secret has no more bytes."""


def resolve(reference: str) -> str:
    """Return the secret that a reference names: `env:NAME` or `file:/path` (without its last line end).

    Raises:
        SecretError: there is none, or it is empty, or it is no text.
    """
    where, _, name = reference.partition(":")
    if where == "env":
        value = os.environ.get(name, "")
        advice = f"set the environment variable {name} of the server and restart it"
    else:
        try:
            value = _content(Path(name))
        except (OSError, ValueError) as error:
            raise SecretError(
                f"the secret in the file {name} cannot be read: {type(error).__name__}; see that the server can read it"
            ) from None
        advice = f"put the secret into the file {name}"
    if not value.strip():
        raise SecretError(f"the secret {reference} is empty or not there; {advice}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SecretError(f"the secret {reference} is no UTF-8 text; {advice}") from None
    return value


def _content(path: Path) -> str:
    # The server waits for this: a pipe could take for ever, and a device has no end.
    if path.exists() and not path.is_file():
        raise SecretError(f"{path} is not an ordinary file; put the secret into one")
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise SecretError(f"the file {path} has more than {LARGEST:,} bytes, too many for a secret; put it in alone")
    return data.decode().removesuffix("\n").removesuffix("\r")

"""Who is calling: until accounts arrive, whoever can read the data folder's token is its owner."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from pullcord.core.errors import StoreReadOnlyError, UnauthenticatedError
from pullcord.gate.request import OWNER, Invoker

ADVICE = "send `Authorization: Bearer TOKEN`; the token is in the file `token` of the data folder"


class Authenticator:
    """Knows the data folder's token.

    Args:
        folder: the data folder.
    """

    def __init__(self, folder: Path) -> None:
        self._token = load_token(folder).encode()

    def identify(self, authorization: str | None) -> Invoker:
        """Return the invoker of a call with this `Authorization` header.

        Raises:
            UnauthenticatedError: there is none, or it is not valid.
        """
        if authorization is None:
            raise UnauthenticatedError(f"no credential came with the call; {ADVICE}")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode("utf-8", "replace"), self._token):
            raise UnauthenticatedError(f"the credential is not valid; {ADVICE}")
        return OWNER


def load_token(folder: Path) -> str:
    """Return the folder's token, making it (mode 0600) when it is not there.

    Raises:
        StoreReadOnlyError: it can be neither read nor written.
    """
    path = folder / "token"
    try:
        token = path.read_text(encoding="ascii").strip()
        if token:
            return token
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as error:
        raise StoreReadOnlyError(f"the token in {path} cannot be read ({error}); check its permissions") from None
    token = secrets.token_urlsafe(32)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(token + "\n")
    except OSError as error:
        raise StoreReadOnlyError(f"the token {path} cannot be written ({error.strerror})") from None
    return token

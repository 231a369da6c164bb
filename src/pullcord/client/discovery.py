"""Where the server is, and what to show it: given, from the environment, or from the data folder's own record.

The folder's token goes only to the address that the folder's own server recorded. What is found through a folder is
never asked through a proxy, and a key from the environment goes there only when the address is this machine's: a
folder may come with somebody else's files.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from pullcord.client.errors import ServerUnreachableError
from pullcord.core.errors import UsageError

FOLDER: Final = ".pullcord"
"""The data folder unless something else is said."""

_LONGEST_SOCKET_PATH: Final = 100
_PROBE: Final = 3.0


@dataclass(frozen=True, slots=True)
class Address:
    """A server.

    Attributes:
        base: its URL, without a slash at the end.
        key: the bearer token, or None.
        socket: path of a Unix socket to reach it through, or None.
        found: whether a data folder's record named it.
    """

    base: str
    key: str | None = None
    socket: Path | None = None
    found: bool = False


def find_server(
    url: str | None,
    api_key: str | None,
    data_dir: str | Path | None,
    environment: Mapping[str, str] = os.environ,
) -> Address:
    """Return the server to talk to. Arguments go before the environment, a URL before a folder.

    Raises:
        UsageError: the URL is none.
        ServerUnreachableError: nothing was given, and no server runs on the data folder.
    """
    folder = Path(data_dir or environment.get("PULLCORD_DATA_DIR") or FOLDER).expanduser()
    if url is None and data_dir is None:
        url = environment.get("PULLCORD_URL") or None
    set_key = environment.get("PULLCORD_API_KEY") or None
    if url is not None:
        base = _checked(url)
        found = _recorded(folder) if api_key is None and set_key is None else None
        token = _token(folder) if found is not None and found.socket is None and found.base == base else None
        return Address(base, api_key or set_key or token)
    found = _recorded(folder)
    if found is None:
        raise ServerUnreachableError(
            f"no server runs on the data folder {folder}; start one with `pullcord serve`, name its folder with "
            "--data-dir, or its address with PULLCORD_URL"
        )
    key = api_key or (set_key if _is_here(found) else None) or _token(folder)
    return Address(found.base, key, found.socket, found=True)


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Give a name under which a socket can be reached even where its path is longer than the kernel takes."""
    text = str(path)
    if len(os.fsencode(text)) <= _LONGEST_SOCKET_PATH:
        yield text
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _recorded(folder: Path) -> Address | None:
    """Return what the folder's server recorded, if that server lives and listens."""
    try:
        record: Any = json.loads((folder / "server.json").read_text(encoding="utf-8"))
        pid, url, path = record["pid"], record.get("url"), record.get("socket")
        if not isinstance(pid, int) or pid < 1 or not _alive(pid):
            return None
        address = Address("http://localhost", socket=Path(path)) if path is not None else Address(_checked(str(url)))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, UsageError):
        return None
    return address if _listens(address) else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _listens(address: Address) -> bool:
    try:
        if address.socket is not None:
            with short_path(address.socket) as path, closing(socket.socket(socket.AF_UNIX)) as trial:
                trial.settimeout(_PROBE)
                trial.connect(path)
            return True
        parts = urlsplit(address.base)
        socket.create_connection((parts.hostname or "", _port(parts)), _PROBE).close()
    except OSError:
        return False
    return True


def checked_url(url: str | None) -> str | None:
    """Return an address without a slash at the end.

    Raises:
        UsageError: it is none.
    """
    return None if url is None else _checked(url)


def _checked(url: str) -> str:
    parts = urlsplit(url.strip())
    try:
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and _port(parts) > 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or parts.username is not None:
        raise UsageError(f"{url[:100]!r} is not the address of a server; write it like http://127.0.0.1:8321")
    return url.strip().rstrip("/")


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _is_here(address: Address) -> bool:
    host = urlsplit(address.base).hostname or ""
    try:
        return address.socket is not None or host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _token(folder: Path) -> str | None:
    try:
        return (folder / "token").read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None

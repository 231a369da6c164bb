"""Which server a command speaks to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pullcord.client import AsyncClient, Client


def by_address(data_dir: Path | None) -> bool:
    """Say whether the environment names the server; a data folder named on the command line goes before."""
    return data_dir is None and bool(os.environ.get("PULLCORD_URL"))


def data_folder(data_dir: Path | None) -> Path:
    """Return the data folder: named here, in the environment, in the settings file, or the usual one."""
    from pullcord.settings import load_settings

    return load_settings({"data_dir": data_dir}).data_dir


def connect(data_dir: Path | None) -> Client:
    """Return a client."""
    from pullcord.client import Client

    url = os.environ["PULLCORD_URL"] if by_address(data_dir) else None
    return Client(url, data_dir=data_folder(data_dir), source="cli")


def connect_async(data_dir: Path | None) -> AsyncClient:
    """Return an asynchronous client."""
    from pullcord.client import AsyncClient

    url = os.environ["PULLCORD_URL"] if by_address(data_dir) else None
    return AsyncClient(url, data_dir=data_folder(data_dir), source="cli")

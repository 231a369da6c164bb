"""What `pullcord doctor` looks at."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sqlite3
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pullcord.cli.connect import by_address, connect
from pullcord.cli.server import default_flows
from pullcord.core.errors import PullcordError
from pullcord.settings import Settings, load_settings

if TYPE_CHECKING:
    from pullcord.client import Client
    from pullcord.engine.locations import CodeLocation

OLDEST_PYTHON: Final = (3, 11)
TIGHT, TOO_TIGHT = 1024**3, 100 * 1024**2
"""Free bytes on the disk below which there is a note, and below which something is wrong."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        state: `ok`, `note` or `wrong`.
        text: what was found.
        advice: what to do, when there is something to do.
    """

    name: str
    state: str
    text: str
    advice: str = ""


def examine(data_dir: Path | None, whole: bool = False) -> list[Finding]:
    """Look at everything.

    Args:
        data_dir: as given on the command line.
        whole: look at every page of the database.
    """
    findings = list(_versions())
    try:
        settings = default_flows(load_settings({"data_dir": data_dir}))
    except PullcordError as error:
        return [*findings, Finding("settings", "wrong", error.message, "correct it")]
    by_url = by_address(data_dir)
    with connect(data_dir) as client:
        answer, server = _server(client, settings.data_dir, by_url)
    findings.append(server)
    if not by_url:
        from pullcord.cli.database import database

        findings += _folder(settings.data_dir)
        findings += _sizes(settings.data_dir)
        findings += database(settings, whole)
    findings += _flows(settings, answer)
    findings += [
        Finding("triggers", "wrong", f"{part['name']}: {part['detail']}", "correct or remove the package it comes from")
        for part in (answer or {"parts": []})["parts"]
        if part["name"].startswith("trigger kind ")
    ]
    findings += [
        Finding("notifications", "wrong", f"{part['name']}: {part['detail']}", "`pullcord notify list --state pending`")
        for part in (answer or {"parts": []})["parts"]
        if part["name"].startswith("channel ")
    ]
    return findings


def settings_of(data_dir: Path | None) -> Settings | None:
    """Return settings that say where the store is; None when commands speak to a server elsewhere."""
    try:
        return None if by_address(data_dir) else load_settings({"data_dir": data_dir})
    except PullcordError:
        return None


def _versions() -> Iterator[Finding]:
    python = platform.python_version()
    if sys.version_info >= OLDEST_PYTHON:
        yield Finding("python", "ok", f"{python} at {sys.executable}")
    else:
        yield Finding("python", "wrong", f"{python} is too old", "install Python 3.11 or newer")
    from pullcord.store.sqlite import MINIMUM

    if sqlite3.sqlite_version_info >= MINIMUM:
        yield Finding("sqlite", "ok", sqlite3.sqlite_version)
    else:
        needed = ".".join(map(str, MINIMUM))
        yield Finding("sqlite", "wrong", f"{sqlite3.sqlite_version} is too old", f"use a Python with SQLite {needed}")


def _server(client: Client, folder: Path, by_url: bool) -> tuple[dict[str, Any] | None, Finding]:
    from pullcord.client.errors import ServerUnreachableError

    try:
        answer = client.ready()
        client.runs.list(limit=1)
    except ServerUnreachableError as error:
        if by_url:
            return None, Finding("server", "wrong", error.message, "correct PULLCORD_URL, or start the server")
        left = (folder / "server.json").exists()
        text = "none runs; the last one did not stop in order" if left else "none runs"
        return None, Finding("server", "note", text, "`pullcord serve` starts one; `pullcord run` does without")
    except PullcordError as error:
        locked_out = error.code in ("unauthenticated", "forbidden")
        return None, Finding("server", "wrong", error.message, "correct PULLCORD_API_KEY" if locked_out else "")
    if not answer["ready"]:
        parts = {part["name"]: part["detail"] for part in answer["parts"] if not part["ready"]}
        text = "it answers, and is not ready: " + "; ".join(f"{name}: {detail}" for name, detail in parts.items())
        return answer, Finding("server", "wrong" if "store" in parts else "note", text, "look again in a moment")
    return answer, Finding("server", "ok", "it answers")


def _folder(folder: Path) -> Iterator[Finding]:
    if not folder.exists():
        yield Finding("data folder", "ok", f"{folder} is not there yet; the first start makes it")
        yield _space(folder)
        return
    try:
        facts = folder.stat()
    except OSError as error:
        yield Finding("data folder", "wrong", f"{folder}: {error.strerror}", "use another --data-dir")
        return
    if not folder.is_dir():
        yield Finding("data folder", "wrong", f"{folder} is not a folder", "move it away, or use another --data-dir")
    elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield Finding(
            "data folder", "wrong", f"{folder} cannot be written", f"chown it to you, or chmod u+rwx {folder}"
        )
    elif facts.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = stat.filemode(facts.st_mode)
        yield Finding("data folder", "note", f"{folder} is open to other users ({mode})", f"chmod 700 {folder}")
    else:
        yield Finding("data folder", "ok", str(folder))
    token = folder / "token"
    if token.exists() and token.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Finding("token", "wrong", f"{token} is readable by other users", f"chmod 600 {token}, then restart")
    yield _space(folder)


def _sizes(folder: Path) -> Iterator[Finding]:
    """Say how much there is of what retention deletes; the database is told of elsewhere."""
    from pullcord.cli.output import amount

    parts = [(name, _size_below(folder / name)) for name in ("logs", "artifacts")]
    if any(size for _, size in parts):
        yield Finding("files", "ok", ", ".join(f"{name} {amount(size)}" for name, size in parts if size))


def _size_below(folder: Path) -> int:
    size = 0
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                size += Path(root, name).stat().st_size
    return size


def _space(folder: Path) -> Finding:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    text = f"{free / 1024**3:.1f} GB free"
    if free < TOO_TIGHT:
        return Finding("disk", "wrong", text, "free some space: without it nothing can be recorded")
    return Finding("disk", "note", text, "free some space soon") if free < TIGHT else Finding("disk", "ok", text)


def _flows(settings: Settings, answer: dict[str, Any] | None) -> list[Finding]:
    from pullcord.cli.loading import load_apart

    if answer is not None:
        findings = [_failure(failure) for failure in answer["failures"]]
        good = [name for name, state in answer["locations"].items() if state == "ready"]
        if good:
            findings.append(Finding("flows", "ok", f"the server has loaded {', '.join(good)}"))
        return findings or [Finding("flows", "note", "the server has none", "`pullcord serve my_flows.py` names some")]
    if not settings.flows and not settings.code:
        return [Finding("flows", "note", "none are named", "name them in pullcord.toml, or make flows/ or flows.py")]
    findings = []
    places: list[tuple[str, str | CodeLocation]] = [(place, place) for place in settings.flows]
    for place, code in [*places, *((location.name, location) for location in settings.code)]:
        count, failures = load_apart(code)
        findings += [_failure(failure) for failure in failures]
        if count or not failures:
            found = Finding("flows", "ok", f"{place}: {count} flow{'' if count == 1 else 's'}")
            findings.append(found if count else replace(found, state="note", advice="put @pc.flow above a function"))
    return findings


def _failure(failure: dict[str, Any]) -> Finding:
    advice = "correct the file" if failure.get("traceback") else "correct it"
    return Finding("flows", "wrong", f"{failure['place']}: {failure['message']}", advice)

"""Settings: arguments over environment over `pullcord.toml` or `[tool.pullcord]` over defaults."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pullcord.core.artifact import LIMIT as ARTIFACT_LIMIT
from pullcord.core.concurrency import Group
from pullcord.core.durations import seconds
from pullcord.core.errors import DefinitionError, UsageError
from pullcord.core.keep import Retention, retention_of
from pullcord.core.quotas import Rate
from pullcord.core.rulebook import DefaultRule, read_defaults
from pullcord.engine.locations import CodeLocation, read_locations
from pullcord.notify.options import GIVE_UP, Notifying
from pullcord.notify.settings import ChannelSettings, read_channels

_FILE_ONLY = {"code", "channels", "limits", "notify", "retention"}
_KNOWN = _FILE_ONLY | {
    "data_dir", "database_url", "host", "port", "workers", "flows", "log_format", "log_level", "artifact_limit",
    "invoker_rate", "public_url", "notify_for",
}  # fmt: skip

AUTO: Final = "auto"
"""The value of a setting that follows from the circumstances."""

LOG_FORMATS: Final = (AUTO, "text", "json")
LOG_LEVELS: Final = (AUTO, "debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Settings:
    """How a server runs.

    Attributes:
        data_dir: where data lives.
        flows: code locations as the user writes them.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
        workers: run workers for each location.
        database_url: a PostgreSQL database; None is a SQLite file in `data_dir`.
        log_format: how the server writes its log: `text`, `json`, or `auto`: text on a terminal, JSON elsewhere.
        log_level: `debug`, `info`, `warning`, `error`, or `auto`: `info`, but `warning` where `serve` has a terminal.
        invoker_rate: how many requests each invoker may make, of all flows together, like `100/1m`; None is no limit.
        code: code locations with an interpreter or a name of their own, in addition to `flows`.
        channels: where messages about runs are sent.
        notify: rules of notifications for all flows, in addition to those in their code.
        public_url: the address under which people reach the server, for links in notifications; none without it.
        notify_for: for how many seconds a notification that nobody takes is tried again.
        limits: how many runs of a group of flows may be active at once, by the group's name.
        artifact_limit: how large one artifact may be, bytes; 1 GiB unless given.
        retention: how long runs, logs, artifacts, the ledger and histories of triggers are kept.
    """

    data_dir: Path = Path(".pullcord")
    flows: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = 8321
    workers: int = 2
    database_url: str | None = None
    log_format: str = AUTO
    log_level: str = AUTO
    invoker_rate: str | None = None
    code: tuple[CodeLocation, ...] = ()
    channels: tuple[ChannelSettings, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict)
    notify: tuple[DefaultRule, ...] = ()
    public_url: str | None = None
    notify_for: float = GIVE_UP
    artifact_limit: int = ARTIFACT_LIMIT
    retention: Retention = field(default_factory=Retention)

    @property
    def notifying(self) -> Notifying:
        """How the server tells people and programs what became of runs, but for its channels."""
        return Notifying(defaults=self.notify, public_url=self.public_url, give_up=self.notify_for)

    @property
    def place(self) -> str:
        """Where the records are, for people; without a password."""
        if self.database_url is None:
            return str(self.data_dir)
        from pullcord.store.address import named

        return named(self.database_url)


def load_settings(
    arguments: Mapping[str, Any], environment: Mapping[str, str] = os.environ, folder: Path | None = None
) -> Settings:
    """Gather the settings.

    Args:
        arguments: what the command line gave; None counts as not given.
        environment: `PULLCORD_DATA_DIR`, `PULLCORD_DATABASE_URL`, `PULLCORD_FLOWS` (separated like `PATH`),
            `PULLCORD_HOST`, `PULLCORD_PORT`, `PULLCORD_WORKERS`, `PULLCORD_LOG_FORMAT`, `PULLCORD_LOG_LEVEL`,
            `PULLCORD_ARTIFACT_LIMIT`, `PULLCORD_INVOKER_RATE`, `PULLCORD_PUBLIC_URL`, `PULLCORD_NOTIFY_FOR`.
        folder: where the settings file is looked for; the current one unless given.

    Raises:
        UsageError: a setting is unknown, or its value makes no sense.
    """
    values: dict[str, Any] = {"workers": default_workers()}
    home = folder or Path.cwd()
    values |= _from_file(home)
    for name in _KNOWN - _FILE_ONLY:
        text = environment.get(f"PULLCORD_{name.upper()}")
        if text:
            values[name] = text.split(os.pathsep) if name == "flows" else text
    values |= {name: value for name, value in arguments.items() if value not in (None, (), [])}
    return Settings(
        data_dir=Path(str(values.get("data_dir", ".pullcord"))).expanduser(),
        flows=_flows(values.get("flows", ())),
        host=str(values.get("host", "127.0.0.1")),
        port=_whole("port", values.get("port", 8321), 0, 65535),
        workers=_whole("workers", values["workers"], 1, 256),
        database_url=_text("database_url", values.get("database_url")),
        log_format=_one_of("log_format", values.get("log_format", AUTO), LOG_FORMATS),
        log_level=_one_of("log_level", values.get("log_level", AUTO), LOG_LEVELS),
        invoker_rate=_rate(values.get("invoker_rate")),
        code=read_locations(values.get("code", ()), home),
        notify=read_defaults(values.get("notify", ())),
        public_url=_address("public_url", values.get("public_url")),
        notify_for=seconds(values.get("notify_for", GIVE_UP)),
        channels=read_channels(values.get("channels", {}), home),
        limits=_limits(values.get("limits", {})),
        artifact_limit=_whole("artifact_limit", values.get("artifact_limit", ARTIFACT_LIMIT), 0, 2**50),
        retention=retention_of(values.get("retention", {})),
    )


def default_workers() -> int:
    """Return one worker a core that this process may use."""
    return max(1, len(os.sched_getaffinity(0)))


def _from_file(folder: Path) -> dict[str, Any]:
    for name, keys in (("pullcord.toml", ()), ("pyproject.toml", ("tool", "pullcord"))):
        path = folder / name
        if not path.is_file():
            continue
        try:
            table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} cannot be read: {error}") from None
        for key in keys:
            table = table.get(key, {})
        if not table:
            continue
        unknown = set(table) - _KNOWN
        if unknown:
            raise UsageError(
                f"{path} has unknown settings: {', '.join(sorted(unknown))}; known: {', '.join(sorted(_KNOWN))}"
            )
        return dict(table)
    return {}


def _flows(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise UsageError(f"flows must be a list of modules, files or folders, not {value!r}")


def _limits(value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        raise UsageError(f"limits is a table of groups, for example `[limits]` with `warehouse = 4`, not {value!r}")
    try:
        return {Group(name).name: _whole(f"limits.{name}", limit, 1, 2**31 - 2) for name, limit in value.items()}
    except DefinitionError as error:
        raise UsageError(f"limits: {error.message}") from None


def _text(name: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise UsageError(f"{name} must be a text, not {value!r}")


def _rate(value: Any) -> str | None:
    text = _text("invoker_rate", value)
    if text is not None:
        Rate.read(text)
    return text


def _address(name: str, value: Any) -> str | None:
    text = _text(name, value)
    if text is not None and not text.startswith(("http://", "https://")):
        raise UsageError(f"{name} must be a web address, such as https://pullcord.example.org, not {value!r}")
    return text


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> str:
    if value not in known:
        raise UsageError(f"{name} must be one of {', '.join(known)}, not {value!r}")
    return str(value)


def _whole(name: str, value: Any, least: int, most: int) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = least - 1
    if not least <= number <= most or isinstance(value, bool | float):
        raise UsageError(f"{name} must be a whole number from {least} to {most}, not {value!r}")
    return number

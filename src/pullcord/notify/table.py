"""One channel's table in the settings, read field by field; what is wrong is said with the names of both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pullcord.core.durations import seconds
from pullcord.core.errors import UsageError
from pullcord.core.reference import REFERENCE


class Table:
    """The table of one channel. Values are never repeated in messages: one may be a secret in the wrong place.

    Args:
        name: the channel's name.
        values: what the file says.
        home: the file's folder, where paths begin.
    """

    def __init__(self, name: str, values: Mapping[str, Any], home: Path) -> None:
        self._name = name
        self._values = values
        self._home = home
        self._read: list[str] = []

    def wrong(self, field: str, rule: str) -> UsageError:
        """Return the error for a field that breaks a rule."""
        return UsageError(f"the channel {self._name!r}: {field} {rule}")

    def has(self, field: str) -> bool:
        """Say whether a field is given."""
        self._read.append(field)
        return field in self._values

    def text(self, field: str, default: str | None = None) -> str:
        """Return one line of text; without a default it has to be given."""
        if not self.has(field):
            if default is None:
                raise self.wrong(field, "is missing")
            return default
        value = self._values[field]
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise self.wrong(field, "must be one line of text")
        return value

    def texts(self, field: str) -> tuple[str, ...]:
        """Return one text or a list of them, at least one."""
        value = self._values.get(field) if self.has(field) else ()
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not items:
            raise self.wrong(field, "is missing: a text, or a list of texts")
        if not all(isinstance(item, str) and item.strip() and item.isprintable() for item in items):
            raise self.wrong(field, "must be a text of one line, or a list of such")
        return tuple(items)

    def path(self, field: str) -> str | None:
        """Return a path in full, or None."""
        return str(self._home / Path(self.text(field)).expanduser()) if self.has(field) else None

    def one_of(self, field: str, known: tuple[str, ...], default: str) -> str:
        """Return a text that is one of those known."""
        value = self.text(field, default)
        if value not in known:
            raise self.wrong(field, f"must be one of {', '.join(known)}")
        return value

    def whole(self, field: str, least: int, most: int, default: int | None) -> int | None:
        """Return a whole number within bounds, or the default."""
        if not self.has(field):
            return default
        value = self._values[field]
        if type(value) is not int or not least <= value <= most:
            raise self.wrong(field, f"must be a whole number from {least} to {most}")
        return value

    def duration(self, field: str, least: float, most: float, default: float | None) -> float | None:
        """Return a duration in seconds within bounds, or the default."""
        if not self.has(field):
            return default
        try:
            length = seconds(self._values[field])
        except UsageError as error:
            raise self.wrong(field, f"makes no sense: {error.message}") from None
        if not least <= length <= most:
            raise self.wrong(field, f"must be from {least:g} to {most:g} seconds")
        return length

    def reference(self, field: str) -> str:
        """Return where a secret is."""
        value = self._values.get(field) if self.has(field) else ""
        return self._checked_reference(field, value)

    def references(self, field: str, most: int) -> tuple[str, ...]:
        """Return where one secret is, or several."""
        items = self.texts(field)
        if len(items) > most:
            raise self.wrong(field, f"names more than {most} secrets")
        return tuple(self._checked_reference(field, item) for item in items)

    def referenced(self, field: str) -> dict[str, str]:
        """Return a table whose values say where secrets are; empty where there is none."""
        value = self._values[field] if self.has(field) else {}
        if not isinstance(value, dict):
            raise self.wrong(field, 'must be a table such as { Authorization = "env:TOKEN" }')
        return {name: self._checked_reference(f"{field}.{name}", item) for name, item in value.items()}

    def url(self, field: str) -> str:
        """Return a web address, or where one is that is a secret."""
        value = self.text(field)
        if REFERENCE.fullmatch(value):
            return value
        trouble = address_trouble(value)
        if trouble is not None:
            raise self.wrong(field, f'{trouble}; write "https://…", or "env:NAME" or "file:/path" where it is')
        return value

    def finish(self) -> None:
        """Refuse fields that nobody asked for.

        Raises:
            UsageError: naming them.
        """
        unknown = sorted(set(self._values) - set(self._read))
        if unknown:
            known = ", ".join(sorted({"kind", *self._read}))
            raise self.wrong(", ".join(unknown), f"is unknown; known: {known}")

    def _checked_reference(self, field: str, value: Any) -> str:
        if not isinstance(value, str) or not REFERENCE.fullmatch(value):
            raise self.wrong(
                field, 'says where the secret is, "env:NAME" or "file:/path", and is not the secret itself'
            )
        return value


def address_trouble(text: str) -> str | None:
    """Return what is wrong with a web address, or None; the address itself is not in the words."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or any(not "!" <= char <= "~" for char in text):
        return "is no web address"
    if parts.username is not None:
        return "has a password in it, which would be shown; put it into a header"
    return None


def origin(url: str) -> str:
    """Return scheme, host and port of a web address: what may be shown, for paths often are secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"

"""The address of a PostgreSQL database: read by the driver, and shown without what is secret in it."""

from __future__ import annotations

from typing import Any

from pullcord.core.errors import UsageError

SCHEMES = ("postgresql://", "postgres://")


def parsed(url: str) -> dict[str, Any]:
    """Return the parts of an address as the driver reads them.

    Raises:
        UsageError: it is of another kind, cannot be read, or the driver is not installed.
    """
    if not url.startswith(SCHEMES):
        raise UsageError("the database's address must begin with postgresql://, as in postgresql://user@host/pullcord")
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict
    except ImportError as error:
        raise UsageError(
            f"PostgreSQL needs the driver psycopg ({error}); install it with: pip install 'pullcord[postgres]'"
        ) from None
    # What the driver says of an address that it cannot read may hold the password, so it is not repeated.
    advice = (
        "the database's address cannot be read; write special characters of user and password in percent-encoding "
        "(@ as %40, / as %2F, # as %23, % as %25)"
    )
    try:
        parts = conninfo_to_dict(url)
    except (ProgrammingError, UnicodeError):
        raise UsageError(advice) from None
    port, names = str(parts.get("port") or "0"), f"{parts.get('host')}{parts.get('dbname')}"
    if not port.replace(",", "").isdigit() or "@" in names:  # a password that was cut in two
        raise UsageError(advice)
    return parts


def named(url: str) -> str:
    """Return what people call a database: `PostgreSQL HOST/DATABASE`, without user and password."""
    try:
        parts = parsed(url)
    except UsageError:
        return "PostgreSQL"
    host, port = parts.get("host") or "localhost", parts.get("port")
    return f"PostgreSQL {host}{f':{port}' if port else ''}/{parts.get('dbname') or ''}"

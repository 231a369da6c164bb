"""A database that events read: any that SQLAlchemy knows. SQLAlchemy is loaded when a database is first asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from pullcord.core.errors import DefinitionError
from pullcord.core.event import PollError
from pullcord.events.references import PREFIX, resolved

if TYPE_CHECKING:
    from sqlalchemy import CursorResult, Engine

_SQLITE_WRONG: Final = (1, 17)
"""What SQLite says of a query that it does not understand: SQLITE_ERROR, on a new connection also SQLITE_SCHEMA."""


class Database:
    """One connection, kept between polls. What a query changes is rolled back.

    Args:
        address: SQLAlchemy's, without a password, or `env:NAME` for the variable that holds it.

    Raises:
        DefinitionError: it is no address, or has a password in it.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._engine: Engine | None = None
        if address.startswith(PREFIX):
            return
        try:
            parts = urlsplit(address)
            secret = parts.password or "password" in parse_qs(parts.query)
        except ValueError:
            secret = True
        if secret:
            raise DefinitionError(
                "an address with a password in it would be stored and shown; put it into a variable and write "
                "'env:VARIABLE'"
            )
        if "://" not in address:
            raise DefinitionError(f"{address!r} is no database address; write it like 'postgresql://user@host/name'")

    @contextmanager
    def select(self, query: str, values: Mapping[str, Any], most: int) -> Iterator[CursorResult[Any]]:
        """Execute a query and give its result, of which `most` rows will be read.

        Raises:
            PollError: the database cannot be asked; permanent where it does not understand the question.
        """
        try:
            alchemy: Any = import_module("sqlalchemy")
        except ImportError:
            raise PollError("databases need SQLAlchemy; install it: pip install sqlalchemy", permanent=True) from None
        # Without a type of its own the database gives the value the type that it is compared with.
        binds = [alchemy.bindparam(name, type_=alchemy.types.NullType()) for name in values]
        try:
            if self._engine is None:
                self._engine = alchemy.create_engine(
                    resolved(self._address),
                    poolclass=alchemy.QueuePool,
                    pool_size=1,
                    max_overflow=0,
                    pool_pre_ping=True,
                    hide_parameters=True,
                )
            with self._engine.connect() as connection:
                # Otherwise some drivers fetch all rows there are.
                reading = connection.execution_options(stream_results=True, max_row_buffer=most)
                with reading.execute(alchemy.text(query).bindparams(*binds), values) as result:
                    yield result
        except alchemy.exc.SQLAlchemyError as error:
            raise _poll_error(error, alchemy) from None
        except ImportError as error:
            raise PollError(f"the driver of the database is missing: {error}", permanent=True) from None

    def close(self) -> None:
        """Close the connection; the next query opens another one."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()


def _poll_error(error: Any, alchemy: Any) -> PollError:
    """Say what went wrong without the address, which may hold a password."""
    original = getattr(error, "orig", None)
    if original is None:
        return PollError(f"the database cannot be asked: {type(error).__name__}", permanent=True)
    said = str(original).partition("\n")[0].partition(" (Background on")[0]
    if isinstance(original, alchemy.exc.SQLAlchemyError):  # the query and its values do not go together
        return PollError(f"the query cannot be asked: {said}", permanent=True)
    unknown = getattr(original, "sqlite_errorcode", None) in _SQLITE_WRONG
    wrong = unknown or isinstance(error, alchemy.exc.ProgrammingError)
    return PollError(f"the database says: {said}", permanent=wrong)

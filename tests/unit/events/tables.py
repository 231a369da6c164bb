"""Another program's database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import create_engine, text


class Tables:
    """A connection that commits each statement.

    Args:
        address: SQLAlchemy's.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._engine = create_engine(address, isolation_level="AUTOCOMMIT")
        self.execute("CREATE TABLE orders (id bigint PRIMARY KEY, customer text, at timestamp)")

    @property
    def is_postgres(self) -> bool:
        """Whether it is PostgreSQL."""
        return self.address.startswith("postgresql")

    def execute(self, statement: str, **values: Any) -> Any:
        """Execute a statement; return its first value, if it has one."""
        with self._engine.connect() as connection:
            result = connection.execute(text(statement), values)
            return result.scalar() if result.returns_rows else None

    def order(self, *ids: int, at: str = "2026-01-02 03:04:05") -> None:
        """Add rows."""
        for number in ids:
            self.execute("INSERT INTO orders VALUES (:id, :customer, :at)", id=number, customer=f"c{number}", at=at)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

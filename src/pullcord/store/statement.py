"""The SQL that both databases understand, and its few words that each of them says in its own way.

Commands and queries are written once, in plain SQL with these words:

- `ROWS[name: a b:int]`: a table made from a parameter that holds a JSON array of arrays; columns are texts unless
  marked. `rows()` writes it.
- `VALUES[name]`, `VALUES[name:int]`: a sub-select of the values in a JSON array parameter, for use after IN.
- `SELECT EACH[a, b] FROM …`: rows that are fetched all at once, with `Connection.array`.
- `INDEXED BY name`, `NOT INDEXED`: SQLite, which keeps no statistics here, is told what to walk along.

`executemany` gives up the interpreter lock at every row, and beside a busy thread each return costs a switch
interval; one statement over a JSON parameter gives it up once, and so does one row that holds all the others
(design: group commit).
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

from pydantic_core import to_json

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""An escaped NUL that is no part of an escaped backslash: JSON within JSON may well speak of NULs."""

_ROWS: Final = re.compile(r"ROWS\[(\w+): ([\w: ]+)\]")
_VALUES: Final = re.compile(r"VALUES\[(\w+)(:int)?\]")
_EACH: Final = re.compile(r"EACH\[([^\]]+)\]")
_INDEXED: Final = re.compile(r" (?:NOT INDEXED|INDEXED BY \w+)")
_PARAMETER: Final = re.compile(r"(?<![:\w]):([a-z_]\w*)")


def rows(columns: str, parameter: str = "rows") -> str:
    """Return the SQL of a table made from a parameter that holds a JSON array of arrays.

    Args:
        columns: the names of the inner arrays' values, in order, separated by spaces; numbers are marked `name:int`.
        parameter: name of the bound parameter.
    """
    return f"ROWS[{parameter}: {columns}]"


def names(columns: str) -> str:
    """Return the columns of `rows` as a list for SQL."""
    return ", ".join(column.removesuffix(":int") for column in columns.split())


@cache
def to_sqlite(sql: str) -> str:
    """Return a statement as SQLite understands it."""

    def table(found: re.Match[str]) -> str:
        columns = enumerate(column.removesuffix(":int") for column in found[2].split())
        extracted = ", ".join(f"json_extract(value, '$[{index}]') AS {name}" for index, name in columns)
        # json_each writes an inner array out again for each column that is taken from it, unless it is materialized.
        each = f"WITH each_row AS MATERIALIZED (SELECT value FROM json_each(:{found[1]}))"
        return f"({each} SELECT {extracted} FROM each_row)"

    sql = _ROWS.sub(table, sql)
    sql = _VALUES.sub(r"(SELECT value FROM json_each(:\1))", sql)
    return _EACH.sub(r"json_group_array(json_array(\1))", sql)


@cache
def to_postgres(sql: str) -> str:
    """Return a statement as PostgreSQL and psycopg understand it."""

    def table(found: re.Match[str]) -> str:
        casts = []
        for index, column in enumerate(found[2].split()):
            name, _, kind = column.partition(":")
            value = f"value ->> {index}"
            casts.append(f"CAST({value} AS bigint) AS {name}" if kind else f"{value} AS {name}")
        return f"(SELECT {', '.join(casts)} FROM jsonb_array_elements(CAST(:{found[1]} AS jsonb)))"

    def values(found: re.Match[str]) -> str:
        value = "CAST(value AS bigint)" if found[2] else "value"
        return f"(SELECT {value} FROM jsonb_array_elements_text(CAST(:{found[1]} AS jsonb)))"

    sql = _ROWS.sub(table, sql)
    sql = _VALUES.sub(values, sql)
    sql = _EACH.sub(r"\1", sql)
    sql = _INDEXED.sub("", sql)
    return _PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%"))


def dump(value: Any) -> str:
    """Write rows for a parameter.

    Raises:
        ValueError: a text holds a NUL or a lone surrogate, which a database cuts or refuses.
    """
    text = to_json(value).decode()
    if "\\u0000" in text and _NUL.search(text):
        raise ValueError("a text holds a NUL character")
    return text

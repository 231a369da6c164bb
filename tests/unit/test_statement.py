"""The SQL of two databases: each gets its own words."""

from __future__ import annotations

import pytest

from pullcord.store.statement import dump, names, rows, to_postgres, to_sqlite


def test_rows() -> None:
    sql = f"SELECT a FROM {rows('a b:int')} AS s WHERE b = :b"
    assert to_sqlite(sql) == (
        "SELECT a FROM (WITH each_row AS MATERIALIZED (SELECT value FROM json_each(:rows)) "
        "SELECT json_extract(value, '$[0]') AS a, json_extract(value, '$[1]') AS b FROM each_row) AS s WHERE b = :b"
    )
    assert to_postgres(sql) == (
        "SELECT a FROM (SELECT value ->> 0 AS a, CAST(value ->> 1 AS bigint) AS b "
        "FROM jsonb_array_elements(CAST(%(rows)s AS jsonb))) AS s WHERE b = %(b)s"
    )


def test_values_each_and_index() -> None:
    sql = "SELECT EACH[a, b] FROM t INDEXED BY t_a WHERE a IN VALUES[some] AND b IN VALUES[ids:int]"
    assert to_sqlite(sql) == (
        "SELECT json_group_array(json_array(a, b)) FROM t INDEXED BY t_a "
        "WHERE a IN (SELECT value FROM json_each(:some)) AND b IN (SELECT value FROM json_each(:ids))"
    )
    assert to_postgres(sql) == (
        "SELECT a, b FROM t WHERE a IN (SELECT value FROM jsonb_array_elements_text(CAST(%(some)s AS jsonb))) "
        "AND b IN (SELECT CAST(value AS bigint) FROM jsonb_array_elements_text(CAST(%(ids)s AS jsonb)))"
    )


def test_what_looks_like_a_parameter_and_is_none() -> None:
    assert to_postgres("SELECT a::text, '10%' LIKE :x") == "SELECT a::text, '10%%' LIKE %(x)s"


def test_names() -> None:
    assert names("a b:int c") == "a, b, c"


@pytest.mark.parametrize("text", ["\0", "a\\\0b", '{"a":"\0"}'])
def test_a_nul_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="NUL"):
        dump([text])


@pytest.mark.parametrize("text", ["\\u0000", '"\\\\u0000"', "snow\N{SNOWMAN}"])
def test_a_text_about_a_nul_is_none(text: str) -> None:
    assert dump([text])

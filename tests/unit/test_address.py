"""The address of a PostgreSQL database: nothing that is said of it shows the password."""

from __future__ import annotations

import pytest

from pullcord.core.errors import UsageError
from pullcord.settings import Settings
from pullcord.store.address import named, parsed


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://u:secret@db.example.com/pullcord", "PostgreSQL db.example.com/pullcord"),
        ("postgres://u:secret@db.example.com:5433/p?sslmode=require", "PostgreSQL db.example.com:5433/p"),
        ("postgresql://u:sec%40ret@h/p", "PostgreSQL h/p"),
        ("postgresql://u:secret#2@localhost/p", "PostgreSQL localhost/p"),
        ("postgresql://u:secret?2@localhost/p", "PostgreSQL"),
        ("postgresql://u@/p?host=/run/postgresql&password=secret", "PostgreSQL /run/postgresql/p"),
        ("postgresql://u:secret@[::1]/p", "PostgreSQL ::1/p"),
        ("postgresql:///p", "PostgreSQL localhost/p"),
        ("postgresql://u:sec/ret@h/p", "PostgreSQL"),
        ("postgresql://u:sec@ret@h/p", "PostgreSQL"),
        ("postgresql://u:sec%zret@h/p", "PostgreSQL"),
        ("postgresql://u:sec[ret@h/p", "PostgreSQL"),
        ("mysql://u:secret@h/p", "PostgreSQL"),
    ],
)
def test_the_name_of_a_database(url: str, name: str) -> None:
    shown = Settings(database_url=url).place
    assert shown == named(url)
    assert "sec" not in shown
    assert shown == name or name == "PostgreSQL", shown


@pytest.mark.parametrize("password", ["p@ssw0rd", "s3cr%zzet", "sec/ret", "a@b@c"])
def test_an_address_that_cannot_be_read_is_not_repeated(password: str) -> None:
    with pytest.raises(UsageError, match="percent-encoding") as refused:
        parsed(f"postgresql://user:{password}@localhost/p")
    said = str(refused.value)
    assert not any(part in said for part in (password, password[1:], "ssw0rd", "zzet"))
    assert refused.value.__cause__ is None

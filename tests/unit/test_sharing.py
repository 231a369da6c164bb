"""New runs are shared among workers evenly, counting those that they have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullcord.engine.sharing import shares


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(0, 200))
def test_nobody_gets_a_run_while_another_has_fewer(busy: list[int], count: int) -> None:
    got = shares(busy, count)
    after = [before + share for before, share in zip(busy, got, strict=True)]
    assert sum(got) == count
    assert all(share >= 0 for share in got)
    assert all(runs - 1 <= min(after) for runs, share in zip(after, got, strict=True) if share)


@pytest.mark.parametrize(
    ("busy", "count", "expected"),
    [([0, 0], 1, [1, 0]), ([0, 0], 5, [3, 2]), ([4, 1, 0], 3, [0, 1, 2]), ([7], 3, [3]), ([9, 0], 4, [0, 4])],
)
def test_shares(busy: list[int], count: int, expected: list[int]) -> None:
    assert shares(busy, count) == expected

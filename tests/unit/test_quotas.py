"""What a flow takes at most, as it is declared, written and read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pullcord as pc
from pullcord.core.errors import DefinitionError, UsageError
from pullcord.core.quotas import Quotas, Rate

rates = st.builds(
    Rate,
    st.integers(1, 10_000),
    st.floats(0.001, 31 * 86_400),
    st.sampled_from(["flow", "invoker"]),
    st.sampled_from(["reject", "delay"]),
)
quotas = st.builds(
    Quotas,
    st.none() | rates,
    st.none() | st.integers(0, 1_000_000),
    st.none() | st.floats(0.001, 1e6),
    st.none() | st.integers(1, 1_000_000),
)


@given(quotas)
def test_what_is_written_in_a_manifest_is_read_again(given_: Quotas) -> None:
    assert Quotas.read(given_.as_json()) == given_


def test_a_flow_without_any() -> None:
    @pc.flow
    def plain() -> None: ...

    assert plain.settings.quotas == Quotas() == Quotas.read({})
    assert set(plain.settings.quotas.as_json().values()) == {None}


def test_a_flow_with_all() -> None:
    @pc.flow(rate=pc.Rate(10, "1m", by="invoker"), max_queued=5, queue_ttl="10m", suspend_after=3)
    def careful() -> None: ...

    assert careful.settings.quotas == Quotas(Rate(10, 60, "invoker"), 5, 600.0, 3)


@pytest.mark.parametrize(
    "arguments",
    [
        {"limit": 0, "per": 1},
        {"limit": True, "per": 1},
        {"limit": 10_001, "per": 1},
        {"limit": 1.5, "per": 1},
        {"limit": 1, "per": 0},
        {"limit": 1, "per": "soon"},
        {"limit": 1, "per": "32d"},
        {"limit": 1, "per": 1, "by": "everybody"},
        {"limit": 1, "per": 1, "on_limit": "drop"},
    ],
)
def test_what_no_rate_can_be(arguments: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError):
        Rate(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"rate": 10},
        {"rate": "10/1m"},
        {"max_queued": -1},
        {"max_queued": True},
        {"max_queued": 1, "concurrency": None},
        {"max_queued": 1, "concurrency": pc.Concurrency(1, on_conflict="cancel_running")},
        {"max_queued": 0, "concurrency": pc.Concurrency(1, on_conflict="buffer_one")},
        {"queue_ttl": 0},
        {"queue_ttl": "never"},
        {"suspend_after": 0},
        {"suspend_after": 2.0},
    ],
)
def test_what_no_flow_can_have(arguments: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError):
        pc.flow(**arguments)


@pytest.mark.parametrize(("text", "rate"), [("100/1m", Rate(100, 60)), (" 5 / 1h30m ", Rate(5, 5400))])
def test_a_rate_in_the_settings(text: str, rate: Rate) -> None:
    assert Rate.read(text) == rate


@pytest.mark.parametrize("text", ["", "100", "100/", "/1m", "x/1m", "0/1m", "1/soon", "1/0s", "-1/1m"])
def test_a_text_that_is_no_rate(text: str) -> None:
    with pytest.raises(UsageError):
        Rate.read(text)

"""Keys while something is drawn."""

from __future__ import annotations

import contextlib
import signal

import pytest

from pullcord.cli.keyboard import INTERRUPT, Keyboard


def test_an_interrupt_that_somebody_swallows_is_a_key() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Keyboard() as keyboard:
        assert keyboard.key(0) is None
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert keyboard.key(10) == INTERRUPT
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_ends_what_waits_for_a_key() -> None:
    with Keyboard() as keyboard, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
        keyboard.key(10)

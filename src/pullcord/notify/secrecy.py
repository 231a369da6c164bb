"""Addresses that are secrets stay out of logs: what libraries write while they are at work for a channel is dropped."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pullcord.core.errors import SecretError
from pullcord.notify.channel import DeliveryError
from pullcord.secrets import resolve

_dropped: ContextVar[list[str] | None] = ContextVar("dropped", default=None)


def revealed(reference: str) -> str:
    """Return the secret that a reference names.

    Raises:
        DeliveryError: it is not there. It may be tomorrow, so this is not permanent.
    """
    try:
        return resolve(reference)
    except SecretError as error:
        raise DeliveryError(error.message) from None


@contextmanager
def unlogged(*loggers: str) -> Iterator[list[str]]:
    """Drop what these loggers get from here, and not what others do with the same libraries; give what was dropped.

    Args:
        loggers: exact names; those below them are others.
    """
    for name in loggers:
        logging.getLogger(name).addFilter(_heard)  # the same one again changes nothing
    dropped: list[str] = []
    token = _dropped.set(dropped)
    try:
        yield dropped
    finally:
        _dropped.reset(token)


def _heard(record: logging.LogRecord) -> bool:
    dropped = _dropped.get()
    if dropped is None:
        return True
    dropped.append(record.getMessage())
    return False

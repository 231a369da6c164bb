"""Hears PostgreSQL's notifications. They are a wake-up only: a lost one delays a run, and it never lets one slip by.

With one server a database, which is the rule for now, the only other writer is an administrator's hand: who changes
rows with psql can say `NOTIFY pullcord`, and the server looks at all its queues.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from typing import Any, Final

import psycopg

from pullcord.store.postgres import CHANNEL, connect, explain

log = logging.getLogger(__name__)

PAUSE: Final = 1.0
"""Seconds between tries to connect again."""


class Listener:
    """A connection that listens on the event loop.

    Args:
        url: address of the database.
        heard: called with a notification's payload, and with "" when some may have been missed.
    """

    def __init__(self, url: str, heard: Callable[[str], None]) -> None:
        self._url = url
        self._heard = heard
        self._connection: psycopg.Connection[Any] | None = None
        self._descriptor = -1
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen."""
        self._task = asyncio.get_running_loop().create_task(self._connect())

    async def stop(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._drop()

    async def _connect(self) -> None:
        failing = False
        while True:
            connecting = asyncio.ensure_future(asyncio.to_thread(connect, self._url, f"LISTEN {CHANNEL}"))
            try:
                self._connection = await asyncio.shield(connecting)
                break
            except asyncio.CancelledError:
                with contextlib.suppress(psycopg.Error):
                    (await connecting).close()
                raise
            except psycopg.Error as error:
                if not failing:
                    log.warning("listening to PostgreSQL failed, and is tried again: %s", explain(error).error)
                failing = True
                await asyncio.sleep(PAUSE)
        # The driver closes its descriptor when the connection breaks, and the loop must not watch a stranger's.
        self._descriptor = os.dup(self._connection.fileno())
        asyncio.get_running_loop().add_reader(self._descriptor, self._readable, self._connection)
        self._heard("")

    def _readable(self, connection: psycopg.Connection[Any]) -> None:
        try:
            connection.pgconn.consume_input()
        except psycopg.OperationalError:
            self._drop()
            self.start()
            return
        while (notification := connection.pgconn.notifies()) is not None:
            self._heard(notification.extra.decode())

    def _drop(self) -> None:
        if self._connection is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._connection.close()
            self._connection = None

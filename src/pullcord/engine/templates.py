"""The template processes of a location: the one that workers are forked from now, and those with old ones still."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pullcord.core.errors import LocationError
from pullcord.engine.template import Template

STARTING: Final = 60.0
"""Seconds in which a template starts a worker."""

_HELD: Final = 0
"""Stands for a worker that a new template is about to have."""


class Templates:
    """Starts templates, and ends those that no worker needs any more.

    Args:
        cwd: working folder of the processes.
        folder: the data folder.
        on_exit: called with a worker's process id and exit status (negative: the signal).
        on_death: called with the process ids of the workers that died with their template.

    Attributes:
        current: what workers are forked from.
        leaving: whether a template is ended as soon as its last worker has, the current one too.
    """

    def __init__(
        self,
        cwd: Path,
        folder: Path,
        on_exit: Callable[[int, int], None],
        on_death: Callable[[set[int]], None],
    ) -> None:
        self.current: Template | None = None
        self.leaving = False
        self._cwd = cwd
        self._folder = folder
        self._on_exit = on_exit
        self._on_death = on_death
        self._workers: dict[Template, set[int]] = {}
        self._closing: set[Template] = set()

    @property
    def none_left(self) -> bool:
        """Whether there is no template any more."""
        return not self._workers

    def start(self, python: str) -> Template:
        """Start a template with an interpreter; its messages are heard once it is attached.

        Raises:
            LocationError: the interpreter cannot be started.
        """
        template = Template(python, self._cwd, self._folder, self._exited, self._died)
        self._workers[template] = set()
        return template

    def start_beside(self, python: str) -> Template:
        """Start a template that may take the place of the current one; it is kept until it is let go of.

        Raises:
            LocationError: the interpreter cannot be started.
        """
        template = self.start(python)
        template.attach()
        self._workers[template].add(_HELD)
        return template

    def let_go(self, template: Template) -> None:
        """Keep a template only as long as it has workers or is the current one."""
        self._workers.get(template, set()).discard(_HELD)
        self.close_unneeded()

    async def fork(self, python: str, template: Template | None) -> tuple[int, socket.socket]:
        """Fork a worker; return its process id and the channel to it.

        Args:
            python: interpreter of a template that has to be started first, when there is none.
            template: what it is forked from; the current one unless given.

        Raises:
            LocationError: the interpreter starts no worker.
            OSError: there is no process to be had.
        """
        if template is None and self.current is None:
            self.current = self.start(python)
            self.current.attach()
        template = template or self.current
        assert template is not None
        try:
            async with asyncio.timeout(STARTING):
                pid, connection = await template.spawn()
        except TimeoutError:
            if not self._workers.get(template, set()) - {_HELD}:
                self._abandon(template)
            raise LocationError(f"the interpreter {template.python} does not start a worker") from None
        if template not in self._workers:
            connection.close()
            raise LocationError("the template process died with the worker that it had just started")
        self._workers[template].add(pid)
        return pid, connection

    def close_unneeded(self) -> None:
        """End the templates that no worker needs any more."""
        for template, pids in list(self._workers.items()):
            if not pids and (self.leaving or template is not self.current):
                self._abandon(template)

    def close(self) -> None:
        """End all templates, and their workers with them."""
        for template in list(self._workers):
            self._abandon(template)

    async def ended(self) -> None:
        """Wait until the processes of the templates that were ended are gone."""
        await asyncio.gather(*(template.ended() for template in self._closing))

    def _exited(self, pid: int, status: int) -> None:
        self._on_exit(pid, status)
        for pids in self._workers.values():
            pids.discard(pid)
        self.close_unneeded()

    def _died(self, template: Template) -> None:
        """Somebody killed a template, and its workers died with it."""
        pids = self._workers.pop(template, set())
        if template is self.current:
            self.current = None
        self._on_death(pids)
        self.close_unneeded()

    def _abandon(self, template: Template) -> None:
        workers = self._workers.pop(template, set()) - {_HELD}
        if template is self.current:
            self.current = None
        template.close(workers)
        self._closing = {other for other in self._closing if not other.gone} | {template}

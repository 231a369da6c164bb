"""Back up a SQLite database while it is in use: verify the copy, publish it, keep the newest.

What it shows: one nested input model with a rule across its fields, a discriminated union (the form in the browser
follows the choice), progress from inside a library's callback, and steps that may be cut off anywhere and run again:
each either finds its work done or starts it over. Without inputs it backs up a small shop that it makes itself. Your
own database: `--inputs FILE` with {"job": {"source": "shop.db", "destination": "backups", "keep": 14}}.

    pullcord serve examples/
    pullcord run backup-sqlite --wait
"""

import gzip
import hashlib
import os
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

import pullcord as pc

SAMPLE = Path("backup-out/data/shop.db")
CHUNK = 1 << 20


class Plain(BaseModel):
    kind: Literal["none"] = "none"


class Gzip(BaseModel):
    kind: Literal["gzip"] = "gzip"
    level: Annotated[int, Field(ge=1, le=9, description="1 is fast, 9 is small")] = 6


class Job(BaseModel):
    source: Path = Field(default=SAMPLE, description="The SQLite file; the default is a sample that is made for you")
    destination: Path = Field(default=Path("backup-out/copies"), description="A folder, not the one of the source")
    keep: int = Field(default=7, ge=1, le=1000, description="How many backups of this database to keep")
    compression: Annotated[Plain | Gzip, Field(discriminator="kind")] = Gzip()

    @model_validator(mode="after")
    def not_beside_the_source(self) -> Self:
        if self.destination.resolve() == self.source.resolve().parent:
            raise ValueError("destination must not be the folder of the source: one mishap would take both")
        return self


SAMPLE_JOB = Job()


class Snapshot(BaseModel):
    """A copy that is complete but not verified, under a name that nobody takes for a backup."""

    working: Path
    final: Path
    pages: int


class Verified(BaseModel):
    sha256: str = Field(description="Of the database, not of the compressed file")
    size: int
    tables: dict[str, int] = Field(description="Rows by table")


class Backup(BaseModel):
    path: Path
    size: int
    database: Verified
    removed: list[Path]


@pc.flow(name="backup-sqlite", concurrency=1, tags=["example", "ops"], timeout="2h")
def backup_sqlite(job: Job = SAMPLE_JOB) -> Backup:
    """Copy a live **SQLite** database, prove that the copy is sound, and only then let it count as a backup."""
    if job.source == SAMPLE:
        make_sample(job.source)
    snapshot = copy_database(job.source, job.destination, job.compression)
    verified = verify(snapshot)
    size = publish(snapshot, verified, job.compression)
    return Backup(path=snapshot.final, size=size, database=verified, removed=rotate(snapshot, job.keep))


@pc.step(timeout="5m")
def make_sample(path: Path) -> None:
    """Make the sample shop once: one transaction, so it is all there or nothing is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as shop, shop:
        shop.execute("BEGIN IMMEDIATE")
        shop.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, customer TEXT, cents INTEGER)")
        if shop.execute("SELECT count(*) FROM orders").fetchone() == (0,):
            orders = ((number, f"customer {number % 977}", number * 37 % 20_000) for number in range(1, 200_001))
            shop.executemany("INSERT INTO orders VALUES (?, ?, ?)", orders)


@pc.step(retries=2, delay="5s", timeout="1h")
def copy_database(source: Path, destination: Path, compression: Plain | Gzip) -> Snapshot:
    """Copy page by page with SQLite's backup API; whoever uses the database can go on reading and writing."""
    if not source.is_file():
        raise FileNotFoundError(f"there is no database {source.resolve()}")
    destination = destination.resolve()
    destination.mkdir(parents=True, exist_ok=True)
    run_id = str(pc.run().id).replace("-", "")
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    suffix = ".db.gz" if isinstance(compression, Gzip) else ".db"
    final = destination / f"{source.stem}-{stamp}-{run_id[-8:]}{suffix}"
    working = destination / f".{source.stem}-{run_id}.part"
    for left_over in destination.glob(f"{working.name}*"):  # of a try that was cut off: the copy and its journal
        left_over.unlink(missing_ok=True)
    pages = 0

    def report(_status: int, remaining: int, total: int) -> None:
        nonlocal pages
        pages = total
        pc.progress(total - remaining, total, "copying pages")

    with (
        closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=rw", uri=True)) as original,  # rw: never creates it
        closing(sqlite3.connect(working)) as copy,
    ):
        original.backup(copy, pages=512, progress=report, sleep=0.01)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file that needs no -wal beside it
    pc.run().logger.info("copied %d pages of %s", pages, source)
    return Snapshot(working=working, final=final, pages=pages)


@pc.step(timeout="1h")
def verify(snapshot: Snapshot) -> Verified:
    """Let SQLite check every page and index of the copy, and take its fingerprint."""
    with closing(sqlite3.connect(f"{snapshot.working.as_uri()}?mode=ro", uri=True)) as copy:
        problems = [row[0] for row in copy.execute("PRAGMA integrity_check(5)")]
        if problems != ["ok"]:
            raise ValueError(f"the copy is damaged, so the database probably is: {'; '.join(problems)}")
        names = [row[0] for row in copy.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
        tables = {}
        for done, name in enumerate(names, 1):
            quoted = name.replace('"', '""')
            tables[name] = copy.execute(f'SELECT count(*) FROM "{quoted}"').fetchone()[0]
            pc.progress(done, len(names), "counting rows")
    sha256 = fingerprint(snapshot.working)
    pc.run().logger.info("verified: integrity ok, %d tables, sha256 %s", len(tables), sha256)
    return Verified(sha256=sha256, size=snapshot.working.stat().st_size, tables=tables)


@pc.step(retries=2, delay="5s", timeout="1h")
def publish(snapshot: Snapshot, verified: Verified, compression: Plain | Gzip) -> int:
    """Compress if wanted, read it back, give it its name. A name that exists is proof that this was done already."""
    if not snapshot.final.exists():
        ready = snapshot.working
        if isinstance(compression, Gzip):
            ready = snapshot.working.with_suffix(".gz.part")
            compress(snapshot.working, ready, compression.level)
        if fingerprint(ready, compressed=isinstance(compression, Gzip)) != verified.sha256:
            raise OSError(f"{ready} does not read back as it was written; is the disk sound?")
        ready.replace(snapshot.final)
    snapshot.working.unlink(missing_ok=True)
    size = snapshot.final.stat().st_size
    pc.run().logger.info("published %s: %d bytes", snapshot.final, size)
    return size


def compress(source: Path, target: Path, level: int) -> None:
    size = source.stat().st_size
    with source.open("rb") as plain, target.open("wb") as file:
        with gzip.GzipFile("", "wb", level, file, mtime=0) as packed:  # without name and time: equal in, equal out
            while chunk := plain.read(CHUNK):
                packed.write(chunk)
                pc.progress(plain.tell(), size, "compressing")
        file.flush()
        os.fsync(file.fileno())  # on disk before it gets its name


def fingerprint(path: Path, *, compressed: bool = False) -> str:
    digest = hashlib.sha256()
    with gzip.open(path, "rb") if compressed else path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@pc.step
def rotate(snapshot: Snapshot, keep: int) -> list[Path]:
    """Remove what is older than the newest `keep` backups of this database, and nothing else."""
    stem = re.escape(snapshot.final.name.rsplit("-", 2)[0])
    backup = re.compile(stem + r"-\d{8}T\d{6}Z-[0-9a-f]{8}\.db(\.gz)?")
    left_over = re.compile(r"\." + stem + r"-[0-9a-f]{32}(\.gz)?\.part(-journal)?")  # of failed runs
    files = sorted(snapshot.final.parent.iterdir())
    backups = [path for path in files if backup.fullmatch(path.name)]
    removed = backups[:-keep]
    for path in [*removed, *(path for path in files if left_over.fullmatch(path.name))]:
        path.unlink(missing_ok=True)
    pc.run().logger.info("kept %d backups, removed %d", len(backups) - len(removed), len(removed))
    return removed

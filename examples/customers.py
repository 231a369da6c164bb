"""Clean a file of customers: a pipeline that survives a crash at any moment.

What it shows: a flow of six recorded steps over 120,000 rows. Between the steps go typed summaries and file paths,
never the rows. Files are written under a temporary name and renamed, so that a half-written one never looks whole.
Kill the server midway and start it again: the run goes on with the first step that was not recorded (see
`customers-out/executions.log`) and ends with the same `sha256` as without the crash.

    pullcord serve examples/
    pullcord run clean-customers --wait
"""

import csv
import hashlib
import os
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from difflib import SequenceMatcher
from itertools import combinations
from operator import itemgetter
from pathlib import Path
from typing import Annotated, NamedTuple, TextIO, TypeVar

from pydantic import BaseModel, Field

import pullcord as pc

T = TypeVar("T")


class Customer(NamedTuple):
    id: str
    first_name: str
    last_name: str
    email: str
    phone: str
    birth_date: str
    postcode: str
    updated: str


# What the steps hand on: Pullcord records it as JSON, and the flow always gets what was recorded.
class Table(BaseModel):
    path: Path
    rows: int
    counts: dict[str, int] = {}


class Column(BaseModel):
    missing: int
    distinct: int
    commonest: dict[str, int]


class Summary(BaseModel):
    customers: Table
    sha256: str
    profile: dict[str, Column]
    cleansed: Table
    matched: Table


@pc.flow(tags=["example", "data"], concurrency=1, timeout="10m")
def clean_customers(
    rows: Annotated[int, Field(ge=1_000, le=1_000_000, description="Rows in the raw file")] = 120_000,
    workdir: Annotated[Path, Field(description="Folder for all files of the run")] = Path("customers-out"),
    seed: Annotated[int, Field(ge=0, description="The same seed makes the same customers")] = 42,
    duplicate_share: Annotated[float, Field(ge=0, le=0.5, description="Share of rows that repeat a person")] = 0.15,
    match_threshold: Annotated[float, Field(ge=0.5, le=1, description="Score that makes two rows one person")] = 0.85,
) -> Summary:
    """Import, profile, cleanse, match, merge and export a file of **customers** with realistic dirt in it."""
    imported = import_customers(workdir, rows, seed, duplicate_share)
    columns = profile(imported)
    cleansed = cleanse(imported)
    matched = match_duplicates(cleansed, match_threshold)
    merged = merge(cleansed, matched)
    return export(merged, columns, cleansed, matched)


@pc.step(timeout="5m")
def import_customers(workdir: Path, rows: int, seed: int, share: float) -> Table:
    """Make the raw file. What is recorded is its absolute path, so that later steps find it from anywhere."""
    workdir.mkdir(parents=True, exist_ok=True)
    began("import_customers", workdir)
    raw = write(workdir.resolve() / "1-raw.csv", tracked(make_customers(rows, seed, share), rows, "importing"))
    print(f"imported {raw.rows:,} rows into {raw.path}")
    return raw


@pc.step(timeout="5m")
def profile(raw: Table) -> dict[str, Column]:
    """Look before touching: what is missing, how much repeats, what stands there most."""
    began("profile", raw.path.parent)
    counters = {name: Counter[str]() for name in Customer._fields}
    for customer in tracked(read(raw.path), raw.rows, "profiling"):
        for counter, cell in zip(counters.values(), customer, strict=True):
            counter[cell.strip().lower()] += 1
    columns = {}
    for name, counter in counters.items():
        missing, commonest = sum(counter[cell] for cell in NOTHING), dict(counter.most_common(3))
        columns[name] = Column(missing=missing, distinct=len(counter), commonest=commonest)
    print(f"profiled {len(columns)} columns: {sum(column.missing for column in columns.values()):,} cells are missing")
    return columns


@pc.step(timeout="5m")
def cleanse(raw: Table) -> Table:
    """Bring every value into one form; rows by which nobody could be found are left out and counted."""
    began("cleanse", raw.path.parent)
    changed = Counter[str]()

    def cleaned() -> Iterator[Customer]:
        for before in tracked(read(raw.path), raw.rows, "cleansing"):
            after = clean(before)
            if after.last_name and (after.email or after.phone or after.birth_date):
                changed.update([n for n, old, new in zip(Customer._fields, before, after, strict=True) if old != new])
                yield after

    table = write(raw.path.with_name("2-clean.csv"), cleaned())
    print(f"cleansed {raw.rows:,} rows: {changed.total():,} cells changed, {raw.rows - table.rows:,} rows rejected")
    return table.model_copy(update={"counts": {"rejected": raw.rows - table.rows, **changed}})


@pc.step(timeout="5m")
def match_duplicates(cleansed: Table, threshold: float) -> Table:
    """Find the rows of one person. Only rows with a common blocking key are compared: not billions of pairs."""
    began("match_duplicates", cleansed.path.parent)
    customers = list(read(cleansed.path))
    leader = list(range(len(customers)))  # a forest: rows with the same root are one person
    compared = 0

    def root(row: int) -> int:
        while leader[row] != row:
            leader[row] = row = leader[leader[row]]
        return row

    blocks: defaultdict[str, list[int]] = defaultdict(list)
    for row, customer in enumerate(customers):
        for key in filter(None, blocking_keys(customer)):
            blocks[key].append(row)
    for block in tracked(blocks.values(), len(blocks), "matching"):
        if 1 < len(block) <= 40:  # with more it is a shared mailbox or a switchboard, and tells nobody apart
            for one, other in combinations(block, 2):
                low, high = sorted((root(one), root(other)))
                if low != high:
                    compared += 1
                    if similarity(customers[one], customers[other]) >= threshold:
                        leader[high] = low
    first_ids = [customers[root(row)].id for row in range(len(customers))]
    duplicates = len(customers) - len(set(first_ids))
    path = cleansed.path.with_name("3-persons.csv")
    with whole_file(path) as out:
        csv.writer(out).writerows(zip((customer.id for customer in customers), first_ids, strict=True))
    print(f"compared {compared:,} pairs: {duplicates:,} rows repeat a person")
    return Table(path=path, rows=len(customers), counts={"compared": compared, "duplicates": duplicates})


@pc.step(timeout="5m")
def merge(cleansed: Table, matched: Table) -> Table:
    """One row for each person: in each column what most of their rows say, and of equals the newest."""
    began("merge", cleansed.path.parent)
    persons: defaultdict[str, list[Customer]] = defaultdict(list)
    with matched.path.open(encoding="utf-8", newline="") as file:
        for customer, (_, first_id) in zip(read(cleansed.path), csv.reader(file), strict=True):
            persons[first_id].append(customer)
    golden = map(one_of, tracked(persons.values(), len(persons), "merging"))
    table = write(cleansed.path.with_name("4-merged.csv"), golden)
    print(f"merged {cleansed.rows:,} rows into {table.rows:,} persons")
    return table


@pc.step(retries=2, delay="1s", timeout="5m")
def export(merged: Table, columns: dict[str, Column], cleansed: Table, matched: Table) -> Summary:
    """The result, sorted by name, and a summary of what every step found."""
    began("export", merged.path.parent)
    customers = sorted(read(merged.path), key=itemgetter(2, 1, 0))
    table = write(merged.path.with_name("customers.csv"), tracked(customers, merged.rows, "exporting"))
    sha256 = hashlib.sha256(table.path.read_bytes()).hexdigest()
    summary = Summary(customers=table, sha256=sha256, profile=columns, cleansed=cleansed, matched=matched)
    with whole_file(table.path.with_name("summary.json")) as out:
        out.write(summary.model_dump_json(indent=2))
    print(f"exported {table.rows:,} customers to {table.path}")
    return summary


def began(step: str, workdir: Path) -> None:
    with (workdir / "executions.log").open("a", encoding="utf-8") as log:
        log.write(f"{step} pid={os.getpid()}\n")


def tracked(items: Iterable[T], total: int, text: str) -> Iterator[T]:
    for done, item in enumerate(items, 1):
        yield item
        if done % 5_000 == 0 or done == total:
            pc.progress(done, total, text)


@contextmanager
def whole_file(path: Path) -> Iterator[TextIO]:
    """Write under a temporary name, force it to disk, rename: under its real name a file is always whole."""
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8", newline="") as out:
        yield out
        out.flush()
        os.fsync(out.fileno())
    part.replace(path)


def write(path: Path, customers: Iterable[Customer]) -> Table:
    with whole_file(path) as out:
        csv.writer(out).writerow(Customer._fields)
        rows = sum(map(bool, map(csv.writer(out).writerow, customers)))
    return Table(path=path, rows=rows)


def read(path: Path) -> Iterator[Customer]:
    with path.open(encoding="utf-8", newline="") as file:
        next(file)
        yield from map(Customer._make, csv.reader(file))


NOTHING = {"", "-", "n/a", "unknown"}
UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "ë": "e"})


def clean(raw: Customer) -> Customer:
    cells = ["" if (text := " ".join(cell.split())).lower() in NOTHING else text for cell in raw]
    number, first, last, email, phone, birth, postcode, updated = cells
    email = email.lower() if re.fullmatch(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", email) else ""
    phone = re.sub("^0", "+49", re.sub("^00", "+", re.sub(r"\(0\)|[^0-9+]", "", phone)))
    phone = phone if re.fullmatch(r"\+[1-9][0-9]{7,14}", phone) else ""
    return Customer(number, first.title(), last.title(), email, phone, clean_date(birth), postcode, updated)


def clean_date(text: str) -> str:
    try:  # 1975-03-07, 07.03.1975 or 7/3/1975
        year, month, day = text.split("-") if "-" in text else reversed(re.split("[./]", text))
        return date(int(year), int(month), int(day)).isoformat()
    except ValueError:
        return ""


def one_of(known: list[Customer]) -> Customer:
    if len(known) == 1:
        return known[0]
    newest_first = sorted(known, key=lambda customer: customer.updated, reverse=True)
    columns = [[cell for cell in column if cell] or [""] for column in zip(*newest_first, strict=True)]
    agreed = Customer._make(max(cells, key=cells.count) for cells in columns)
    return agreed._replace(id=known[0].id, updated=newest_first[0].updated)


def blocking_keys(c: Customer) -> tuple[str, ...]:
    return c.email, c.phone, c.birth_date and c.birth_date + c.last_name[0], c.postcode and c.postcode + c.first_name


def similarity(one: Customer, other: Customer) -> float:
    """From 0 to 1: the mean over the columns that both rows have, weighted by how much they tell."""
    score = possible = 0.0
    for column, weight in enumerate((25, 25, 15, 10, 25), 1):  # names, e-mail, phone, date of birth
        if (mine := one[column]) and (theirs := other[column]):
            possible += weight
            score += weight * (mine == theirs or (column < 3 and SequenceMatcher(None, mine, theirs).quick_ratio()))
    return score / possible


FIRST = ["Anna", "Ben", "Clara", "David", "Finn", "Greta", "Jürgen", "Karl", "Lena", "Noah", "Rosa", "Sören", "Zoë"]
LAST = ["Berg", "Eichen", "Falken", "Groß", "Hohen", "König", "Lind", "Neu", "Ober", "Schön", "Stein", "Weiß", "Wolf"]
ENDS = ["mann", "feld", "bach", "hauer", "meier", "stein", "hof", "thal", "wald", "er"]


def make_customers(rows: int, seed: int, duplicate_share: float) -> Iterator[Customer]:
    """Persons, some of one household, some more than once; most rows with some dirt."""
    rng = random.Random(seed)
    persons = [("Ada", "Lovelace", "ada@example.org", ("170", "5550000"), date(1975, 3, 7), "10115")]
    for number in range(1, rows + 1):
        first, last, email, phone, birth, postcode = rng.choice(persons)
        if rng.random() >= duplicate_share:  # somebody new, now and then of the same household
            if rng.random() < 0.9:
                last, postcode = rng.choice(LAST) + rng.choice(ENDS), str(rng.randrange(10_000, 99_999))
                phone = str(rng.randrange(150, 180)), str(rng.randrange(10**6, 10**8))
            first, birth = rng.choice(FIRST), date.fromordinal(rng.randrange(708_200, 732_200))
            email = f"{first}.{last}{number}@example.org".lower().translate(UMLAUTS)
            persons.append((first, last, email, phone, birth, postcode))
        elif rng.random() < 0.5:  # the same person, with a slip of the finger
            slip = rng.randrange(1, len(last) - 1)
            last = last[:slip] + last[slip + 1] + last[slip] + last[slip + 2 :]
        dialled = rng.choice(("+49{}{}", "0{}/{}", "0049 {} {}", "+49 (0){}-{}")).format(*phone)
        born = birth.strftime(rng.choice(("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y")))
        cells = [first, last, email, dialled, born, postcode]
        for column, cell in enumerate(cells):
            luck = rng.random()
            if luck < 0.05 and column > 1:
                cells[column] = rng.choice(("", "n/a", "-", "unknown"))
            elif luck < 0.2:
                cells[column] = rng.choice((cell.upper(), cell.lower(), f"  {cell} ", cell.translate(UMLAUTS)))
        yield Customer._make([f"C{number:07}", *cells, str(date.fromordinal(rng.randrange(736_700, 739_200)))])

"""Where the documentation is, and its examples typed: several pages at once, for they mostly wait."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))

PAGES = sorted(
    str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")] if "reference" not in path.parts
)
"""All pages that were written by hand."""

Walked = Callable[[str], None]


@pytest.fixture(scope="session")
def walked(request: pytest.FixtureRequest) -> Iterator[Walked]:
    """Give a function that waits until a page's examples were typed, and raises what went wrong."""
    items = [item for item in request.session.items if "walked" in getattr(item, "fixturenames", ())]
    # In the order in which they are asked for: the whole of them takes longer than a test may wait.
    wanted = dict.fromkeys(item.callspec.params["page"] for item in items)
    with ThreadPoolExecutor(4) as pool:
        pages: dict[str, Future[None]] = {page: pool.submit(_walk, page) for page in wanted}
        yield lambda page: pages[page].result()


def _walk(page: str) -> None:
    from walkthrough import Reader

    with tempfile.TemporaryDirectory(prefix="pullcord-docs-") as folder, Reader(Path(folder)) as reader:
        reader.read((ROOT / page).read_text(encoding="utf-8"))

"""Links lead somewhere, every page can be found, and nothing names the machine it was written on."""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

import pytest

from tests.docs.conftest import DOCS, PAGES, ROOT

ALL = [*PAGES, *sorted(str(path.relative_to(ROOT)) for path in (DOCS / "reference").glob("*.md"))]
TEXTS = sorted(
    str(path.relative_to(ROOT))
    for path in [*(ROOT / name for name in ALL), *DOCS.glob("*.py"), *DOCS.rglob("*.svg"), *DOCS.rglob("*.json")]
)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def prose(name: str) -> str:
    """Return a page without its blocks."""
    return _FENCE.sub("", (ROOT / name).read_text(encoding="utf-8"))


def links(name: str) -> list[str]:
    """Return where a page's links lead."""
    return [first or second for first, second in _LINK.findall(prose(name))]


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as code hosts make them."""
    text = prose(str(path.relative_to(ROOT)))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize("page", ALL)
def test_links_lead_somewhere(page: str) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        place, _, anchor = link.partition("#")
        path = ((ROOT / page).parent / place).resolve() if place else ROOT / page
        assert path.exists(), f"{page}: there is no {link}"
        assert path.is_relative_to(ROOT), f"{page}: {link} leads out of the project"
        if anchor:
            assert anchor in anchors(path), f"{page}: {place} has no heading for #{anchor}"


def test_every_page_can_be_found() -> None:
    linked = {
        str(((ROOT / page).parent / link.partition("#")[0]).resolve().relative_to(ROOT))
        for page in PAGES
        for link in links(page)
        if not link.startswith("https://")
    }
    assert set(ALL) - {"README.md"} <= linked


@pytest.mark.parametrize("name", TEXTS)
def test_no_machine_is_named(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    here = {str(ROOT), sys.prefix, sys.base_prefix, str(Path.home()), "/root/", f"{tempfile.gettempdir()}/"}
    for place in here - {"/", "/usr", "/home"}:
        assert place not in text, f"{name} names {place}"
    assert "pypi" not in text.lower(), f"{name} names a package index"

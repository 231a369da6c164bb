"""What is written from the code is what the code gives, and the picture shows a run as it is."""

from __future__ import annotations

from importlib import import_module
from xml.etree import ElementTree

import pytest
from generate import OUTPUTS

from tests.docs.conftest import DOCS, ROOT


@pytest.mark.parametrize("name", OUTPUTS)
def test_written_from_the_code(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text == OUTPUTS[name](), f"{name} is out of date: run `make schema` and commit it"


def test_nothing_else_is_in_the_reference() -> None:
    written = {ROOT / name for name in OUTPUTS}
    assert set((DOCS / "reference").iterdir()) <= written


@pytest.mark.parametrize("name", ["measure", "picture"])
def test_the_other_tools_still_fit_the_code(name: str) -> None:
    assert import_module(name).main


def test_the_picture_is_whole() -> None:
    picture = ElementTree.parse(DOCS / "images" / "run.svg").getroot()
    shown = "\n".join("".join(line.itertext()) for line in picture.iter("{http://www.w3.org/2000/svg}text"))
    assert "pullcord run sales-report" in shown
    assert "succeeded" in shown
    assert "error:" in shown
    assert "Traceback" not in shown
    assert "docs/images/run.svg" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_picture_of_clocks_shows_both_nights() -> None:
    picture = ElementTree.parse(DOCS / "images" / "daylight-saving.svg").getroot()
    (spring, autumn) = picture.findall("{http://www.w3.org/2000/svg}g")
    circles = "{http://www.w3.org/2000/svg}circle"
    assert (len(spring.findall(circles)), len(autumn.findall(circles))) == (1 + 11 + 0 + 6, 1 + 11 + 4 + 6)

"""Draw `docs/images/run.svg`: a real `pullcord run` on a pseudo-terminal, first on its way, then at its end.

`python docs/picture.py` types the commands of `SCENE` in an empty folder and draws what the screen showed.
"""

from __future__ import annotations

import re
import sys
import tempfile
from html import escape
from pathlib import Path
from typing import Final

from rich.cells import cell_len
from rich.color import ColorTriplet
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

sys.path.insert(0, str(Path(__file__).parent))
from terminal import Screen, Terminal
from walkthrough import Reader

IMAGE: Final = Path(__file__).parent / "images" / "run.svg"
WIDTH: Final = 92
FLOW: Final = """
import time
from datetime import date

import pullcord as pc


@pc.step(retries=2)
def fetch(shop: str, day: date) -> int:
    time.sleep(0.4)
    rows = sum(shop.encode()) * 3
    pc.run().logger.info("%s: %d rows", shop, rows)
    return rows


@pc.step
def write_report(totals: dict[str, int]) -> str:
    time.sleep(0.2)
    return "report.pdf"


@pc.flow
def sales_report(day: date) -> str:
    totals: dict[str, int] = {}
    shops = ["berlin", "lyon", "porto", "torino", "wien"]
    for number, shop in enumerate(shops):
        pc.progress(number, len(shops), f"fetching {shop}")
        totals[shop] = fetch(shop, day)
    return write_report(totals)
"""
REFUSED: Final = "pullcord run sales-report --input day=tomorrow"
COMMAND: Final = "pullcord run sales-report --input day=2030-01-31"

BACKGROUND, FOREGROUND = ColorTriplet(24, 26, 33), ColorTriplet(214, 218, 228)
THEME: Final = TerminalTheme(
    tuple(BACKGROUND), tuple(FOREGROUND),
    [(58, 62, 75), (239, 107, 115), (126, 198, 121), (229, 192, 103),
     (104, 157, 236), (198, 128, 224), (86, 190, 201), (171, 178, 191)],
)  # fmt: skip
CHAR, LINE, MARGIN = 8.4, 20, 18


def scene() -> list[tuple[str, str]]:
    """Return titles and what the screen showed under them, with colour codes."""
    with tempfile.TemporaryDirectory(prefix="pullcord-docs-") as folder, Reader(Path(folder)) as reader:
        (reader.folder / "flows.py").write_text(FLOW, encoding="utf-8")
        refused = _typed(reader, REFUSED)
        with Terminal(COMMAND, reader.folder, reader.environment, WIDTH) as terminal:
            terminal.read_until(lambda screen: any("porto: " in line for line in screen.lines))
            terminal.read_until(lambda screen: "3/5" in screen.lines[-1])
            half = _with_prompt(COMMAND, terminal.screen)
            terminal.finish()
            done = _with_prompt(COMMAND, terminal.screen)
    return [("on its way", half), ("at its end", f"{done}\n{refused}")]


def _typed(reader: Reader, command: str) -> str:
    with Terminal(command, reader.folder, reader.environment, WIDTH) as terminal:
        terminal.finish()
        return _with_prompt(command, terminal.screen)


def _with_prompt(command: str, screen: Screen) -> str:
    return f"\x1b[2m$\x1b[0m \x1b[1m{command}\x1b[0m\n{screen.ansi}"


def draw(scenes: list[tuple[str, str]]) -> str:
    """Return the scenes as one SVG, below one another. No fonts and styles from elsewhere."""
    width = round(WIDTH * CHAR + 2 * MARGIN)
    body: list[str] = []
    top = 0
    for title, ansi in scenes:
        lines = [Text.from_ansi(line) for line in ansi.split("\n")]
        height = len(lines) * LINE + 2 * MARGIN + 14
        body.append(
            f'<g transform="translate(0 {top})">'
            f'<rect width="{width}" height="{height}" rx="8" fill="{BACKGROUND.hex}"/>'
            f'<text x="{width - MARGIN}" y="24" text-anchor="end" fill="#7a8093" font-size="12">{escape(title)}</text>'
        )
        body += [_line(line, MARGIN + 22 + number * LINE) for number, line in enumerate(lines)]
        body.append("</g>")
        top += height + 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top - 12}" width="{width}" role="img" '
        'aria-label="pullcord run on a terminal: steps, log lines and progress, the result, and a request with an '
        'invalid input that is refused">\n'
        "<style>text { font-family: ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; font-size: 14px; "
        "white-space: pre }</style>\n" + "\n".join(body) + "\n</svg>\n"
    )


def _line(line: Text, y: int) -> str:
    """Return one line; each piece of one style is put where it belongs, whatever font the reader has."""
    pieces: list[str] = []
    column = 0
    for part in line.split("\n", allow_blank=True)[0].divide(
        sorted({edge for span in line.spans for edge in span[:2]})
    ):
        text = part.plain
        style = (
            Style.combine([span.style for span in part.spans if isinstance(span.style, Style)])
            if part.spans
            else Style()
        )
        for match in re.finditer(r"\S+(?: \S+)*", text):
            x = MARGIN + (column + cell_len(text[: match.start()])) * CHAR
            length = cell_len(match[0]) * CHAR
            pieces.append(
                f'<tspan x="{x:.1f}" textLength="{length:.1f}" fill="{_colour(style)}"{_weight(style)}>'
                f"{escape(match[0])}</tspan>"
            )
        column += cell_len(text)
    return f'<text y="{y}">{"".join(pieces)}</text>'


def _colour(style: Style) -> str:
    colour = FOREGROUND if style.color is None else style.color.get_truecolor(THEME)
    if style.dim:
        colour = ColorTriplet(*((a * 3 + b * 2) // 5 for a, b in zip(colour, BACKGROUND, strict=True)))
    return colour.hex


def _weight(style: Style) -> str:
    return ' font-weight="bold"' if style.bold else ""


def main() -> None:
    """Draw."""
    IMAGE.parent.mkdir(exist_ok=True)
    IMAGE.write_text(draw(scene()), encoding="utf-8")
    sys.stdout.write(f"wrote {IMAGE.relative_to(Path(__file__).parent.parent)}\n")


if __name__ == "__main__":
    main()

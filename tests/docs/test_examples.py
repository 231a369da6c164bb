"""Every example is executed: commands on a pseudo-terminal with a real server, programs as programs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import Screen
from walkthrough import BY_HAND, ExampleError, Reader, agrees, blocks, typed

from tests.docs.conftest import PAGES, ROOT, Walked

TOOLS = ("bash", "curl", "openssl")
RUN = {"console", "python", "until", "sleeps"}
SHOWN = {"text", "mermaid"}
"""Blocks that show something and are not run; all others have to be files."""

EXAMPLES = [
    page for page in PAGES if any(block.kind in RUN for block in blocks((ROOT / page).read_text(encoding="utf-8")))
]


@pytest.mark.parametrize("page", EXAMPLES)
def test_examples_do_what_the_page_shows(page: str, walked: Walked) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    lacking = [
        tool
        for tool in TOOLS
        if re.search(rf"^(\$|<!-- until:) {tool} ", text, re.MULTILINE) and shutil.which(tool) is None
    ]
    assert not lacking, f"install {', '.join(lacking)}: the page needs it"
    walked(page)


def test_there_are_examples_to_run() -> None:
    assert {"README.md", "docs/tutorial/first-flow.md", "docs/how-to/call-over-http.md"} <= set(EXAMPLES)
    assert len(EXAMPLES) >= 10


@pytest.mark.parametrize("page", PAGES)
def test_no_block_is_left_out_by_accident(page: str) -> None:
    for block in blocks((ROOT / page).read_text(encoding="utf-8")):
        assert block.kind in RUN | SHOWN or "file" in block.values, f"{page}:{block.line}: a block that nothing runs"
        assert block.words <= {"by-hand"}, f"{page}:{block.line}: unknown words {block.words}"
        assert not block.words or page in BY_HAND, f"{page}:{block.line}: a block that is not typed, without a reason"
        assert "```" not in block.text, f"{page}:{block.line}: a fence that does not end"


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    page = (ROOT / "docs/how-to/run-under-systemd.md").read_text(encoding="utf-8")
    (unit,) = (block.text for block in blocks(page) if block.values.get("file") == "pullcord.service")
    path = tmp_path / "pullcord.service"
    path.write_text(unit.replace("/var/lib/pullcord/venv/bin/pullcord", sys.executable), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_written_in_pieces_is_shown_whole() -> None:
    text = "one\r\n\x1b[1;32m✓\x1b[0m two 50%\r\x1b[2K\x1b[1A\x1b[2Kthree\x1b]0;title\x07\r\n\x1b[?25hfour"
    whole, pieces = Screen(), Screen()
    whole.feed(text)
    for piece in text:
        pieces.feed(piece)
    assert (pieces.lines, pieces.ansi) == (whole.lines, whole.ansi)
    assert whole.lines == ["three", "four"]


def test_flows_sleep_as_often_as_the_page_lets_them(tmp_path: Path) -> None:
    flow = "from time import sleep\nfor lap in range(3):\n    sleep(0)\n    print(lap, flush=True)\n"
    with Reader(tmp_path) as reader:
        reader.read(f"```python file=laps.py\n{flow}```\n<!-- sleeps: 2 -->\n")
        laps = subprocess.Popen(
            [sys.executable, reader.folder / "laps.py"], env=reader.environment, stdout=subprocess.PIPE, text=True
        )
        assert laps.stdout is not None
        assert [laps.stdout.readline() for _ in range(2)] == ["0\n", "1\n"]
        assert list((tmp_path / "sleeps").iterdir()) == []
        assert laps.poll() is None
        reader.read("<!-- sleeps: any -->\n")
        assert laps.communicate(timeout=60) == ("2\n", None)


def test_console_blocks_are_taken_apart() -> None:
    first, second = typed("$ echo a \\\n> b\na b\n$ true\n")
    assert first.command == "echo a \\\nb"
    assert first.shown == ["a b"]
    assert (second.command, second.shown) == ("true", [])
    with pytest.raises(ExampleError):
        typed("nobody typed this\n")


@pytest.mark.parametrize(
    ("shown", "real"),
    [
        (["took 12 ms"], ["took 1.5 s"]),
        (["run 01a1fbba-502b-72a4-a3be-41eb8c34a9eb"], ["run 01a1fbba-502b-72a4-a3be-000000000000"]),
        (["a", "…", "z"], ["a", "b", "c", "z"]),
        (["…"], []),
        (["a", "…", "m", "…"], ["a", "m"]),
        (["✓ a (1 ms)", "✓ b (1 ms)"], ["✓ b (3 ms)", "✓ a (2 ms)"]),
    ],
)
def test_what_may_differ_may_differ(shown: list[str], real: list[str]) -> None:
    assert agrees(shown, real)


@pytest.mark.parametrize(
    ("shown", "real"),
    [
        (["succeeded"], ["failed"]),
        (["a"], ["a", "b"]),
        (["a", "b"], ["a"]),
        (["a", "…", "z"], ["a", "b"]),
        (["…", "m", "…"], ["a", "b"]),
        ([], ["an unexpected warning"]),
    ],
)
def test_everything_else_may_not(shown: list[str], real: list[str]) -> None:
    assert not agrees(shown, real)

"""Every example is executed: commands on a pseudo-terminal with a real server, programs as programs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from walkthrough import BY_HAND, ExampleError, agrees, blocks, typed

from tests.docs.conftest import PAGES, ROOT, Walked

TOOLS = ("bash", "curl", "openssl")
RUN = {"console", "python", "until"}
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

"""`python -m bench.against REVISION`: the figures of this tree and of another revision, measured in turns.

What else the machine does changes every figure, often by more than a change of the code. So both take turns in several
short rounds; what is compared are the two measurements of a round, and the median of the rounds counts.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench import machine
from bench.__main__ import TARGETS

ROOT = Path(__file__).parents[1]
_FIGURE = re.compile(r"(?P<name>\S.*?) {2,}(?P<value>[\d,.]+)")

Figures = dict[str, list[float]]


def main() -> None:
    """Measure both, and print a Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("revision", help="what to compare with, as git knows it")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runs", type=int, default=8_000, help="one-step runs in each throughput measurement")
    parser.add_argument("--ten-step-runs", type=int, default=3_000, help="runs of ten steps each")
    options = parser.parse_args()
    print(f"{machine.describe()}\nmedians of {options.rounds} rounds, {options.runs:,} runs each\n", flush=True)
    sizes = [f"--runs={options.runs}", f"--ten-step-runs={options.ten_step_runs}"]
    with checked_out(options.revision) as other:
        here, there = Figures(), Figures()
        turns = [(other, there), (ROOT, here)]
        for _ in range(options.rounds):
            for tree, figures in turns:
                measure(tree, sizes, figures)
            turns.reverse()  # what grows or shrinks from one measurement to the next favours nobody
    print(f"| figure | {options.revision} | this tree | |\n| --- | --- | --- | --- |")
    for name in [name for name in TARGETS if name in here and name in there]:
        rounds = list(zip(there[name], here[name], strict=True))
        change = f"{median(ours / theirs for theirs, ours in rounds) - 1:+.0%}" if all(there[name]) else ""
        print(f"| {name} | {median(there[name]):,.2f} | {median(here[name]):,.2f} | {change} |")


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """Give a revision a folder and an environment of its own for a while."""
    with tempfile.TemporaryDirectory(prefix="pullcord-against-") as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, revision], cwd=ROOT, check=True)
        try:
            subprocess.run(["make", "--silent", ".venv/.ready"], cwd=tree, check=True)
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)


def measure(tree: Path, sizes: list[str], figures: Figures) -> None:
    """Add the figures of one measurement."""
    command = [tree / ".venv" / "bin" / "python", "-m", "bench", *sizes]
    table = subprocess.run(command, cwd=tree, check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in table.splitlines():
        found = _FIGURE.match(line)
        if found is not None and found["name"] in TARGETS:
            figures.setdefault(found["name"], []).append(float(found["value"].replace(",", "")))


if __name__ == "__main__":
    main()

"""Whether a silent process is stuck, by what the kernel says of it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pullcord.engine.stall import activity, stalled


@pytest.mark.parametrize(
    ("before", "after", "stuck"),
    [
        (("R", 1.0), ("R", 1.25), True),
        (("R", 1.0), ("R", 1.16), True),
        (("R", 1.0), ("R", 1.10), False),
        (("R", 1.0), ("R", 1.0), False),
        (("R", 1.0), ("S", 1.0), True),
        (("S", 1.0), ("D", 1.0), True),
        (("S", 1.0), ("X", 0.0), True),
    ],
)
def test_who_sleeps_or_computes_is_stuck_and_who_waits_for_a_processor_is_not(
    before: tuple[str, float], after: tuple[str, float], stuck: bool
) -> None:
    assert stalled(before, after, 0.25) is stuck


def test_the_kernel_knows_who_sleeps_and_what_was_used() -> None:
    process = subprocess.Popen([sys.executable, "-c", "print(1, flush=True); input()"], stdin=-1, stdout=-1)
    with process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        state, used = activity(process.pid)
        while state != "S":  # it prints before it reads
            state, used = activity(process.pid)
        assert used >= 0.0
        process.stdin.close()
    assert activity(process.pid) == ("X", 0.0)


def test_who_computes_uses_time() -> None:
    before = activity(os.getpid())[1]
    while activity(os.getpid())[1] - before < 0.02:
        sum(range(10_000))
    assert activity(os.getpid())[0] == "R"

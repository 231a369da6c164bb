"""Marks: what one end sets the other sees, and what is no marks is not taken for some."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullcord.engine.marks import Marks as Seen
from pullcord.wire.marks import LOOP, SIZE, SLOTS
from pullcord.worker.marks import Marks, marked


@pytest.fixture
def marks() -> Iterator[Marks]:
    """Marks of this process."""
    made = Marks()
    yield made
    made.close()


@given(st.lists(st.integers(1, 2**63 - 1) | st.none(), max_size=150))
def test_the_server_sees_what_is_marked(work: list[int | None]) -> None:
    marks = Marks()
    seen = Seen.open(os.getpid(), marks.descriptor)
    assert seen is not None
    taken: list[tuple[int, int]] = []
    try:
        for ticket in work:
            if ticket is None and taken:
                slot, _ = taken.pop(0)
                marks.give_back(slot)
            elif ticket is not None:
                place = marks.take(ticket)
                assert (place is None) == (len(taken) == SLOTS - 1)
                if place is not None:
                    assert place != LOOP
                    taken.append((place, ticket))
            assert sorted(seen.running()) == sorted(ticket for _, ticket in taken)
    finally:
        seen.close()
        marks.close()


async def test_a_coroutine_is_marked_only_while_its_code_executes(marks: Marks) -> None:
    seen = Seen.open(os.getpid(), marks.descriptor)
    assert seen is not None
    during: list[list[int]] = []

    async def body() -> str:
        during.append(seen.running())
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            during.append(seen.running())
        await asyncio.sleep(0)
        during.append(seen.running())
        return "done"

    async def outer() -> str:
        answer: str = await marked(body(), marks.slots, 5)
        return answer

    task = asyncio.create_task(outer())
    await asyncio.sleep(0)
    assert (during, seen.running()) == ([[5]], [])
    task.cancel()
    assert await task == "done"
    assert during == [[5], [5], [5]]
    assert seen.running() == []
    seen.close()


async def test_what_a_coroutine_raises_comes_through(marks: Marks) -> None:
    async def body() -> None:
        raise KeyError("k")

    with pytest.raises(KeyError):
        await marked(body(), marks.slots, 5)
    assert marks.slots[LOOP] == 0


def test_closed_marks_show_nothing(marks: Marks) -> None:
    seen = Seen.open(os.getpid(), marks.descriptor)
    assert seen is not None
    marks.take(3)
    seen.close()
    seen.close()
    assert seen.running() == []


def test_what_is_no_marks_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    pipe = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    short = os.open(tmp_path / "short", os.O_RDWR | os.O_CREAT)
    os.truncate(short, SIZE - 1)
    for descriptor in (pipe, short, 10**6, -1, True, "3", None):
        assert Seen.open(os.getpid(), descriptor) is None
    os.close(pipe)
    os.close(short)


def test_marks_that_a_worker_cuts_off_show_nothing(marks: Marks) -> None:
    seen = Seen.open(os.getpid(), marks.descriptor)
    assert seen is not None
    marks.take(3)
    os.truncate(marks.descriptor, 8)
    assert seen.running() == []
    os.truncate(marks.descriptor, SIZE)
    seen.close()

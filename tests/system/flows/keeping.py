"""Flows that store files, and meet the test in between."""

from __future__ import annotations

from pathlib import Path

from witness import meet

import pullcord as pc


@pc.step
def render(text: str, times: int) -> str:
    sha256: str = pc.artifact(name="in-step", content=text * times).sha256
    return sha256


@pc.flow(concurrency=None)
def stores(port: int, source: str, text: str = "text", times: int = 1) -> list[str]:
    """Stores a file and removes it, so that nothing can be stored twice; then meets the test."""
    Path(source).write_text(text * times)
    found = pc.artifact(source, name="of-flow")
    Path(source).unlink()
    first = render(text, times)
    if port:
        meet(port)
    return [found.sha256, first, render(f"{text}!", times)]


@pc.flow(concurrency=None)
def fits(size: int) -> int:
    pc.artifact(name="data", content=b"x" * size)
    return size


@pc.flow(keep=pc.Keep(count=1))
def forgotten(text: str) -> None:
    print("a line")
    pc.artifact(name="a.txt", content=text)

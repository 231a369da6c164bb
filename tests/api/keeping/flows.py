"""Flows that keep files."""

from __future__ import annotations

from pathlib import Path

import pullcord as pc


@pc.step
def render(text: str) -> str:
    sha256: str = pc.artifact(name="page.html", content=f"<h1>{text}</h1>", description="the page").sha256
    return sha256


@pc.flow
def report(text: str = "hello", data: str = "x,y\n", times: int = 1) -> list[str]:
    Path("table.csv").write_text(data * times)
    table = pc.artifact("table.csv", media_type="text/csv")
    Path("table.csv").unlink()
    return [table.sha256, render(text)]


@pc.step
def within(size: int) -> int:
    size_of: int = pc.artifact(name="within", content=b"w" * size).size
    return size_of


@pc.flow
async def asynchronous(name: str = 'ä "b"; c.txt') -> list[int]:
    stored = await pc.artifact(name=name, content=b"0123456789")
    return [stored.size, within(3)]


@pc.flow
def refused(path: str) -> str:
    try:
        pc.artifact(path)
    except pc.ArtifactError as error:
        return error.why
    return "stored"


@pc.flow(keep=pc.Keep(count=1, logs="0s"))
def forgotten(text: str = "") -> None:
    print("a line")
    if text:
        pc.artifact(name="a.txt", content=text)

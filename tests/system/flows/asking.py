"""Flows that ask people."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, field_validator

import pullcord as pc


class Verdict(BaseModel):
    """What somebody says."""

    approve: bool
    why: str = ""

    @field_validator("why")
    @classmethod
    def _no_shouting(cls, why: str) -> str:
        if why.isupper():
            raise ValueError("do not shout")
        return why


@pc.step
def note(path: str, text: str) -> int:
    """Count how often it really runs."""
    with Path(path).open("a") as file:
        file.write(f"{text}\n")
    return len(text)


@pc.flow(concurrency=None)
def review(path: str) -> str:
    """Ask once between two steps."""
    note(path, "before")
    verdict: Verdict = pc.ask(Verdict, "Good?", to=["ops"], details={"path": path})
    note(path, "after")
    return f"{type(verdict).__name__} {verdict.approve} {verdict.why}"


@pc.flow
async def review_async(path: str) -> str:
    """The same on the loop, with two branches, one of which has more to do first."""

    async def prepare() -> None:
        await asyncio.to_thread(note, path, "beside")

    answer, _ = await asyncio.gather(pc.ask(Literal["yes", "no"], "Good?"), prepare())
    note(path, "after")
    return str(answer)


@pc.flow
def patient(path: str, timeout: float, fallback: str | None = None) -> str:
    """Ask, and catch that nobody answers."""
    try:
        found = pc.ask(str, "Name?", timeout=timeout, on_timeout="fail" if fallback is None else pc.Default(fallback))
    except pc.AskTimeoutError as error:
        found = f"caught: {error}"
    note(path, "after")
    return str(found)


@pc.flow
def tidy(path: str) -> bool:
    """Leave something behind when it is unwound."""
    try:
        answer: bool = pc.ask(bool, "Good?")
    except Exception:
        note(path, "seen")
        raise
    finally:
        Path(path).with_suffix(".finally").touch()
    return answer


@pc.flow
def sleepy(path: str, length: float) -> int:
    """Sleep between two steps."""
    note(path, "before")
    pc.sleep(length)
    return note(path, "after")


@pc.flow
def again(path: str) -> str:
    """Ask until the answer is one that the type itself takes."""
    while True:
        try:
            return str(pc.ask(Verdict, "Good?").why)
        except pc.AnswerUnfitError:
            note(path, "unfit")


@pc.flow(concurrency=1)
def one(path: str) -> bool:
    """Hold the only slot while it asks."""
    answer: bool = pc.ask(bool, "Good?")
    return answer


@pc.flow
def wrong() -> None:
    """Ask for something that nobody can say."""
    pc.ask(range, "What?")


@pc.step
def sure(path: str) -> bool:
    """Ask on whatever thread this is, and do what a yes allows."""
    answer: bool = pc.ask(bool, "Sure?")
    if answer:
        note(path, "done")
    return answer


@pc.step(on_cancel="finish")
def asks_to_the_end(path: str) -> str:
    """Ask, and go on without an answer."""
    try:
        return str(pc.ask(bool, "Still?"))
    except pc.QuestionCancelledError:
        note(path, "unasked")
    try:
        return str(pc.ask(bool, "Really?"))
    except pc.QuestionCancelledError as error:
        return error.message


@pc.step(on_cancel="finish")
async def asks_to_the_end_async(path: str) -> str:
    """Do the same on the event loop."""
    try:
        return str(await pc.ask(bool, "Still?"))
    except pc.QuestionCancelledError:
        await asyncio.to_thread(note, path, "unasked")
    try:
        return str(await pc.ask(bool, "Really?"))
    except pc.QuestionCancelledError as error:
        return error.message


@pc.flow
def finishes(path: str) -> str:
    """Ask in a step that is let run to its end."""
    return asks_to_the_end(path)


@pc.flow
async def finishes_async(path: str) -> str:
    """Do the same on the event loop."""
    return await asks_to_the_end_async(path)


@pc.step
def rests() -> str:
    """Sleep on whatever thread this is."""
    pc.sleep(0.01)
    return "rested"


@pc.flow(concurrency=None)
async def where(path: str, step: str, thread: bool) -> str:
    """Call a sync step on the event loop, or on a thread."""
    call = {"sure": lambda: sure(path), "rests": rests}[step]
    return str(await asyncio.to_thread(call) if thread else call())

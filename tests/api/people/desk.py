"""Flows that ask people."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

import pullcord as pc


class Order(BaseModel):
    """What somebody fills in."""

    pieces: int = Field(ge=1)
    note: str = ""


@pc.flow(concurrency=None)
async def order(to: str = "desk") -> dict[str, object]:
    """Ask for something with fields."""
    answer: Order = await pc.ask(Order, "How many?\n\nAt least one.", to=[to], details={"shelf": 7})
    return {"type": type(answer).__name__, "pieces": answer.pieces}


@pc.flow(concurrency=None)
def decide() -> str:
    """Ask for a word."""
    word: str = pc.ask(Literal["yes", "no"], "Shall we?", timeout="1d", on_timeout=pc.Default("no"))
    return word


@pc.flow(concurrency=None)
def hurry() -> bool:
    """Ask somebody who is not there."""
    answer: bool = pc.ask(bool, "Quick?", timeout=0.01)
    return answer

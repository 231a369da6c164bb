"""What a notification says in one line."""

from __future__ import annotations

from typing import Final

_ONE: Final = {
    "run.succeeded": "succeeded",
    "run.failed": "failed",
    "run.recovered": "works again",
    "run.retrying": "failed, and is tried again",
    "run.failing": "keeps failing",
    "run.cancelled": "was cancelled",
    "run.long": "takes long",
    "request.missed": "missed a tick",
    "request.skipped": "was skipped",
    "trigger.disabled": "has lost a trigger, which kept failing",
    "question.asked": "asks a question",
    "flow.suspended": "is suspended, because it kept failing",
}
_MANY: Final = {
    "run.succeeded": "{} runs succeeded",
    "run.failed": "{} runs failed",
    "run.recovered": "works again, {} times",
    "run.retrying": "{} attempts failed, and are tried again",
    "run.failing": "keeps failing, {} times",
    "run.cancelled": "{} runs were cancelled",
    "run.long": "{} runs take long",
    "request.missed": "missed {} ticks",
    "request.skipped": "{} requests were skipped",
    "trigger.disabled": "has lost {} triggers, which kept failing",
    "question.asked": "{} questions are asked",
    "flow.suspended": "was suspended, {} times",
}


def title(event: str, flow: str, count: int) -> str:
    """Return in one line what a notification tells."""
    if not flow:
        return f"{count:,} things have happened"
    if count == 1:
        return f"{flow} {_ONE.get(event, event)}"
    words = _MANY.get(event, event + ", {} times").format(f"{count:,}")
    return f"{flow}: {words}"

"""How commands fail: exit statuses by error code, and errors as people and programs read them."""

from __future__ import annotations

import json
import re
import sys
from typing import Any, Final

import typer
from typer.core import TyperGroup

from pullcord.core.errors import PullcordError

FAILED, USAGE, NOT_FOUND, NOT_PERMITTED, UNREACHABLE, INTERRUPTED = 1, 2, 3, 4, 5, 130

STATUS: Final[dict[str, int]] = {
    "invalid_inputs": USAGE,
    "invalid_request": USAGE,
    "invalid_json": USAGE,
    "too_large": USAGE,
    "invalid_answer": USAGE,
    "idempotency_conflict": USAGE,
    "request_id_conflict": USAGE,
    "location_failed": USAGE,
    "unknown_flow": NOT_FOUND,
    "not_found": NOT_FOUND,
    "unauthenticated": NOT_PERMITTED,
    "forbidden": NOT_PERMITTED,
    "server_unreachable": UNREACHABLE,
    "unexpected_answer": UNREACHABLE,
}
"""The exit status of each error code; any other is 1."""

JSON_FLAG: Final = "pullcord.json"
"""Where the context keeps whether `--json` was given."""


_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
"""The escape sequences of terminals."""


class Group(TyperGroup):
    """Commands whose expected errors become a message and an exit status, never a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except PullcordError as error:
            complain(error, bool(ctx.meta.get(JSON_FLAG)))
            raise typer.Exit(status_of(error.code)) from None


def status_of(code: str) -> int:
    """Return the exit status for an error code."""
    return STATUS.get(code, FAILED)


def complain(error: PullcordError, as_json: bool = False) -> None:
    """Say on stderr what is wrong and what to do next."""
    errors = field_errors(error)
    if as_json:
        problem = {"code": error.code, "detail": error.message} | ({"errors": errors} if errors else {})
        print(json.dumps(problem, ensure_ascii=False), file=sys.stderr)
        return
    message = error.message
    if errors and error.code == "invalid_inputs":
        message = message.partition(": ")[0]
    say(f"{red('error:')} {clean(message)}")
    if errors and error.code == "invalid_inputs":
        for line in field_lines(errors):
            say(f"  {line}")


def field_errors(error: PullcordError) -> list[Any]:
    """Return what is wrong with single fields, wherever the error keeps it."""
    receipt = getattr(error, "receipt", None)
    found = receipt.errors if receipt is not None else getattr(error, "errors", None) or error.fields.get("errors")
    return list(found or [])


def field_lines(errors: list[Any]) -> list[str]:
    """Return a line for each field error: the field, aligned, and the rule."""
    names = [".".join(str(part) for part in error["loc"][1:]) or "inputs" for error in errors]
    width = min(30, max(map(len, names), default=0))
    return [f"{clean(name):<{width}}  {clean(error['msg'])}" for name, error in zip(names, errors, strict=True)]


def say(text: str) -> None:
    """Write a line to stderr."""
    typer.echo(text, err=True)


def report_failure(failure: dict[str, Any]) -> None:
    """Say on stderr what could not be loaded: place, message and traceback."""
    say(clean(f"{failure['place']}: {failure['message']}"))
    for line in clean(failure.get("traceback") or "").rstrip().splitlines():
        say(f"    {line}")


def red(text: str) -> str:
    """Return text in red; the colour is left out where stderr is no terminal."""
    return typer.style(text, fg="red", bold=True)


def clean(text: str) -> str:
    """Return text without colours and control characters, which could play tricks on a terminal."""
    if text.isprintable():
        return text
    text = _ESCAPES.sub("", text.expandtabs())
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)

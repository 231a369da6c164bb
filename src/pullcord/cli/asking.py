"""Asking a person for the inputs that are missing, until the server finds them valid."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

from pullcord.cli.failing import clean
from pullcord.cli.inputs import accepted_types, missing, property_of, value_of
from pullcord.cli.output import console
from pullcord.cli.schemas import Schema
from pullcord.core.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from pullcord.client import AsyncClient

_WORDS = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "yes or no",
    "array": "JSON list",
    "object": "JSON object",
    "null": "null",
}
_TRUTH = {"y": True, "yes": True, "true": True, "n": False, "no": False, "false": False}


def on_terminal() -> bool:
    """Say whether there is a person to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


async def complete(client: AsyncClient, flow: str, schema: Schema, inputs: dict[str, Any]) -> dict[str, Any]:
    """Ask for what is missing, then for what the server does not accept; return the inputs."""
    names = missing(schema, inputs)
    if not names:
        return inputs
    target = console(stderr=True)
    target.print(f"[bold]{flow}[/bold] needs {'an input' if len(names) == 1 else f'{len(names)} inputs'}:")
    while names:
        for name in names:
            inputs[name] = await ask_value(target, name, property_of(schema, name))
        verdict = await client.flows.validate(flow, inputs)
        names = []
        for error in verdict["errors"]:
            where = ".".join(str(part) for part in error["loc"][1:]) or "inputs"
            target.print(f"  {clean(where)}: {clean(error['msg'])}", style="red", markup=False)
            name = str(error["loc"][1]) if len(error["loc"]) > 1 else ""
            if name in schema.get("properties", {}) and name not in names:
                names.append(name)
        if not names and not verdict["valid"]:
            raise UsageError(f"the inputs of {flow!r} are not valid together; correct them and try again")
    return inputs


async def ask_value(target: Console, name: str, schema: Schema) -> Any:
    """Ask for one value until it looks like one that the schema wants; return it."""
    choices = _choices(schema)
    types = accepted_types(schema)
    if schema.get("description"):
        target.print(f"  {clean(schema['description'])}", style="dim", markup=False)
    hint = (
        "/".join(choices) if choices else " or ".join(sorted(_word(kind, schema) for kind in types)) or "JSON or text"
    )
    while True:
        target.print(f"  {clean(name)} [cyan]\\[{_escaped(hint)}][/cyan]: ", end="")
        text = (await read_line()).strip()
        if choices and text not in choices:
            target.print(f"  choose one of {', '.join(choices)}", style="red", markup=False)
        elif types == {"boolean"} and text.lower() in _TRUTH:
            return _TRUTH[text.lower()]
        elif text or types == {"string"}:
            return value_of(text, schema)


def _choices(schema: Schema) -> list[str]:
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    return [clean(str(value)) for value in values]


def _word(kind: str, schema: Schema) -> str:
    if kind == "string" and "format" in schema:
        return {"date": "date, like 2030-01-31", "date-time": "time, like 2030-01-31T02:00:00Z"}.get(
            schema["format"], str(schema["format"])
        )
    return _WORDS.get(kind, kind)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(clean(text))


async def read_line() -> str:
    """Read a line from the terminal without a thread, so that Ctrl-C ends it; the terminal itself edits the line.

    Raises:
        UsageError: the terminal was closed (Ctrl-D).
    """
    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()
    while True:
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(descriptor, _wake, ready)
        try:
            await ready
        finally:
            loop.remove_reader(descriptor)
        data = os.read(descriptor, 65536)
        if not data:
            raise UsageError("no input was given; use --input NAME=VALUE")
        return data.decode(sys.stdin.encoding or "utf-8", "replace").rstrip("\r\n")


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)

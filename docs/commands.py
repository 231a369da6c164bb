"""The command line as Markdown, from the typer application."""

from __future__ import annotations

import re
from typing import Any

from typer.main import get_command

from pullcord.cli.main import app

_OWN_DEFAULT = re.compile(r"\s*[(\[]default: (.*)[)\]]$")


def command_line() -> list[str]:
    """Return the parts of the page."""
    root: Any = get_command(app)
    parts = [
        "This is what `pullcord --help` and `pullcord COMMAND --help` say. Exit statuses are in [Errors](errors.md). "
        "`--json` makes every command write JSON to stdout; `--data-dir` names the data folder of every command.",
    ]
    for name, command in root.commands.items():
        nested = getattr(command, "commands", None)
        if nested is None:
            parts += _command(f"pullcord {name}", command, 2)
        else:
            parts += [f"## pullcord {name}", _text(command.help)]
            for inner, each in nested.items():
                parts += _command(f"pullcord {name} {inner}", each, 3)
    return parts


def _command(name: str, command: Any, level: int) -> list[str]:
    shown = [each for each in command.params if not each.hidden and each.name != "help"]
    arguments = [each for each in shown if type(each).__name__ == "TyperArgument"]
    options = [each for each in shown if each not in arguments]
    usage = " ".join([name, *(_metavar(each) for each in arguments), *(["[OPTIONS]"] if options else [])])
    parts = [f"{'#' * level} {name}", f"```text\n{usage}\n```", _text(command.help)]
    rows = [(f"`{_metavar(each)}`", each) for each in arguments] + [(_option(each), each) for each in options]
    if rows:
        lines = ["| argument | meaning | default |", "| --- | --- | --- |"]
        for shape, each in rows:
            text, default = _help(each)
            lines.append(f"| {shape} | {text} | {default} |")
        parts.append("\n".join(lines))
    return parts


def _metavar(parameter: Any) -> str:
    name = str(parameter.metavar or parameter.name.upper())
    return name if parameter.required or name.startswith("[") else f"[{name}]"


def _option(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in parameter.opts)
    kind = type_name(parameter)
    return names if parameter.is_flag else f"{names} `{parameter.metavar or kind}`"


def type_name(parameter: Any) -> str:
    """Return the type of an option's value as a word."""
    annotation = parameter.type_descriptor.annotation
    return {int: "NUMBER", float: "NUMBER"}.get(annotation, "TEXT")


def _help(parameter: Any) -> tuple[str, str]:
    """Return the help text without the default, and the default."""
    text = _text(parameter.help).replace("|", "\\|")
    found = _OWN_DEFAULT.search(text)
    if found is not None:
        return text[: found.start()], found[1]
    default = parameter.default
    plain = default is not None and default is not False and default != () and parameter.show_default
    return text, f"`{default}`" if plain else ""


def _text(text: str | None) -> str:
    """Join the lines of each paragraph."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (text or "").split("\n\n"))

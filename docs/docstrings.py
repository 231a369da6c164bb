"""Google-style docstrings as Markdown, and the docstrings of constants."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from types import ModuleType
from typing import Any

_SECTION = re.compile(r"(Args|Attributes|Keys|Raises|Returns|Yields):")
_TITLES = {"Args": "Arguments"}


@dataclass(slots=True)
class Docstring:
    """A docstring, taken apart.

    Attributes:
        text: what stands before the sections.
        sections: by title: `(name, text)`; the name is "" where a section has no names.
    """

    text: str
    sections: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    @property
    def first(self) -> str:
        """The first paragraph on one line."""
        return " ".join(self.text.split("\n\n")[0].split())


def parse(thing: Any) -> Docstring:
    """Take the docstring of something apart."""
    text, sections = [], dict[str, list[str]]()
    current: list[str] | None = None
    for line in (inspect.getdoc(thing) or "").splitlines():
        if match := _SECTION.fullmatch(line):
            current = sections.setdefault(match[1], [])
        elif current is not None and (not line or line.startswith(" ")):
            current.append(line.strip() if not line.strip() else line[4:])
        else:
            current = None
            text.append(line)
    return Docstring("\n".join(text).strip(), {title: _items(title, lines) for title, lines in sections.items()})


def _items(title: str, lines: list[str]) -> list[tuple[str, str]]:
    if title in ("Returns", "Yields"):
        return [("", " ".join(" ".join(lines).split()))]
    items: list[tuple[str, str]] = []
    for line in lines:
        name, colon, text = line.partition(": ")
        if line.startswith(" ") or not colon:
            if items and line.strip():
                items[-1] = (items[-1][0], f"{items[-1][1]} {line.strip()}")
        else:
            items.append((name.strip("`"), text))
    return items


def signature(name: str, function: Callable[..., Any]) -> str:
    """Return a signature, one parameter a line where it is long."""
    found = inspect.signature(function)
    parameters = [each for each in found.parameters.values() if each.name != "self"]
    shown = found.replace(parameters=[each.replace(annotation=_plain(each.annotation)) for each in parameters])
    result = found.return_annotation
    shown = shown.replace(return_annotation=inspect.Signature.empty)
    arrow = "" if result in (inspect.Signature.empty, "None", None) else f" -> {result}"
    name = f"await {name}" if inspect.iscoroutinefunction(function) else name
    line = f"{name}{shown}{arrow}"
    if len(line) <= 100:
        return line
    inside = str(shown)[1:-1]
    return f"{name}(\n    " + ",\n    ".join(_split(inside)) + f",\n){arrow}"


class _Source:
    """An annotation as it is written."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _plain(annotation: Any) -> Any:
    """Make an annotation show as it is written."""
    return _Source(annotation) if isinstance(annotation, str) else annotation


def _split(text: str) -> list[str]:
    """Split parameters at the commas outside of brackets."""
    parts, depth, start = [], 0, 0
    for position, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            parts.append(text[start:position].strip())
            start = position + 1
    return [*parts, text[start:].strip()]


def markdown(thing: Any, level: int, heading: str, call: str | None = None) -> str:
    """Return a heading, the signature and the docstring as Markdown."""
    parsed = parse(thing)
    parts = [f"{'#' * level} {heading}"]
    if call is not None:
        parts.append(f"```text\n{signature(call, thing)}\n```")
    parts.append(parsed.text)
    for title, items in parsed.sections.items():
        lines = [f"- `{name}`: {text}" if name else text for name, text in items]
        parts.append(f"**{_TITLES.get(title, title)}**\n\n" + "\n".join(lines))
    return "\n\n".join(filter(None, parts))


def constants(module: ModuleType) -> dict[str, tuple[Any, str]]:
    """Return value and docstring of the constants of a module."""
    body = ast.parse(inspect.getsource(module)).body
    found: dict[str, tuple[Any, str]] = {}
    for statement, following in pairwise(body):
        targets = [statement.target] if isinstance(statement, ast.AnnAssign) else getattr(statement, "targets", [])
        text = following.value if isinstance(following, ast.Expr) else None
        if targets and isinstance(text, ast.Constant) and isinstance(text.value, str):
            target = targets[0]
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            for name in names:
                if isinstance(name, ast.Name):
                    found[name.id] = getattr(module, name.id), " ".join(inspect.cleandoc(text.value).split())
    return found

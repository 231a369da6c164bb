"""Runs the examples of a page as a reader would: in one empty folder, in order, on a terminal.

What a fenced block is, follows from its first line:

- `python file=NAME`, `toml file=NAME`, … : the block is written to that file.
- `python` : the block is a program that must end well.
- `console` : lines with `$ ` are typed, `> ` continues them; the rest is what the screen shows, and is compared.
  `pullcord serve` and `pullcord dev` stay in a terminal of their own until the page ends or something kills them.
  `type=TEXT` on the first line answers questions; `status=N` says how the last command exits.
- `console by-hand` : what cannot be typed in an empty folder; `BY_HAND` says why.
- anything else is not run.

A comment `<!-- until: COMMAND -->` repeats a command until it succeeds: the reader's patience. `<!-- sleeps: N -->`
lets flows sleep N times more; the next sleep lasts until `<!-- sleeps: any -->`. So what is done at a moment does not
depend on how fast the reader is.

Ids, times and durations may differ; a line `…` stands for any lines. An id that a page shows in an output and uses in a
later command is the one that really came; port and folder are put in likewise.

`python docs/walkthrough.py PAGE…` types everything and writes the true output into the pages.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).parent))
from terminal import Terminal

ROOT: Final = Path(__file__).parent.parent
PORT: Final = "8321"
HOME: Final = "/home/ada/project"
"""What pages show for the folder that they are typed in."""

BY_HAND: Final = {
    "README.md": "it sets up the environment that the tests run in already",
    "CONTRIBUTING.md": "it needs the checkout, not an empty folder",
    "docs/tutorial/first-flow.md": "it sets up the environment that the tests run in already",
    "docs/how-to/give-flows-an-environment.md": "it fetches a package",
    "docs/how-to/run-under-systemd.md": "it changes the machine",
    "docs/how-to/upgrade.md": "it changes the machine",
    "docs/how-to/use-postgresql.md": "it needs a server elsewhere; tests/system/test_postgres.py does what it says",
}
"""The pages with blocks that are not typed, and why."""

PATIENCE: Final = 60.0
AROUND: Final = dict(os.environ)
"""The environment that this was started in: pytest changes its own while pages are typed."""

_SLEEP: Final = '''
import sys
import time
from pathlib import Path

FOLDER = Path({folder!r})
real = time.sleep


def sleep(seconds):
    """Sleep, when the page lets flows do so."""
    left, caller = FOLDER / "sleeps", Path(sys._getframe(1).f_code.co_filename)
    if caller.is_relative_to(FOLDER / "project") and ".pullcord" not in caller.parts:
        while left.exists():
            try:
                next(left.iterdir()).unlink()
                break
            except (StopIteration, FileNotFoundError):
                real(0.02)
    real(seconds)


time.sleep = sleep
'''
_BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$|^<!-- (until|sleeps): (.*?) -->$", re.MULTILINE | re.DOTALL)
_SERVERS = ("pullcord serve", "pullcord dev")
_ANY: Final = "…"
_ID: Final = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_VARYING: Final = [
    (_ID, "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?( UTC)?( \((now|in [\w ]+|[\w ]+ ago)\))?"), "<time>"),
    (re.compile(r"\b(20\d\d-\d\d-\d\d )?\d\d:\d\d (?=admitted|missed|skipped)"), "<tick> "),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "<time>"),
    (re.compile(r"\b20\d\d-\d\d-\d\d\b"), "<date>"),
    (re.compile(r"(?<=  )now(?=  )"), "<ago>"),
    (re.compile(r"^(now\b|in \d+ \w+|\d+ \w+ ago)|\bin \d+ (s|min|h|d)\b|\b\d+ (s|min|h|d) ago\b"), "<ago>"),
    (re.compile(r"\b\d+ min \d+ s\b|\b\d+(\.\d+)? ?m?s\b"), "<duration>"),
    (re.compile(r"\b\d+(\.\d+)? [GMK]B\b"), "<size>"),
    # An hour, or a day, may be over meanwhile.
    (re.compile(r"[·▁▂▃▄▅▆▇█]{8,}"), "<bars>"),
    (re.compile(r"\b20\d{6}T\d{12}Z"), "<time>"),
    (re.compile(r'(process|worker|pid|pid=|"pid":|lost,) ?\d+'), r"\1 <pid>"),
    (re.compile(r"content-length: \d+"), "content-length: <bytes>"),
    # The run of an earlier request may have ended meanwhile.
    (re.compile(r'("outcome":"(?:replayed|rejected)".*"state":)"\w+"'), r"\1<state>"),
    (re.compile(r"  +"), "  "),
]
_LIVE = re.compile(r"[✓✗] |  <time> ")


class ExampleError(AssertionError):
    """An example does not do what its page says."""


@dataclass(slots=True)
class Block:
    """A fenced block, or a comment for the reader.

    Attributes:
        kind: the first word after the fence, or `until` or `sleeps`.
        words: the others without a value.
        values: the others, by name.
        text: the inside.
        start: where the inside begins in the page.
        line: the line of the fence.
    """

    kind: str
    words: set[str]
    values: dict[str, str]
    text: str
    start: int
    line: int


@dataclass(slots=True)
class Typed:
    """One command of a `console` block and the lines after it."""

    command: str
    shown: list[str] = field(default_factory=list)


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page."""
    for match in _BLOCK.finditer(page):
        line = page.count("\n", 0, match.start()) + 1
        if match[4] is not None:
            yield Block(match[4], set(), {}, match[5], match.start(5), line)
            continue
        words, values = set[str](), dict[str, str]()
        for word in shlex.split(match[2]):
            name, equals, value = word.partition("=")
            if equals:
                values[name] = value
            else:
                words.add(word)
        yield Block(match[1], words, values, match[3], match.start(3), line)


def typed(text: str) -> list[Typed]:
    """Take a `console` block apart."""
    found: list[Typed] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append(Typed(line[2:]))
        elif line.startswith("> ") and found and not found[-1].shown:
            found[-1].command += "\n" + line[2:]
        elif not found:
            raise ExampleError(f"a console block begins with a line that is not typed: {line!r}")
        else:
            found[-1].shown.append(line)
    return found


def untyped(commands: list[Typed]) -> str:
    """Put a `console` block together again."""
    lines: list[str] = []
    for each in commands:
        first, *more = each.command.split("\n")
        lines += [f"$ {first}", *(f"> {line}" for line in more), *each.shown]
    return "\n".join(lines) + "\n"


def normal(lines: list[str]) -> list[str]:
    """Return lines without what may differ; lines about the same moment are sorted."""
    result: list[str] = []
    group: list[str] = []
    for line in [*lines, ""]:
        line = line.rstrip()
        for pattern, text in _VARYING:
            line = pattern.sub(text, line)
        if _LIVE.match(line):
            group.append(line)
        else:
            result += [*sorted(group), line]
            group = []
    while result and not result[-1]:
        result.pop()
    return result


def agrees(shown: list[str], real: list[str]) -> bool:
    """Say whether what a page shows is what came."""
    if _ANY not in shown:
        return normal(shown) == normal(real)
    parts: list[list[str]] = [[]]
    for line in shown:
        if line == _ANY:
            parts.append([])
        else:
            parts[-1].append(line)
    rest, (first, *middle, last) = normal(real), [normal(part) for part in parts]
    if rest[: len(first)] != first or (last and rest[-len(last) :] != last):
        return False
    rest = rest[len(first) : len(rest) - len(last)]
    for part in middle:
        at = next((i for i in range(len(rest) - len(part) + 1) if rest[i : i + len(part)] == part), None)
        if at is None:
            return False
        rest = rest[at + len(part) :]
    return True


class Reader:
    """Somebody who types what a page says, in an empty folder.

    Args:
        folder: an empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self.folder.mkdir()
        # Kept for the servers, which may bind it as long as this does not listen; nobody else is given it meanwhile.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self._port = self._reserved.getsockname()[1]
        self._sleeps = folder / "sleeps"
        self._servers: list[Terminal] = []
        self._ids: dict[str, str] = {}
        self.environment = _environment(folder, self._port)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in reversed(self._servers):
            server.end()
        self._reserved.close()

    def read(self, page: str) -> str:
        """Do all that a page says; return the page with the true output.

        Raises:
            ExampleError: an example does not end as it should.
        """
        pieces, done = [], 0
        for block in blocks(page):
            try:
                text = self._do(block)
            except (ExampleError, TimeoutError, OSError, subprocess.SubprocessError) as error:
                raise ExampleError(f"line {block.line}: {error}") from None
            pieces += [page[done : block.start], text]
            done = block.start + len(block.text)
        return "".join([*pieces, page[done:]])

    def _do(self, block: Block) -> str:
        if block.kind == "until":
            self._wait_for(block.text)
            return self._kept(block.text)
        elif block.kind == "sleeps":
            self._allow(block.text)
        elif "file" in block.values:
            path = self.folder / block.values["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._real(block.text), encoding="utf-8")
        elif block.kind == "python":
            self._program(block.text)
        elif block.kind == "console" and "by-hand" not in block.words:
            return self._console(block)
        return block.text

    def _program(self, text: str) -> None:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-"], input=self._real(text), cwd=self.folder, env=self.environment,
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        if done.returncode:
            raise ExampleError(f"the program ended with status {done.returncode}:\n{done.stdout}{done.stderr}")

    def _wait_for(self, command: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            done = subprocess.run(
                ["bash", "-c", self._real(command)],
                cwd=self.folder,
                env=self.environment,
                capture_output=True,
                check=False,
            )
            if done.returncode == 0:
                return
            if time.monotonic() > deadline:
                raise ExampleError(f"it never came to that: {command}\n{done.stdout.decode()}{done.stderr.decode()}")
            time.sleep(0.05)

    def _console(self, block: Block) -> str:
        commands = typed(block.text)
        for number, each in enumerate(commands, 1):
            last = number == len(commands)
            status, lines = self._type(each.command, block.values.get("type") if last else None)
            expected = int(block.values.get("status", "0")) if last else 0
            if status != expected:
                raise ExampleError("\n".join([f"`{each.command}` ended with status {status}:", *lines]))
            if not agrees(each.shown, lines):
                self.differs(each, lines)
            self._learn(each, lines)
        return untyped(commands)

    def _kept(self, text: str) -> str:
        """Return what the page is to say in place of a text with ids."""
        return text

    def _learn(self, each: Typed, lines: list[str]) -> None:
        """Remember which real ids stand behind those that the page shows."""
        shown, came = (list(dict.fromkeys(_ID.findall("\n".join(text)))) for text in (each.shown, lines))
        if len(shown) == len(came):
            self._ids |= dict(zip(shown, came, strict=True))

    def _type(self, command: str, answers: str | None) -> tuple[int, list[str]]:
        terminal = Terminal(self._real(command), self.folder, self.environment)
        if command.startswith(_SERVERS):
            self._servers.append(terminal)
            up = terminal.read_until(lambda screen: any("Pullcord is ready" in line for line in screen.lines), PATIENCE)
            if up:
                self._let_it_warm_up()
            return (0 if up else terminal.process.wait()), self._shown(terminal)
        with terminal:
            for answer in answers.split("|") if answers is not None else ():
                before = len("".join(terminal.screen.lines))
                terminal.read_until(lambda screen, b=before: "".join(screen.lines[b > 0 :]).endswith("]:"), PATIENCE)
                terminal.type(answer)
            return terminal.finish(PATIENCE), self._shown(terminal)

    def _let_it_warm_up(self) -> None:
        """Wait until a run worker is there, as it is before a person can type the next command."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=PATIENCE) as answer:
                metrics = answer.read()
            if re.search(rb'role="shared"} [1-9]', metrics) or not re.search(rb"pullcord_location_up{.*} 1", metrics):
                return
            time.sleep(0.05)

    def _allow(self, sleeps: str) -> None:
        """Let flows sleep so many times more, or any number of times. Each time takes a file; flows look meanwhile."""
        aside = Path(tempfile.mkdtemp(dir=self.folder.parent))
        if sleeps == "any":
            self._sleeps.rename(aside)
            return
        for number in range(int(sleeps)):
            (aside / str(number)).touch()
        aside.rename(self._sleeps)

    def differs(self, typed_: Typed, lines: list[str]) -> None:
        """What came is not what the page shows."""
        wanted, came = normal(typed_.shown), normal(lines)
        diff = difflib.unified_diff(wanted, came, "the page", "the screen", lineterm="", n=9)
        raise ExampleError("\n".join([f"`{typed_.command}` shows something else:", *diff]))

    def _real(self, text: str) -> str:
        text = _ID.sub(lambda match: self._ids.get(match[0], match[0]), text)
        return text.replace(f"127.0.0.1:{PORT}", f"127.0.0.1:{self._port}").replace(HOME, str(self.folder))

    def _shown(self, terminal: Terminal) -> list[str]:
        page = f"127.0.0.1:{PORT}"
        return [
            line.replace(f"127.0.0.1:{self._port}", page).replace(str(self.folder), HOME)
            for line in terminal.screen.lines
        ]


class Writer(Reader):
    """A reader who corrects the page. An id that came in no output stands for the last run asked for."""

    _last = ""

    def _allow(self, sleeps: str) -> None:
        """Let flows sleep so many times more, or any number of times. Each time takes a file; flows look meanwhile."""
        aside = Path(tempfile.mkdtemp(dir=self.folder.parent))
        if sleeps == "any":
            self._sleeps.rename(aside)
            return
        for number in range(int(sleeps)):
            (aside / str(number)).touch()
        aside.rename(self._sleeps)

    def differs(self, typed_: Typed, lines: list[str]) -> None:
        """Take what came, without what the page leaves out."""
        if _ANY in typed_.shown:
            typed_.shown = _elided(typed_.shown, lines)

    def _kept(self, text: str) -> str:
        return _ID.sub(lambda match: self._ids.get(match[0], match[0]), text)

    def _real(self, text: str) -> str:
        for name in _ID.findall(text):
            if self._last and name not in self._ids.values():
                self._ids.setdefault(name, self._last)
        return super()._real(text)

    def _learn(self, each: Typed, lines: list[str]) -> None:
        super()._learn(each, lines)
        for line in lines:
            if found := re.search(rf"\brun ({_ID.pattern})", line):
                self._last = found[1]
        each.command = self._kept(each.command)
        if _ANY not in each.shown:
            each.shown = lines
        elif agrees(each.shown, lines):
            each.shown = _elided(each.shown, lines)


def _elided(shown: list[str], real: list[str]) -> list[str]:
    """Return what came, with the lines left out that the page leaves out."""
    matcher = difflib.SequenceMatcher(None, normal(shown), normal(real), autojunk=False)
    result: list[str] = []
    for kind, low, high, start, end in matcher.get_opcodes():
        part, came = shown[low:high], real[start:end]
        if kind != "equal" and _ANY in part:
            before, after = part.index(_ANY), len(part) - part.index(_ANY) - 1
            result += [*came[:before], _ANY, *came[len(came) - after :]]
        else:
            result += came
    return result


def _environment(folder: Path, port: int) -> dict[str, str]:
    tools = folder / "bin"
    tools.mkdir()
    for name, arguments in (("pullcord", "-m pullcord"), ("python", ""), ("pytest", "-m pytest")):
        tool = tools / name
        tool.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n', encoding="utf-8")
        tool.chmod(0o755)
    kept = {name: value for name, value in AROUND.items() if not name.startswith(("PULLCORD", "PYTEST", "COV"))}
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CI", "GITHUB_ACTIONS"):
        kept.pop(name, None)
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(_SLEEP.format(folder=str(folder)), encoding="utf-8")
    path = os.pathsep.join([str(ROOT / "src"), str(folder / "site"), *filter(None, [AROUND.get("PYTHONPATH")])])
    return kept | {
        "PATH": f"{tools}{os.pathsep}{kept.get('PATH', os.defpath)}",
        "PYTHONPATH": path,
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PULLCORD_PORT": str(port),
        "PULLCORD_WORKERS": "1",  # the examples need no more, and start sooner
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }


def main() -> None:
    """Write the true output into pages."""
    for name in sys.argv[1:]:
        page = Path(name)
        text = page.read_text(encoding="utf-8")
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="pullcord-docs-") as folder, Writer(Path(folder)) as writer:
            true = writer.read(text)
        if true != text:
            page.write_text(true, encoding="utf-8")
        sys.stdout.write(f"{name}: {'written' if true != text else 'true'} after {time.monotonic() - began:.1f} s\n")


if __name__ == "__main__":
    main()

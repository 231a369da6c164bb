"""Commands typed on a pseudo-terminal, and what a person sees there: used for the examples and the picture."""

from __future__ import annotations

import codecs
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

WIDTH, HEIGHT = 110, 50
_CONTROL = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b\][^\x07]*\x07|[\r\n\b]|[^\x1b\r\n\b]+|\x1b")
_BEGUN = re.compile(r"\x1b(\[[0-9;?]*|\][^\x07]*)?$")


class Screen:
    """As much of a terminal as Pullcord needs: lines that can be written over. Long lines are not broken."""

    def __init__(self) -> None:
        self._rows: list[list[tuple[str, str]]] = [[]]
        self._row = self._column = 0
        self._style = ""
        self._covered: list[list[tuple[str, str]]] = []
        self._begun = ""

    def feed(self, text: str) -> None:
        """Take what a program wrote; it may be cut anywhere."""
        text = self._begun + text
        begun = _BEGUN.search(text)
        self._begun = "" if begun is None else begun[0]
        text = text.removesuffix(self._begun)
        for match in _CONTROL.finditer(text):
            piece = match[0]
            if piece == "\r":
                self._column = 0
            elif piece == "\n":
                self._move_to(self._row + 1)
            elif piece == "\b":
                self._column = max(0, self._column - 1)
            elif match[2] is not None:
                self._control(match[1], match[2])
            elif not piece.startswith("\x1b"):
                self._write(piece)

    def _control(self, arguments: str, command: str) -> None:
        number = int(arguments) if arguments.isdigit() else 1
        row = self._rows[self._row]
        if command == "m":
            self._style = "" if arguments in ("", "0") else f"{self._style};{arguments}".strip(";")
        elif command == "A":
            self._row = max(0, self._row - number)
        elif command == "B":
            self._move_to(self._row + number)
        elif command == "C":
            self._column += number
        elif command == "H":
            line, _, column = arguments.partition(";")
            self._move_to(int(line or 1) - 1)
            self._column = int(column or 1) - 1
        elif arguments == "?1049" and command in "hl":
            # The alternate screen: a program draws on it, and what was there before is there again afterwards.
            self._covered, self._rows = (self._rows, [[]]) if command == "h" else ([], self._covered)
            self._row, self._column = len(self._rows) - 1, 0
        elif command == "G":
            self._column = number - 1
        elif command == "K":
            if arguments == "2":
                row.clear()
            else:
                del row[self._column :]
        elif command == "J":
            del row[self._column :]
            del self._rows[self._row + 1 :]

    def _move_to(self, row: int) -> None:
        self._row = row
        while len(self._rows) <= row:
            self._rows.append([])

    def _write(self, text: str) -> None:
        row = self._rows[self._row]
        row += [(" ", "")] * (self._column - len(row))
        for char in text:
            row[self._column : self._column + 1] = [(char, self._style)]
            self._column += 1

    @property
    def lines(self) -> list[str]:
        """The lines as plain text, without empty ones at the end."""
        lines = ["".join(char for char, _ in row).rstrip() for row in self._rows]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    @property
    def ansi(self) -> str:
        """The lines as text with colour codes."""
        lines = []
        for row in self._rows:
            text, before = "", ""
            for char, style in row:
                if style != before:
                    text += f"\x1b[0m\x1b[{style}m" if style else "\x1b[0m"
                    before = style
                text += char
            lines.append(f"{text}\x1b[0m" if before else text)
        return "\n".join(lines).rstrip()


class Terminal:
    """A shell command that runs on a pseudo-terminal.

    Args:
        command: for bash.
        folder: where it runs.
        environment: its environment.
        width: columns of the terminal.
    """

    def __init__(self, command: str, folder: Path, environment: Mapping[str, str], width: int = WIDTH) -> None:
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, width, 0, 0))
        self.process = subprocess.Popen(
            ["bash", "-c", command], cwd=folder, env=dict(environment) | {"TERM": "xterm-256color"},
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.screen = Screen()
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._open = True

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._ours, text.encode() + b"\n")

    def read_until(self, seen: Callable[[Screen], bool], timeout: float = 30.0) -> bool:
        """Read until something is on the screen; say whether it is, or the program has ended before."""
        deadline = time.monotonic() + timeout
        while not seen(self.screen):
            if not self._open:
                return False
            ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError("\n".join(["this is all that came:", *self.screen.lines]))
            try:
                data = os.read(self._ours, 65536)
            except OSError:  # how Linux says that nobody has the other end any more
                data = b""
            self._open = bool(data)
            self.screen.feed(self._decode(data))
        return True

    def finish(self, timeout: float = 30.0) -> int:
        """Read all there is and return the exit status."""
        self.read_until(lambda _: False, timeout)
        return self.process.wait(timeout)

    def end(self) -> None:
        """End the program and whatever it has started on this terminal."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(20.0)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        os.close(self._ours)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

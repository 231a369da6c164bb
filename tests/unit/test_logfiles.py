"""Log files of runs: lines in order, a file for each run, and a cap that says that it was reached."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pullcord.engine import logfiles
from pullcord.engine.logfiles import LogFiles

RUN = "0190163d-8694-739b-aea5-966c26f8ad91"
OTHER = "0190163d-8695-739b-aea5-966c26f8ad92"


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[LogFiles]:
    """Open log files in a fresh folder."""
    files = LogFiles(tmp_path / "logs")
    yield files
    files.stop()


def line(text: str, at: int = 1_000_000, level: str = "info") -> list[Any]:
    """Make a log line as workers send it."""
    return [at, level, "flow.f", text]


def settle(logs: LogFiles) -> None:
    """Wait until all that was appended is in the files."""
    assert logs.written().wait(60)


def texts(logs: LogFiles, run: str = RUN, skip: int = 0) -> list[str]:
    """Return what a run's log says."""
    return [item["text"] for item in logs.read(run, skip)]


def test_lines_come_back_in_order_and_by_run(logs: LogFiles) -> None:
    for number in range(50):
        logs.append(RUN, [line(f"a{number}"), line(f"b{number}")])
        logs.append(OTHER, [line(f"other {number}")])
    settle(logs)
    assert texts(logs) == [f"{letter}{number}" for number in range(50) for letter in "ab"]
    assert texts(logs, OTHER) == [f"other {number}" for number in range(50)]


def test_an_item_says_when_how_bad_and_who(logs: LogFiles) -> None:
    logs.append(RUN, [[1_700_000_000_123_456, "warning", "my.module", "line\nbreak ü"]])
    settle(logs)
    assert list(logs.read(RUN)) == [
        {"at": "2023-11-14T22:13:20.123456Z", "level": "warning", "logger": "my.module", "text": "line\nbreak ü"}
    ]


def test_reading_may_begin_later(logs: LogFiles) -> None:
    logs.append(RUN, [line(str(number)) for number in range(5)])
    settle(logs)
    assert texts(logs, skip=3) == ["3", "4"]
    assert texts(logs, skip=9) == []


def test_a_run_without_lines_has_an_empty_log(logs: LogFiles) -> None:
    assert texts(logs) == []


def test_a_line_that_is_not_whole_yet_is_not_shown(logs: LogFiles) -> None:
    logs.append(RUN, [line("whole")])
    settle(logs)
    with logs.path(RUN).open("ab") as file:
        file.write(b'{"at": "2026-')
    assert texts(logs) == ["whole"]


def test_the_cap_is_kept_and_said(logs: LogFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfiles, "CAP", 2000)
    for number in range(200):
        logs.append(RUN, [line(f"line {number}")])
    logs.append(OTHER, [line("unharmed")])
    settle(logs)
    *kept, notice = logs.read(RUN)
    assert [item["text"] for item in kept] == [f"line {number}" for number in range(len(kept))]
    assert 10 < len(kept) < 30
    assert "the log is full (2,000 bytes)" in notice["text"]
    assert notice["level"] == "warning"
    assert logs.path(RUN).stat().st_size <= 2000 + 200, "the notice, and nothing after it"
    assert texts(logs, OTHER) == ["unharmed"]


def test_a_single_huge_line_meets_the_cap_too(logs: LogFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logfiles, "CAP", 2000)
    logs.append(RUN, [line("first"), line("x" * 5000), line("never")])
    logs.append(RUN, [line("never either")])
    settle(logs)
    first, notice = texts(logs)
    assert first == "first"
    assert "the log is full" in notice


def test_exactly_full_is_not_over_the_cap(logs: LogFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.append(RUN, [line("fits")])
    settle(logs)
    size = logs.path(RUN).stat().st_size
    monkeypatch.setattr(logfiles, "CAP", 2 * size)
    logs.append(RUN, [line("fits")])
    logs.append(RUN, [line("over"), line("never")])
    logs.append(RUN, [line("never")])
    settle(logs)
    assert texts(logs)[:2] == ["fits", "fits"]
    assert len(texts(logs)) == 3
    assert "the log is full" in texts(logs)[2]


def test_any_text_can_be_logged(logs: LogFiles) -> None:
    logs.append(RUN, [line("lone \ud800 surrogate"), line("nul \0"), line("next")])
    settle(logs)
    assert texts(logs) == ["lone ? surrogate", "nul \0", "next"]


def test_a_disk_that_fails_loses_lines_and_nothing_else(
    tmp_path: Path, logs: LogFiles, caplog: pytest.LogCaptureFixture
) -> None:
    folder = logs.path(RUN).parent
    folder.parent.mkdir(parents=True)
    folder.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        logs.append(RUN, [line("lost")])
        settle(logs)
    assert f"log lines of run {RUN} are lost" in caplog.text
    folder.unlink()
    logs.append(RUN, [line("kept")])
    settle(logs)
    assert texts(logs) == ["kept"]


def test_stopping_writes_what_is_queued(tmp_path: Path) -> None:
    files = LogFiles(tmp_path)
    for number in range(100):
        files.append(RUN, [line(str(number))])
    files.stop()
    assert texts(files) == [str(number) for number in range(100)]


def test_a_days_runs_share_few_folders(logs: LogFiles) -> None:
    """A UUIDv7 begins with the milliseconds; a folder is for some hours."""
    begin = 0x0190163D0000
    minutes = [f"{begin + minute * 60_000:012x}" for minute in range(24 * 60)]
    folders = {logs.path(f"{at[:8]}-{at[8:]}-739b-aea5-966c26f8ad91").parent for at in minutes}
    assert len(folders) <= 7

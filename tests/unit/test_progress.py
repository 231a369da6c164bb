"""What is remembered of how far runs are, until it is written."""

from __future__ import annotations

from pullcord.engine.progress import ProgressReports


def test_the_last_word_of_each_run_is_taken_once() -> None:
    reports = ProgressReports()
    assert reports.take([1]) == []
    for done in (1.0, 2.0):
        reports.note(1, 7, done, None, None)
    reports.note(2, 7, 5.0, 10.0, "half")
    assert reports.take([1, 3]) == [[1, 7, 2.0, None, None]]
    assert reports.take_all() == [[2, 7, 5.0, 10.0, "half"]]
    assert reports.take_all() == reports.take([1, 2]) == []


def test_what_could_not_be_written_comes_again_unless_there_is_something_newer() -> None:
    reports = ProgressReports()
    reports.note(1, 7, 1.0, None, None)
    reports.note(2, 7, 1.0, None, None)
    rows = reports.take_all()
    reports.note(2, 7, 2.0, None, None)
    reports.give_back(rows)
    assert sorted(reports.take_all()) == [[1, 7, 1.0, None, None], [2, 7, 2.0, None, None]]

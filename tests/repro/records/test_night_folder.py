from __future__ import annotations

import json
from pathlib import Path

import pytest

from zoo.errors import DataError, UsageError
from zoo.files.json_files import write_json
from zoo.repro.records.night_folder import (
    FAILED,
    HELD,
    Night,
    Outcome,
    check_date,
    last_record,
    nights_before,
    open_night,
    record_path,
)

DAY = "2026-11-25"
SETTINGS = {"limit": None, "device": "auto"}


def written(night: Night, finished: str | None = None) -> Night:
    night.finished = finished
    write_json(night.folder / "summary.json", night.to_json())
    return night


def test_the_first_night_of_a_date(tmp_path: Path) -> None:
    night = open_night(tmp_path, DAY, SETTINGS)
    assert night.folder == tmp_path / DAY
    assert (night.outcomes, night.finished) == ({}, None)
    assert not night.folder.exists()


def test_an_unfinished_night_goes_on(tmp_path: Path) -> None:
    night = open_night(tmp_path, DAY, SETTINGS)
    night.outcomes = {
        "a/b": Outcome("a/b", HELD, duration_s=1.5, peak_memory_bytes=7),
        "a/c": Outcome("a/c", FAILED, "no data"),
    }
    written(night)
    assert open_night(tmp_path, DAY, SETTINGS) == night


def test_a_finished_night_is_followed_by_another_of_its_date(tmp_path: Path) -> None:
    for name in (DAY, f"{DAY}.2"):
        night = written(open_night(tmp_path, DAY, SETTINGS), "2026-11-25T04:00:00+00:00")
        assert night.folder.name == name
    assert open_night(tmp_path, DAY, SETTINGS).folder.name == f"{DAY}.3"
    assert open_night(tmp_path, "2026-11-26", SETTINGS).folder.name == "2026-11-26"


def test_an_unfinished_night_with_other_settings_does_not_go_on(tmp_path: Path) -> None:
    written(open_night(tmp_path, DAY, {**SETTINGS, "limit": 2}))
    assert open_night(tmp_path, DAY, SETTINGS).folder.name == f"{DAY}.2"
    assert open_night(tmp_path, DAY, {**SETTINGS, "limit": 2}).folder.name == DAY


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 2}', '{"schema": 1, "entries": []}'])
def test_a_summary_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / DAY).mkdir()
    (tmp_path / DAY / "summary.json").write_text(text)
    with pytest.raises(DataError, match=r"summary\.json: not the summary of a night .*another --date"):
        open_night(tmp_path, DAY, SETTINGS)


def test_nights_are_in_the_order_of_their_dates_and_numbers(tmp_path: Path) -> None:
    names = ["2026-09-30", "2026-11-24", "2026-11-24.2", "2026-11-24.10", DAY]
    for name in (*names, "2026-11-26", "work", "2026-11-24.x", "notes.txt"):
        (tmp_path / name).mkdir()
    assert [path.name for path in nights_before(tmp_path / DAY)] == names[-2::-1]
    assert [path.name for path in nights_before(tmp_path / "2026-11-24.2")] == names[1::-1]


def test_the_last_record_may_be_of_an_earlier_night(tmp_path: Path) -> None:
    for name, entry in (("2026-11-22", "a/b"), ("2026-11-23", "a/b"), ("2026-11-24", "a/c")):
        write_json(record_path(tmp_path / name, entry), json.loads("{}"))
    (tmp_path / DAY).mkdir()
    found = last_record(tmp_path / DAY, "a/b")
    assert found == tmp_path / "2026-11-23" / "a__b" / "record.json"
    assert last_record(tmp_path / DAY, "a/d") is None
    assert last_record(tmp_path / "2026-11-22", "a/b") is None


def test_dates() -> None:
    assert check_date(DAY) == DAY
    assert len(check_date(None)) == 10
    for text in ("tomorrow", "2026-13-01", "2026-11-25.2"):
        with pytest.raises(UsageError, match=f"--date {text}: expected a date such as"):
            check_date(text)

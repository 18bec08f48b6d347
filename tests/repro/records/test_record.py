from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import DataError, ZooError
from zoo.files.json_files import write_json
from zoo.repro.records.record import SCHEMA_VERSION, finite, read_record


def error_of(path: Path) -> str:
    with pytest.raises(ZooError) as caught:
        read_record(path)
    assert isinstance(caught.value, DataError)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_what_is_written_is_read(tmp_path: Path) -> None:
    record = {
        "schema": SCHEMA_VERSION,
        "entry": "a/b",
        "images": 30,
        "images_in_dataset": 30,
        "claims": [],
        "metrics": {"internal": {"pq": 74.19650651452396}},
        "of another version": {"kept": [1]},
    }
    write_json(tmp_path / "deep" / "record.json", record)
    assert read_record(tmp_path / "deep" / "record.json") == record
    assert read_record(tmp_path / "deep") == record
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["record.json"]


def test_errors_of_reading_are_one_line(tmp_path: Path) -> None:
    assert "no run record there" in error_of(tmp_path / "nowhere.json")
    for name, content in {
        "cut.json": b'{"schema": 1, "entry"',
        "binary.json": b"\xff\xfe\x00",
        "list.json": b"[]",
        "other.json": b'{"schema": 1, "entry": "a/b"}',
    }.items():
        (tmp_path / name).write_bytes(content)
        assert "not a run record" in error_of(tmp_path / name)


@pytest.mark.parametrize("schema", [None, 0, SCHEMA_VERSION + 1, "1"])
def test_another_schema_is_refused(tmp_path: Path, schema: Any) -> None:
    write_json(tmp_path / "record.json", {"schema": schema, "entry": "a/b", "claims": []})
    message = error_of(tmp_path / "record.json")
    assert f"schema {schema!r}, expected {SCHEMA_VERSION}" in message


def test_finite_turns_nan_into_none() -> None:
    assert finite({"road": 98.5, "train": math.nan, "sky": 0}) == {"road": 98.5, "train": None, "sky": 0.0}

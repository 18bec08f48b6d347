from __future__ import annotations

import json
import math
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import DataError, EvaluationError, ZooError
from zoo.repro.records.record import SCHEMA_VERSION, finite, read_record, write_json


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


@pytest.mark.parametrize("bad", [object(), math.nan, math.inf], ids=["object", "nan", "inf"])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, bad: Any) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"old": 1})
    before = path.read_bytes()
    with pytest.raises((TypeError, ValueError)):
        write_json(path, {"new": bad})
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["record.json"]


def test_a_write_that_the_disk_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"old": 1})

    def refuse(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(EvaluationError, match=r"the disk is full; free space") as caught:
        write_json(path, {"new": 2})
    assert str(path) in str(caught.value)
    assert json.loads(path.read_text(encoding="utf-8")) == {"old": 1}
    assert [found.name for found in tmp_path.iterdir()] == ["record.json"]


def test_a_file_where_a_folder_should_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        EvaluationError,
        match=re.escape(f"cannot write {tmp_path}/file/record.json: {tmp_path}/file is a file, not a folder"),
    ):
        write_json(tmp_path / "file" / "record.json", {})


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
def test_a_record_is_as_readable_as_other_files(tmp_path: Path) -> None:
    write_json(tmp_path / "record.json", {})
    (tmp_path / "other").write_text("")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("record.json", "other")}
    assert len(modes) == 1


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

from __future__ import annotations

import errno
import math
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import ZooError
from zoo.files.atomic import write_atomically
from zoo.files.json_files import read_json, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    for content in ("gr\u00fcn\n", "gr\u00fcn\n".encode(), memoryview("gr\u00fcn\n".encode())):
        write_atomically(path, content, durable=False)
        assert path.read_bytes() == b"gr\xc3\xbcn\n"
    assert names(path.parent) == ["file"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_atomically(tmp_path / "link", "text")
    assert (tmp_path / "file").read_text() == "text"
    assert (tmp_path / "link").is_symlink()


def test_writing_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old\n")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new\n\ud800")
    assert path.read_text() == "old\n"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("bad", [object(), math.nan, math.inf], ids=["object", "nan", "inf"])
def test_what_is_not_json_leaves_the_old_file(tmp_path: Path, bad: Any) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"old": 1})
    before = path.read_bytes()
    with pytest.raises((TypeError, ValueError)):
        write_json(path, {"new": bad})
    assert path.read_bytes() == before
    assert names(tmp_path) == ["record.json"]


def test_a_write_that_the_disk_refuses_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"old": 1})

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    expected = f"cannot write {path}: the disk is full; free space and call again: "
    with pytest.raises(ZooError, match=f"^{re.escape(expected)}.*resumes.*$"):
        write_json(path, {"new": 2})
    assert read_json(path) == {"old": 1}
    assert names(tmp_path) == ["record.json"]


def test_a_file_where_a_folder_should_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "record.json"
    expected = f"cannot write {path}: {path.parent} is a file, not a folder; give another path with --out"
    with pytest.raises(ZooError, match=f"^{re.escape(expected)}$"):
        write_json(path, {})
    with pytest.raises(ZooError, match=r"not a folder; choose another file$"):
        write_atomically(path, "", remedy="choose another file")


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_file_is_as_readable_as_other_files(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "file", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask


@pytest.mark.skipif(os.name != "posix", reason="a pipe with a name")
def test_what_is_not_a_plain_file_is_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomically(tmp_path / "pipe", "text")
        assert os.read(reader, 10) == b"text"
    finally:
        os.close(reader)
    assert names(tmp_path) == ["pipe"]

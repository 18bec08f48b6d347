from __future__ import annotations

from pathlib import Path

import pytest

from zoo.errors import ArchiveError
from zoo.fetch.archive import find_checkpoint, top_folder


def make(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


@pytest.mark.parametrize(
    ("names", "top"),
    [(["city/a", "city/b/c", "._city"], "city"), (["gtFine/a", "leftImg8bit/b"], ""), (["file"], "")],
)
def test_the_one_top_folder(tmp_path: Path, names: list[str], top: str) -> None:
    make(tmp_path, names)
    assert top_folder(tmp_path) == tmp_path / top


def test_a_folder_without_files(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ArchiveError, match="holds no files"):
        top_folder(tmp_path)


SHARD = "a/ckpt-1.data-0000{}-of-0000{}"


@pytest.mark.parametrize(
    ("names", "match"),
    [
        ([], "expected one checkpoint .* found none among no files"),
        (["a/saved_model.pb"], "found none among a/saved_model.pb"),
        (["a/ckpt-1.index"], "found none; the archive is incomplete"),
        (["a/ckpt-1.index", "b/ckpt-2.index", SHARD.format(0, 1)], "found 2: a/ckpt-1.index, b/ckpt-2.index"),
        (["a/ckpt-1.index", SHARD.format(0, 2)], "found 00000-of-00002"),
        (["a/ckpt-1.index", SHARD.format(0, 2), SHARD.format(2, 2)], "00000-of-00002, 00002-of-00002"),
        (["a/ckpt-1.index", SHARD.format(0, 1), SHARD.format(0, 2)], "00000-of-00001, 00000-of-00002"),
        (["a/ckpt-1.index", "a/ckpt-10.data-00000-of-00001"], "found none"),
        (["b/ckpt-1.index", SHARD.format(0, 1)], "found none"),
    ],
)
def test_folders_without_exactly_one_whole_checkpoint(tmp_path: Path, names: list[str], match: str) -> None:
    make(tmp_path, names)
    with pytest.raises(ArchiveError, match=match) as caught:
        find_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        ["a/ckpt-1.index", SHARD.format(0, 1), "a/checkpoint", "notes.txt"],
        ["a/ckpt-1.index", SHARD.format(0, 2), SHARD.format(1, 2)],
        ["a/ckpt-1.index", SHARD.format(0, 1), "a/._ckpt-1.index", "._a"],
    ],
)
def test_any_layout_with_one_whole_checkpoint(tmp_path: Path, names: list[str]) -> None:
    make(tmp_path, names)
    assert find_checkpoint(tmp_path) == tmp_path / "a" / "ckpt-1"

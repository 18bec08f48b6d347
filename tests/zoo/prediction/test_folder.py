"""The folder of predictions: what it is made with, what is done in it, and what survives a crash."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zoo.errors import InUseError, UsageError, ZooError
from zoo.prediction.folder import LOG_NAME, SETTINGS_NAME, PredictionFolder, Source

SETTINGS = {
    "entry": "a/b",
    "entry_digest": "1",
    "checkpoint_sha256": "2",
    "scales": [1.0],
    "write": ["overlay"],
}


def opened(root: Path, **changed: object) -> PredictionFolder:
    folder = PredictionFolder(root, {**SETTINGS, **changed})
    folder.open()
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(b"picture")
    return path


def note(folder: PredictionFolder, name: str, path: Path, frames: int | None = None) -> None:
    folder.note(name, Source.of(path), frames)


def test_what_was_noted_is_done(tmp_path: Path, picture: Path) -> None:
    folder = opened(tmp_path / "out")
    assert folder.find("a", picture) is None
    note(folder, "b", picture)
    note(folder, "clip", picture, frames=2)
    again = opened(tmp_path / "out")
    assert again.find("b", picture) is not None
    assert again.find("clip", picture).names("clip") == ["clip/000001", "clip/000002"]
    assert list(again.names()) == ["b", "clip/000001", "clip/000002"]


def test_a_line_that_was_cut_off_is_forgotten(tmp_path: Path, picture: Path) -> None:
    folder = opened(tmp_path / "out")
    note(folder, "a", picture)
    note(folder, "b", picture)
    log = tmp_path / "out" / LOG_NAME
    log.write_bytes(log.read_bytes()[:-9])
    again = opened(tmp_path / "out")
    assert list(again.names()) == ["a"]
    note(again, "c", picture)
    assert list(opened(tmp_path / "out").names()) == ["a", "c"]


def test_a_changed_file_is_not_done_and_another_one_of_the_name_is_refused(
    tmp_path: Path, picture: Path
) -> None:
    folder = opened(tmp_path / "out")
    note(folder, "a", picture)
    moved = tmp_path / "moved.png"
    os.link(picture, moved)
    assert folder.find("a", moved) is not None
    os.utime(picture, ns=(0, 0))
    assert folder.find("a", picture) is None
    other = tmp_path / "other" / "a.png"
    other.parent.mkdir()
    other.write_bytes(b"another picture")
    with pytest.raises(
        UsageError, match=rf"holds a of {picture}, found {other} of the same name; give another"
    ):
        folder.find("a", other)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"entry": "a/c"}, "with a/b; give another --out"),
        ({"checkpoint_sha256": "3"}, "with another checkpoint; give"),
        ({"scales": [1.0, 1.5]}, "with --scales 1.0; give"),
        ({"flip": True}, "with no --flip; give"),
        ({"write": ["coco", "table"]}, "with --write overlay; give"),
    ],
)
def test_predictions_of_something_else_are_not_mixed_in(
    tmp_path: Path, changed: dict[str, object], expected: str
) -> None:
    opened(tmp_path)
    with pytest.raises(UsageError) as raised:
        opened(tmp_path, **changed)
    assert expected in str(raised.value)


def test_damaged_notes_and_a_folder_in_use_are_one_line(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    with folder.in_use(), pytest.raises(InUseError), PredictionFolder(tmp_path, SETTINGS).in_use():
        pass
    (tmp_path / SETTINGS_NAME).write_text("{")
    with pytest.raises(ZooError, match=r"predict.json: is missing or damaged; give another --out"):
        opened(tmp_path)

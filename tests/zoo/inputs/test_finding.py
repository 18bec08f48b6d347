"""Which files are meant by files, folders and patterns, and what their predictions are called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zoo.errors import DataError, UsageError
from zoo.inputs.finding import find_inputs


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    twins = ("twins/a.png", "twins/a.jpg", "clips/run.mp4", "clips/run/000001.png")
    hidden = ("oslo/.hidden.png", "oslo/.cache/x.png")
    plain = ("rome/img10.png", "rome/img2.PNG", "rome/day1/img2.png", "oslo/img2.jpg", "oslo/notes.txt")
    for name in (*twins, *hidden, *plain, "out/overlay.png", "1[2].png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("what", "names"),
    [
        (["rome"], "day1/img2 img2 img10"),
        (["rome/img10.png"], "img10"),
        (["rome/*"], "day1/img2 img2 img10"),
        (["**/img*.png"], "rome/day1/img2 rome/img10"),
        (["1[2].png"], "1[2]"),
        (["oslo/notes.txt"], "notes"),
        (["rome/img10.png", "./rome/img10.png", "rome"], "day1/img2 img2 img10"),
        # Names that would be the same.
        (["twins"], "a_jpg a_png"),
        (["rome", "oslo"], "oslo/img2 rome/day1/img2 rome/img2 rome/img10"),
        (["clips"], "run/000001 run_mp4"),
    ],
)
def test_names_are_those_of_the_files_and_unique(folder: Path, what: list[str], names: str) -> None:
    found = find_inputs(what, Path("out")).inputs
    assert [each.name for each in found] == names.split(" ")
    assert all(each.path.is_absolute() and each.path.exists() for each in found)
    assert [each.name for each in found if each.is_video] == [
        name for name in names.split(" ") if "mp4" in name
    ]


def test_outputs_hidden_and_other_files_are_not_taken(folder: Path) -> None:
    found = find_inputs(["."], Path("out"))
    assert len(found.inputs) == 9
    assert not any(
        part in ("out", ".cache", ".hidden.png") for each in found.inputs for part in each.path.parts
    )
    assert found.others == 1


def test_names_that_differ_in_case_alone_are_told_apart(folder: Path) -> None:
    for name in ("case/A.png", "case/a.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    names = [each.name.casefold() for each in find_inputs(["case"]).inputs]
    assert len(names) == len(set(names))


def test_linked_folders_are_looked_into_once(folder: Path) -> None:
    everything = {each.path for each in find_inputs(["."], Path("out")).inputs}
    (folder / "all").mkdir()
    for name, target in {"rome": "../rome", "again": "../rome/day1", "circle": "..", "gone": "../x"}.items():
        (folder / "all" / name).symlink_to(target)
    found = [each.path for each in find_inputs(["all"], folder / "out").inputs]
    assert {path.resolve() for path in found} == everything
    assert len(found) == len(everything) == 9
    assert folder / "all/again/img2.png" in found


def test_what_cannot_be_read_as_files_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / "rome/pipe.png")
    with pytest.raises(DataError, match=r"^rome/pipe\.png: expected a file, found a pipe or a device"):
        find_inputs(["rome"])

    def scandir(path: str) -> object:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.scandir", scandir)
    with pytest.raises(DataError, match=r"^oslo: cannot be read: Permission denied; name"):
        find_inputs(["oslo"])


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("paris", DataError, "paris: expected a file, a folder or a pattern, found nothing there"),
        ("*.webp", DataError, "*.webp: expected a pattern that matches files, found none"),
        ("o*/*.txt", DataError, "o*/*.txt: expected pictures (.png, "),
        (
            "https://a.b/c.png",
            UsageError,
            "https://a.b/c.png: expected a file, a folder or a pattern; download",
        ),
        ("out", UsageError, "--out out: is a folder of inputs; give another folder"),
    ],
)
def test_what_matches_nothing_is_one_line(folder: Path, what: str, error: type, message: str) -> None:
    with pytest.raises(error) as raised:
        find_inputs([what], Path("out"))
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)

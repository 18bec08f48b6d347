from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo.errors import EvaluationError
from zoo.repro.record import SCHEMA_VERSION, write_json
from zoo.repro.store import RunFolder

IDENTITY: dict[str, Any] = {"entry": "a/b", "code": "1", "settings": {"scales": [1.0], "flip": False}}
ARRAYS = {"pq/tp": np.arange(3), "ap/dt_score": np.array([0.1, 1 / 3]), "empty": np.zeros((0, 2), np.int32)}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.open(IDENTITY, ["a", "b"])
    return folder


def test_what_is_written_is_read_bit_for_bit(folder: RunFolder) -> None:
    folder.write_image("frankfurt_000000", ARRAYS)
    found = folder.read_image("frankfurt_000000")
    assert found is not None
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array, strict=True)
    assert [path.name for path in folder.images.iterdir()] == ["frankfurt_000000.npz"]


def test_a_record_can_be_opened_by_numpy_alone(folder: RunFolder) -> None:
    folder.write_image("a", ARRAYS)
    with np.load(folder.images / "a.npz") as file:
        np.testing.assert_array_equal(file["ap/dt_score"], ARRAYS["ap/dt_score"])


def test_a_missing_record_is_not_done(folder: RunFolder) -> None:
    folder.write_image("a", ARRAYS)
    assert folder.read_image("b") is None
    assert folder.done(["a", "b"]) == {"a"}


@given(data=st.data())
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_counts_as_missing(folder: RunFolder, data: st.DataObject) -> None:
    folder.write_image("a", ARRAYS)
    path = folder.images / "a.npz"
    whole = path.read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1), label="position")
    kind = data.draw(st.sampled_from(["flipped bit", "cut", "zeros", "longer"]), label="kind")
    if kind == "flipped bit":
        bit = 1 << data.draw(st.integers(0, 7), label="bit")
        damaged = whole[:position] + bytes([whole[position] ^ bit]) + whole[position + 1 :]
    elif kind == "cut":
        damaged = whole[:position]
    elif kind == "zeros":
        damaged = whole[:position] + bytes(len(whole) - position)
    else:
        damaged = whole + whole[: position + 1]
    path.write_bytes(damaged)
    assert folder.read_image("a") is None
    assert folder.done(["a"]) == set()


def test_an_unfinished_run_of_the_same_identity_goes_on(folder: RunFolder) -> None:
    folder.write_image("a", ARRAYS)
    RunFolder(folder.root).open(IDENTITY, ["a", "b"])
    assert folder.done(["a"]) == {"a"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"code": "2"}, "code differ"),
        ({"settings": {"scales": [0.5], "flip": True}, "entry": "a/c"}, "entry, settings differ"),
        ({"checkpoint_sha256": "0"}, "checkpoint_sha256 differ"),
    ],
)
def test_an_unfinished_run_of_something_else_is_refused(
    folder: RunFolder, change: dict[str, Any], named: str
) -> None:
    folder.write_image("a", ARRAYS)
    with pytest.raises(EvaluationError) as caught:
        RunFolder(folder.root).open({**IDENTITY, **change}, ["a"])
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder.root) in message
    assert named in message
    assert "--restart" in message
    assert folder.done(["a"]) == {"a"}


def test_restart_discards_an_unfinished_run(folder: RunFolder) -> None:
    folder.write_image("a", ARRAYS)
    other = {**IDENTITY, "code": "2"}
    RunFolder(folder.root).open(other, ["a"], restart=True)
    assert folder.done(["a"]) == set()
    folder.write_image("a", ARRAYS)
    RunFolder(folder.root).open(other, ["a"])
    assert folder.done(["a"]) == {"a"}


def test_a_finished_run_starts_anew(folder: RunFolder) -> None:
    folder.write_image("a", ARRAYS)
    write_json(folder.root / "record.json", {})
    RunFolder(folder.root).open({**IDENTITY, "code": "2"}, ["a"])
    assert folder.done(["a"]) == set()
    assert not (folder.root / "record.json").exists()


def write_record(folder: RunFolder, images: int) -> None:
    record = {"schema": SCHEMA_VERSION, "entry": "a/b", "claims": [], "images": images}
    write_json(folder.root / "record.json", record)


def test_a_finished_run_is_measured_again(folder: RunFolder) -> None:
    folder.write_image("a", ARRAYS)
    folder.write_image("b", ARRAYS)
    write_record(folder, images=2)
    RunFolder(folder.root).open(IDENTITY, ["a", "b"])
    assert folder.done(["a", "b"]) == set()


def test_a_short_run_does_not_lose_what_a_longer_one_has_computed(folder: RunFolder) -> None:
    # Two images of a longer run, which was stopped; then the first alone, to its end.
    folder.write_image("a", ARRAYS)
    folder.write_image("b", ARRAYS)
    RunFolder(folder.root).open(IDENTITY, ["a"])
    assert folder.done(["a", "b"]) == {"a", "b"}
    write_record(folder, images=1)
    # The first again is measured again; the longer run goes on with what it has.
    RunFolder(folder.root).open(IDENTITY, ["a"])
    assert folder.done(["a", "b"]) == {"b"}
    folder.write_image("a", ARRAYS)
    write_record(folder, images=1)
    RunFolder(folder.root).open(IDENTITY, ["a", "b", "c"])
    assert folder.done(["a", "b", "c"]) == {"a", "b"}


def test_a_folder_in_use_is_refused(folder: RunFolder) -> None:
    with folder.in_use():
        with (
            pytest.raises(EvaluationError, match="another process is running there") as caught,
            RunFolder(folder.root).in_use(),
        ):
            pytest.fail("two runs in one folder")
        assert "\n" not in str(caught.value)
    with RunFolder(folder.root).in_use():
        pass


def test_images_of_an_unknown_run_are_not_taken_over(folder: RunFolder) -> None:
    folder.write_image("a", ARRAYS)
    (folder.root / "run.json").write_text('{"entry":')
    RunFolder(folder.root).open(IDENTITY, ["a", "b"])
    assert folder.done(["a"]) == set()


def test_clear_touches_nothing_foreign(folder: RunFolder, tmp_path: Path) -> None:
    folder.write_image("a", ARRAYS)
    notes = folder.root / "notes.txt"
    notes.write_text("mine")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept.png").write_bytes(b"kept")
    folder.predictions.symlink_to(elsewhere, target_is_directory=True)
    folder.clear()
    assert [path.name for path in folder.root.iterdir()] == ["notes.txt"]
    assert notes.read_text() == "mine"
    assert (elsewhere / "kept.png").read_bytes() == b"kept"


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EvaluationError, match=r"cannot be written: .*--out") as caught:
        RunFolder(tmp_path / "file" / "run").open(IDENTITY, ["a", "b"])
    assert "\n" not in str(caught.value)

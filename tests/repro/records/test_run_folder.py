from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo.errors import DataError, ZooError
from zoo.metrics.panoptic_quality import PanopticQuality
from zoo.repro.records.run_folder import RunFolder, open_run_folder

IDENTITY: dict[str, Any] = {"entry": "a/b", "code": "1", "settings": {"scales": [1.0], "flip": False}}
ARRAYS = {"pq/tp": np.arange(3), "ap/dt_score": np.array([0.1, 1 / 3]), "empty": np.zeros((0, 2), np.int32)}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.create(IDENTITY)
    return folder


def test_what_is_written_is_read_bit_for_bit(folder: RunFolder) -> None:
    folder.write_statistics("frankfurt_000000", ARRAYS)
    found = folder.find_statistics("frankfurt_000000")
    assert found is not None
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array, strict=True)
    assert [path.name for path in folder.images.iterdir()] == ["frankfurt_000000.npz"]


def test_a_record_can_be_opened_by_numpy_alone(folder: RunFolder) -> None:
    folder.write_statistics("a", ARRAYS)
    with np.load(folder.images / "a.npz") as file:
        np.testing.assert_array_equal(file["ap/dt_score"], ARRAYS["ap/dt_score"])


def test_a_missing_record_is_not_done(folder: RunFolder) -> None:
    folder.write_statistics("a", ARRAYS)
    assert folder.find_statistics("b") is None
    assert folder.done(["a", "b"]) == {"a"}


@given(data=st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_counts_as_missing(folder: RunFolder, data: st.DataObject) -> None:
    folder.write_statistics("a", ARRAYS)
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
    assert folder.find_statistics("a") is None
    assert folder.done(["a"]) == set()


def test_clear_touches_nothing_foreign(folder: RunFolder, tmp_path: Path) -> None:
    folder.write_statistics("a", ARRAYS)
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
    with pytest.raises(ZooError, match=r"^cannot write .*--out") as caught:
        RunFolder(tmp_path / "file" / "run").create(IDENTITY)
    assert "\n" not in str(caught.value)


# ---- reading a finished run ----


def test_a_record_takes_the_first_images_of_its_folder(minicity_run: Path) -> None:
    folder = open_run_folder(minicity_run / "record.json")
    assert folder.root == open_run_folder(minicity_run).root
    names = folder.all_images_of({"entry": "a/b", "images": 3})
    assert names == sorted(path.stem for path in folder.images.iterdir())[:3]
    assert len(list(folder.read_statistics(names))) == 3


def test_missing_and_damaged_statistics_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found no such folder"):
        open_run_folder(tmp_path)
    folder = RunFolder(tmp_path)
    folder.images.mkdir()
    folder.write_statistics("one", {"pq/tp": np.zeros(1)})
    with pytest.raises(DataError, match="expected the statistics of 2 images, found 1"):
        folder.all_images_of({"entry": "a/b", "images": 2})
    path = folder.images / "one.npz"
    for number, divisor in enumerate((1000, 256)):
        arrays = PanopticQuality(2, 255, divisor).to_arrays()
        folder.write_statistics(f"{number}", {f"pq/{name}": array for name, array in arrays.items()})
    with pytest.raises(
        DataError, match=r"1\.npz: expected pq/label_divisor as in the first image of the run"
    ):
        list(folder.read_statistics(["0", "1"]))
    arrays = PanopticQuality(2, 255, 1000).to_arrays() | {"tp": np.array([b"1", b"2"])}
    folder.write_statistics("1", {f"pq/{name}": array for name, array in arrays.items()})
    with pytest.raises(DataError, match=r"1\.npz: expected pq/tp as in the first image of the run"):
        list(folder.read_statistics(["0", "1"]))
    whole, pickled = path.read_bytes(), io.BytesIO()
    np.savez(pickled, **{"pq/tp": np.array([{}], object)})
    for content in (whole[:-1], pickled.getvalue() + hashlib.sha256(pickled.getvalue()).digest()):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"one\.npz: is missing or damaged"):
            list(folder.read_statistics(["one"]))

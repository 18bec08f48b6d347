"""What is checked of a copy of a data set, and when it counts as the same data."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.errors import DataError
from zoo.fetch.fetcher import Fetcher
from zoo.files.cache import Cache
from zoo.registry import load_registry
from zoo.repro.cityscapes.dataset import CityscapesDataset
from zoo.repro.datasets import digests as digests_module
from zoo.repro.datasets.checking import check_dataset, usable_images, wrong_headers
from zoo.repro.datasets.image_files import read_bytes
from zoo.repro.datasets.opening import open_files

open_cityscapes = partial(open_files, CityscapesDataset, split="val")


def ground_truth(root: Path, number: int, kind: str) -> Path:
    return next(root.glob(f"gtFine/val/*/*_{number:06d}_*_{kind}.png"))


def test_fingerprint_depends_on_contents_and_not_on_the_place(
    copy_images: Callable[..., Path], tmp_path: Path
) -> None:
    prints = [open_cityscapes(copy_images(2, name), cache=tmp_path / "cache") for name in ("one", "two")]
    first, second = prints
    assert first.fingerprint() == second.fingerprint()
    path = ground_truth(tmp_path / "two", 1, "labelIds")
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    again = open_cityscapes(tmp_path / "two", cache=tmp_path / "cache")
    assert again.fingerprint() != first.fingerprint()
    assert open_cityscapes(copy_images(3, "more"), cache=tmp_path).fingerprint() != first.fingerprint()


def test_fingerprint_reads_unchanged_files_once(
    tiny: CityscapesDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = tiny.fingerprint()
    monkeypatch.setattr(digests_module, "read_bytes", lambda path: pytest.fail(f"read {path} again"))
    again = CityscapesDataset(tiny.root, "val", cache=tmp_path / "cache")
    assert again.fingerprint() == expected


@pytest.mark.parametrize("kind", ["labelIds", "instanceIds"])
@pytest.mark.parametrize("damage", ["empty", "RGB", "size", "cut"])
def test_headers_of_all_ground_truth_are_read(
    copy_images: Callable[..., Path], tmp_path: Path, kind: str, damage: str
) -> None:
    root = copy_images(3)
    path = ground_truth(root, 1, kind)
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "RGB":
        Image.fromarray(np.zeros((256, 512, 3), np.uint8)).save(path)
    elif damage == "size":
        Image.fromarray(np.zeros((128, 512), np.uint8)).save(path)
    else:
        path.write_bytes(path.read_bytes()[:-100])
    dataset = open_cityscapes(root, cache=tmp_path / "cache")
    (reason,) = wrong_headers(dataset, dataset.image_ids).values()
    assert str(path) in reason
    declared = load_registry().dataset("minicity").model_copy(update={"images": 3})
    check = check_dataset(declared, root, Fetcher(Cache(tmp_path / "cache")))
    assert not check.ok
    assert reason in check.problems
    assert "can score it" not in str(check)
    assert usable_images(dataset, dataset.image_ids)[0] == [dataset.image_ids[0], dataset.image_ids[2]]


def test_only_a_full_check_decodes_every_file(copy_images: Callable[..., Path], tmp_path: Path) -> None:
    root = copy_images(12)
    dataset = open_cityscapes(root, cache=tmp_path / "cache")
    samples = {round(i * 11 / 7) for i in range(8)}
    unread = next(index for index in range(12) if index not in samples)
    path = ground_truth(root, unread, "labelIds")
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :])
    declared = load_registry().dataset("minicity").model_copy(update={"images": 12})
    assert check_dataset(declared, root, Fetcher(Cache(tmp_path / "cache"))).ok
    check = check_dataset(declared, root, Fetcher(Cache(tmp_path / "cache")), full=True)
    assert check.samples == 12
    assert len(check.problems) == 1
    assert str(path) in check.problems[0]
    assert len(usable_images(dataset, dataset.image_ids)[0]) == 11


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="devices")
def test_a_link_to_a_device_is_not_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "labels.png").symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"labels\.png: cannot be read: it is not a regular file$"):
        read_bytes(tmp_path / "labels.png")

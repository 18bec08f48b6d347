"""A format of data sets that is defined here alone: every command takes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.registry.dataset_info import DatasetInfo
from zoo.registry.formats import FORMATS
from zoo.repro.cityscapes.dataset import CityscapesDataset
from zoo.repro.datasets.dataset import FolderDataset, Sample

IMAGES = 3
REGISTRY = f"""\
datasets:
  toys:
    title: Toys
    format: toy
    split: all
    images: {IMAGES}
entries:
  mine/mobilenet_os16:
    extends: [minicity, mobilenet_v3_small, depthwise_output, os16]
    title: Mine
    dataset: toys
    network: {{semantic_decoder: {{atrous_rates: [3, 6, 9]}}, instance_decoder: {{atrous_rates: [3, 6, 9]}}}}
    checkpoint: package://zoo/assets/minicity_mobilenet_v3_small_os16.tar.gz
"""


class ToyDataset(FolderDataset):
    """Images with their panoptic maps, one `<split>/<image>.npz` each."""

    info = DatasetInfo(
        name="toy",
        num_classes=19,
        class_names=tuple(f"kind {i}" for i in range(19)),
        thing_class_ids=tuple(range(11, 19)),
        label_divisor=1000,
        ignore_label=255,
        original_ids=tuple(range(1, 20)),
    )

    @classmethod
    def find_root(cls, path: Path, split: str) -> Path:
        return path

    def list_images(self) -> tuple[tuple[str, ...], dict[str, str]]:
        return tuple(sorted(path.stem for path in (self.root / self.split).glob("*.npz"))), {}

    def files(self) -> list[str]:
        return [f"{self.split}/{image_id}.npz" for image_id in self.image_ids]

    def load(self, index: int, *, picture: bool = True) -> Sample:
        with np.load(self.root / self.files()[index]) as arrays:
            image, panoptic = arrays["image"], arrays["panoptic"]
        return Sample(self.image_ids[index], image, panoptic, panoptic // 1000)


@pytest.fixture
def toys(minicity: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path | str]:
    """The options that name the registry file and the data; the format is known while a test runs."""
    monkeypatch.setitem(FORMATS, "toy", f"{__name__}:ToyDataset")
    (tmp_path / "toys" / "all").mkdir(parents=True)
    source = CityscapesDataset(minicity, "val", cache=tmp_path / "cache")
    for index in range(IMAGES):
        sample = source.load(index)
        path = tmp_path / "toys" / "all" / f"toy{index}.npz"
        np.savez(path, image=sample.image, panoptic=sample.panoptic)
    (tmp_path / "mine.yaml").write_text(REGISTRY, encoding="utf-8")
    return ["--registry", tmp_path / "mine.yaml", "--data", tmp_path / "toys"]


def test_every_command_takes_a_format_that_one_file_defines(
    zoo_call: Callable[..., Any], one_line: Callable[..., str], toys: list[Path | str], tmp_path: Path
) -> None:
    check = zoo_call("data", "check", "toys", *toys)
    assert check.returncode == 0, check.stderr
    assert "complete; 3 images decoded with their ground truth" in check.stdout
    assert "no official scores: there are no official scripts for the format toy" in check.stdout

    done = zoo_call("reproduce", "mine/mobilenet_os16", *toys, "--out", tmp_path / "runs", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["images"] == record["images_in_dataset"] == IMAGES
    assert record["metrics"]["official"] == {}
    assert all(0 < record["metrics"]["internal"][metric] < 100 for metric in ("pq", "miou", "ap"))
    assert record["official_scripts"] == {"skipped": "there are no official scripts for the format toy"}
    assert set(record["per_class"]["internal"]["pq"]) == set(ToyDataset.info.class_names)

    run = tmp_path / "runs" / "mine__mobilenet_os16"
    message = one_line(zoo_call("explain", run), 3)
    assert message.endswith(
        "nothing to compare the internal numbers with: there are no official scripts for the format toy"
    )

    page = tmp_path / "page.html"
    assert zoo_call("report", "html", run, "--out", page).returncode == 0
    assert "kind 13" in page.read_text(encoding="utf-8")


def test_a_copy_that_is_not_complete_is_told(
    zoo_call: Callable[..., Any], toys: list[Path | str], tmp_path: Path
) -> None:
    (tmp_path / "toys/all/toy1.npz").unlink()
    check = zoo_call("data", "check", "toys", *toys)
    assert check.returncode == 3
    assert "has 2 images, expected 3" in check.stdout

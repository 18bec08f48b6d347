"""A kMaX-DeepLab with formula weights from end to end, against what the reference implementation predicted.

The network of `coco/kmax_resnet50` at 129 x 129 sees the first four scenes of minicoco. A close call is a
pixel whose probability is within 1e-4 of its threshold, or whose two best slots are within 1e-3: rounding
settles it.
"""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from zoo.errors import UsageError
from zoo.fetch.fetcher import Fetcher
from zoo.files.atomic import write_atomically
from zoo.model.build import build_network
from zoo.model.checkpoint import variables
from zoo.network.exporting import ExportOptions, export_entry
from zoo.network.predicting import PredictOptions, predict_files
from zoo.prediction.overlay import encode_picture
from zoo.registry import load_registry
from zoo.repro.coco.classes import COCO
from zoo.repro.datasets.image_files import decode_image, read_bytes
from zoo.repro.datasets.opening import open_dataset
from zoo.repro.run.reproduce import reproduce

TESTS = Path(__file__).parents[2]
EXPECTED = dict(np.load(TESTS / "data" / "run" / "kmax_scenes.npz"))
SCENES = sorted({name.partition("/")[0] for name in EXPECTED})
NAME = "formula/kmax_resnet50"
write_archive = runpy.run_path(str(TESTS / "model" / "golden_checkpoint.py"))["write_archive"]
REGISTRY = f"""
version: 1
entries:
  {NAME}:
    extends: [kmax_coco, kmax_resnet50]
    title: kMaX-DeepLab with formula weights
    dataset: minicoco
    checkpoint: %s
    evaluation:
      crop_size: [129, 129]
      min_resize_value: [129]
      max_resize_value: [129]
      thing_area_limit: 16
      stuff_area_limit: 32
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry file with the network, whose checkpoint is an archive of the published form."""
    folder = tmp_path_factory.mktemp("kmax")
    path = folder / "registry.yaml"
    path.write_text(REGISTRY % "file:///nowhere", encoding="utf-8")
    network = build_network(load_registry(path).resolve(NAME).network, (129, 129), random_values=False)
    shapes = {key: tuple(variable.shape) for key, variable in variables(network).items()}
    archive = write_archive(folder, "ckpt-1", shapes)
    path.write_text(REGISTRY % archive.as_uri(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(registry: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The record of the run over the scenes, and its folder."""
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("ZOO_LOCK", str(runs / "zoo.lock"))
        record = reproduce(NAME, registry=registry, out=runs, limit=len(SCENES))
    (folder,) = (path for path in runs.iterdir() if path.is_dir())
    return record, folder / "predictions"


def segment_ids(name: str) -> np.ndarray:
    """What the reference's panoptic map is in the files that the official script reads."""
    class_ids, numbers = np.divmod(EXPECTED[f"{name}/panoptic"].astype(np.int32), COCO.label_divisor)
    original = np.array(COCO.original_ids)[class_ids]
    return np.where(class_ids == COCO.ignore_label, 0, np.where(numbers, original * 1000 + numbers, original))


@pytest.mark.parametrize("name", SCENES)
def test_maps_equal_the_reference(run: tuple[dict[str, Any], Path], name: str) -> None:
    _, predictions = run
    colours = decode_image(read_bytes(predictions / "panoptic" / f"{name}.png"), name).astype(np.int32)
    differ = (colours @ [1, 256, 65536] != segment_ids(name)) & ~EXPECTED[f"{name}/close_call"]
    assert not differ.any(), f"{name}: {differ.sum()} pixels differ, the first at {np.argwhere(differ)[0]}"
    assert EXPECTED[f"{name}/close_call"].mean() < 5e-4
    found: dict[int, list[float]] = {}
    for entry in json.loads((predictions / "instance" / f"{name}.json").read_text(encoding="utf-8")):
        found.setdefault(entry["category_id"], []).append(entry["score"])
    expected: dict[int, list[float]] = {}
    for label, score in zip(*(EXPECTED[f"{name}/thing_{key}"] for key in ("labels", "scores")), strict=True):
        expected.setdefault(COCO.original_ids[label // COCO.label_divisor], []).append(float(score))
    assert found.keys() == expected.keys()
    for category, scores in expected.items():
        assert sorted(found[category]) == pytest.approx(sorted(scores), rel=1e-3)


def test_the_run_says_what_was_restored_and_how_masks_were_merged(run: tuple[dict[str, Any], Path]) -> None:
    record, _ = run
    assert record["images"] == len(SCENES)
    assert not record["checkpoint"]["receipt"]["missing"]
    options = record["post_processing"]
    assert (options["transformer_post_processing"], options["overlapping_threshold"]) == ("maskwise", 0.8)
    assert set(record["metrics"]) == {"official", "internal"}


def test_a_picture_is_predicted_as_the_run_predicts_it(
    registry: Path, run: tuple[dict[str, Any], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    monkeypatch.setenv("ZOO_LOCK", str(tmp_path / "zoo.lock"))
    declared = load_registry(registry)
    network = zoo.load(NAME, registry=declared, optimize=True)
    dataset = open_dataset(declared.dataset("minicoco"), None, Fetcher())
    image, name = dataset.load(0).image, dataset.image_ids[0]
    found = network.predict(image)
    np.testing.assert_array_equal(found.panoptic, EXPECTED[f"{name}/panoptic"])
    np.testing.assert_array_equal(found.semantic, EXPECTED[f"{name}/semantic"])
    assert found.instances.label.tolist() == EXPECTED[f"{name}/thing_labels"].tolist()
    assert (found.overlay() != image).any(axis=2).mean() > 0.5
    assert set(network.maps([image])[0]) == {"mask_logits", "class_logits"}
    with pytest.raises(UsageError, match="no mirrored images"):
        network.predict_panoptic(image, flip=True)


def test_what_the_family_lacks_is_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    path.write_text(REGISTRY % "file:///nowhere/model.tar.gz", encoding="utf-8")
    declared = load_registry(path)
    entry = declared.resolve(NAME)
    picture = tmp_path / "picture.png"
    write_atomically(picture, encode_picture(np.zeros((20, 30, 3), np.uint8), ".png"))
    for options in ({"flip": True}, {"scales": (0.5, 1.0)}):
        for call in (
            lambda: zoo.load(NAME, registry=declared, **options),  # noqa: B023
            lambda: reproduce(NAME, registry=declared, out=tmp_path, **options),  # noqa: B023
            lambda: predict_files(
                entry,
                declared,
                [str(picture)],
                tmp_path / "out",
                PredictOptions(**options),  # noqa: B023
            ),
        ):
            with pytest.raises(UsageError, match=f"^{NAME}: expected one scale and no mirrored images: the"):
                call()
    whole = ExportOptions(to="saved_model", with_post_processing=True)
    with pytest.raises(UsageError, match=f"^{NAME}: --with-post-processing: expected a network whose post-"):
        export_entry(entry, declared, tmp_path / "model", whole)

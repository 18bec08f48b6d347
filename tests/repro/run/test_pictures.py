from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.errors import EvaluationError
from zoo.registry.dataset_info import DatasetInfo
from zoo.repro.cityscapes.classes import CITYSCAPES
from zoo.repro.cityscapes.dataset import CityscapesDataset
from zoo.repro.coco.classes import COCO
from zoo.repro.datasets.colours import class_colours, shade
from zoo.repro.datasets.dataset import Sample
from zoo.repro.datasets.predictions import write_predictions
from zoo.repro.records.run_folder import RunFolder
from zoo.repro.records.statistics import image_quality
from zoo.repro.run import pictures as pictures_module
from zoo.repro.run.pictures import choose_images, compare_maps, read_panoptic, write_pictures
from zoo.repro.run.scores import InternalScores

ROAD, PERSON, CAR = 0, 11, 13
VOID = CITYSCAPES.void_label


def opened(path: Path) -> Image.Image:
    """A picture with its pixels read and its file closed."""
    with Image.open(path) as image:
        image.load()
        return image


def sample_of(panoptic: np.ndarray, crowd: tuple[int, ...] = ()) -> Sample:
    panoptic = panoptic.astype(np.int32)
    image = np.zeros((*panoptic.shape, 3), np.uint8)
    return Sample("image", image, panoptic, panoptic // 1000, np.array(crowd, np.int32))


def things(panoptic: np.ndarray) -> SimpleNamespace:
    labels = np.unique(panoptic[(panoptic < VOID) & (panoptic % 1000 > 0)])
    return SimpleNamespace(labels=labels, score=np.full(labels.size, 0.9))


def test_ranks_are_taken_by_quality_then_name() -> None:
    qualities = {"e": 50.0, "d": 10.0, "c": 90.0, "b": 90.0, "a": 10.0, "void": float("nan")}
    assert choose_images(qualities) == {"best": "c", "median": "e", "worst": "a"}
    assert choose_images({"a": 1.0, "b": 2.0}) == {"best": "b", "worst": "a"}
    assert choose_images({"a": 1.0}) == {"best": "a"}
    assert choose_images({"a": float("nan")}) == {}


def test_pixels_are_right_wrong_or_not_scored() -> None:
    car, other_car = CAR * 1000 + 1, CAR * 1000 + 2
    truth = np.array([[0, 0, 0, 0, car, car, car, car, other_car, VOID]])
    found = np.array([[0, 0, 0, PERSON * 1000 + 1, *[CAR * 1000 + 7] * 5, CAR * 1000 + 9]])
    wrong, match = compare_maps(sample_of(truth), found.astype(np.int32), CITYSCAPES)
    assert wrong.tolist() == [[0, 0, 0, 1, 0, 0, 0, 0, 2, -1]]
    assert match == {0: 0, CAR * 1000 + 7: car}


def test_an_iou_of_one_half_is_no_match_and_void_is_not_in_the_union() -> None:
    car = CAR * 1000 + 1
    truth = np.array([[car, car, 0, 0, VOID]])
    half = np.array([[car, 0, 0, 0, 0]], np.int32)
    assert compare_maps(sample_of(truth), half, CITYSCAPES)[0].tolist() == [[2, 1, 0, 0, -1]]
    over_void = np.array([[car, 0, 0, 0, car]], np.int32)
    more = np.array([[car, car, 0, 0, VOID]])
    more[0, 1] = VOID
    assert compare_maps(sample_of(more), over_void, CITYSCAPES)[0].tolist() == [[0, -1, 0, 0, -1]]


def test_a_crowd_region_is_right_where_its_class_is() -> None:
    crowd = PERSON * 1000
    truth = np.array([[crowd] * 6])
    found = np.array([[PERSON * 1000 + 1, PERSON * 1000 + 2, CAR * 1000 + 1, 0, 0, 0]], np.int32)
    assert compare_maps(sample_of(truth, (crowd,)), found, CITYSCAPES)[0].tolist() == [[0, 0, 1, 1, 1, 1]]


def test_a_written_prediction_is_read_back(tmp_path: Path) -> None:
    panoptic = np.array(
        [[0, 0, CAR * 1000 + 4, CAR * 1000 + 9], [VOID, 0, VOID, PERSON * 1000 + 1]], np.int32
    )
    write_predictions(
        tmp_path,
        "image",
        panoptic=panoptic,
        semantic=np.zeros(panoptic.shape, np.uint8),
        instances=things(panoptic),
        info=CITYSCAPES,
    )
    again = read_panoptic(tmp_path, "image", CITYSCAPES)
    assert again.tolist() == [[0, 0, CAR * 1000 + 1, CAR * 1000 + 2], [VOID, 0, VOID, PERSON * 1000 + 1]]
    (tmp_path / "panoptic" / "image.png").write_bytes(b"no picture")
    with pytest.raises(EvaluationError, match=r"image\.png: is not a prediction for cityscapes"):
        read_panoptic(tmp_path, "image", CITYSCAPES)


@pytest.fixture
def run(tiny: CityscapesDataset, tmp_path: Path, predict: Callable[..., None]) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.images.mkdir(parents=True)
    predict(tiny, folder.predictions, move=(3, 9))
    for index, image_id in enumerate(tiny.image_ids):
        sample = tiny.load(index)
        panoptic = read_panoptic(folder.predictions, image_id, tiny.info)
        semantic = np.minimum(panoptic // 1000, 18)
        scores = InternalScores(tiny.info)
        folder.write_statistics(image_id, scores.measure(sample, panoptic, semantic, things(panoptic)))
    return folder


def qualities_of(run: RunFolder, dataset: CityscapesDataset) -> dict[str, float]:
    return {image_id: image_quality(run.find_statistics(image_id) or {}) for image_id in dataset.image_ids}


def drawn(run: RunFolder, dataset: CityscapesDataset) -> list[dict[str, Any]]:
    def predicted_map(image_id: str) -> np.ndarray:
        return read_panoptic(run.predictions, image_id, dataset.info)

    return write_pictures(dataset, qualities_of(run, dataset), run, predicted_map)


def test_pictures_of_a_run(run: RunFolder, tiny: CityscapesDataset) -> None:
    (run.root / "pictures").mkdir()
    (run.root / "pictures" / "median_input.jpg").write_bytes(b"of an earlier run")
    qualities = qualities_of(run, tiny)
    found = drawn(run, tiny)
    assert [picture["rank"] for picture in found] == ["best", "worst"]
    assert found[0]["pq"] == max(qualities.values()) > found[1]["pq"] == min(qualities.values()) > 0
    written = {str(path.relative_to(run.root)) for path in (run.root / "pictures").iterdir()}
    assert written == {name for picture in found for name in picture["files"].values()}
    for picture in found:
        assert picture["pq"] == qualities[picture["image_id"]]
        assert 0 < picture["wrong_class"] < 50
        assert 0 <= picture["wrong_segment"] < 50
        assert picture["size"] == [256, 512]
        shown_as = {kind: opened(run.root / name) for kind, name in picture["files"].items()}
        assert {kind: (image.format, image.mode) for kind, image in shown_as.items()} == {
            "input": ("JPEG", "RGB"),
            "ground_truth": ("PNG", "P"),
            "prediction": ("PNG", "P"),
            "difference": ("PNG", "P"),
        }
        assert {image.size for image in shown_as.values()} == {(512, 256)}
        sample = tiny.load(tiny.image_ids.index(picture["image_id"]))
        shown = np.asarray(shown_as["ground_truth"].convert("RGB"))
        sky = sample.panoptic == 10 * 1000
        colours, counts = np.unique(shown[sky], axis=0, return_counts=True)
        # The outline of a thing may lie on its neighbour.
        assert colours[counts.argmax()].tolist() == [70, 130, 180]
        assert counts.max() > 0.95 * sky.sum()
        assert picture["classes"]["sky"] == "#4682b4"
        assert (shown[sample.panoptic == VOID] == 0).mean() > 0.9


def test_a_matched_prediction_has_the_shade_of_its_ground_truth(
    run: RunFolder, tiny: CityscapesDataset
) -> None:
    for picture in drawn(run, tiny):
        sample = tiny.load(tiny.image_ids.index(picture["image_id"]))
        predicted = read_panoptic(run.predictions, picture["image_id"], tiny.info)
        truth_shown, prediction_shown = (
            np.asarray(opened(run.root / picture["files"][kind]).convert("RGB"))
            for kind in ("ground_truth", "prediction")
        )
        _, match = compare_maps(sample, predicted, tiny.info)
        matched_things = {pred: gt for pred, gt in match.items() if gt % 1000}
        assert matched_things
        for pred, gt in matched_things.items():
            colours = []
            for shown, where in ((truth_shown, sample.panoptic == gt), (prediction_shown, predicted == pred)):
                values, counts = np.unique(shown[where], axis=0, return_counts=True)
                counts[(values == 255).all(axis=1)] = 0
                colours.append(values[counts.argmax()].tolist())
            assert colours[0] == colours[1]


def test_wide_images_are_scaled_down(
    run: RunFolder, tiny: CityscapesDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures_module, "_MAX_WIDTH_PX", 200)
    picture = drawn(run, tiny)[0]
    for name in picture["files"].values():
        assert opened(run.root / name).size == (200, 100)


def test_a_prediction_of_another_size_is_told(run: RunFolder, tiny: CityscapesDataset) -> None:
    for image_id in tiny.image_ids:
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8)).save(buffer, "PNG")
        (run.predictions / "panoptic" / f"{image_id}.png").write_bytes(buffer.getvalue())
    with pytest.raises(EvaluationError, match="has another size than the image"):
        drawn(run, tiny)


def test_the_runs_own_files_include_the_pictures(run: RunFolder, tiny: CityscapesDataset) -> None:
    drawn(run, tiny)
    run.clear()
    assert not (run.root / "pictures").exists()


def info_of(
    original_ids: tuple[int, ...], colours: tuple[str, ...] = (), ignore_label: int = 255
) -> DatasetInfo:
    return replace(
        CITYSCAPES,
        name="another",
        colours=colours,
        num_classes=len(original_ids),
        original_ids=original_ids,
        ignore_label=ignore_label,
    )


def test_colours_are_the_data_sets_own() -> None:
    cityscapes = class_colours(CITYSCAPES)
    assert cityscapes[[ROAD, PERSON, CAR]].tolist() == [[128, 64, 128], [220, 20, 60], [0, 0, 142]]
    every = class_colours(COCO)
    assert every.shape == (134, 3)
    assert every[[0, 1, 133]].tolist() == [[0, 0, 0], [220, 20, 60], [250, 141, 255]]
    assert len(np.unique(every, axis=0)) == 134
    # Void may be numbered among the classes; it stays black.
    coco = class_colours(info_of((0, 1, 3, 200), ("ffffff", "dc143c", "00008e", "fa8dff"), ignore_label=0))
    assert coco.tolist() == [[0, 0, 0], [220, 20, 60], [0, 0, 142], [250, 141, 255]]
    others = class_colours(info_of(tuple(range(40))))
    assert len(np.unique(others, axis=0)) == 40


def test_shades_tell_neighbours_apart() -> None:
    for colour in class_colours(CITYSCAPES):
        shades = [shade(colour, number).tolist() for number in range(1, 6)]
        assert shades[0] == colour.tolist()
        # Darker shades of a dark colour come close to one another; lighter ones never do.
        assert all(a != b for a, b in pairwise(shades))
        assert shade(colour, 6).tolist() == shades[0]

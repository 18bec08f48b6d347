from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from zoo.metrics.mask_ap import MaskAP
from zoo.metrics.mean_iou import MeanIoU
from zoo.metrics.overlap import label_overlaps
from zoo.metrics.panoptic_quality import PanopticQuality
from zoo.model.postprocess.instances import Instances
from zoo.repro.cityscapes.classes import CITYSCAPES
from zoo.repro.coco.dataset import CocoDataset
from zoo.repro.datasets.dataset import Sample
from zoo.repro.datasets.opening import open_files
from zoo.repro.records.run_folder import RunFolder
from zoo.repro.run.scores import InternalScores

CAR, PERSON, ROAD, SKY = 13, 11, 0, 10
Case = tuple[Sample, np.ndarray, np.ndarray, Instances]


def case_of(seed: int) -> Case:
    """An image of rectangles, and a prediction that is off by a few pixels, classes and instances."""
    random = np.random.default_rng(seed)
    truth = np.full((40, 60), ROAD * 1000, np.int32)
    truth[:12] = SKY * 1000
    prediction = truth.copy()
    for number in range(1, 6):
        class_id = CAR if number % 2 else PERSON
        top, left = random.integers(0, 28), random.integers(0, 44)
        height, width = random.integers(4, 12), random.integers(4, 16)
        truth[top : top + height, left : left + width] = class_id * 1000 + number
        moved = random.integers(0, 4)
        found = CAR if random.random() < 0.8 else PERSON
        prediction[top + moved : top + height + moved, left : left + width] = found * 1000 + number
    truth[30:34, :8] = CITYSCAPES.void_label
    crowd = np.unique(truth[truth // 1000 == CAR])[:1].astype(np.int32) if seed % 2 else np.zeros(0, np.int32)
    sample = Sample(
        f"image_{seed}", np.zeros((40, 60, 3), np.uint8), truth, (truth // 1000).astype(np.uint8), crowd
    )
    labels = np.unique(prediction)
    labels = labels[labels % 1000 > 0]
    scores = random.random(labels.size).astype(np.float32)
    instances = Instances(
        labels=labels.astype(np.int32),
        areas=np.array([(prediction == label).sum() for label in labels], np.int64),
        semantic_probability=np.ones(labels.size, np.float32),
        instance_score=scores,
        score=scores,
    )
    return sample, prediction, (prediction // 1000).astype(np.uint8), instances


CASES = [case_of(seed) for seed in range(8)]


@pytest.fixture
def scores() -> InternalScores:
    return InternalScores(CITYSCAPES)


def test_measure_and_add_equal_updating_the_metrics(scores: InternalScores) -> None:
    pq = PanopticQuality(19, 255, 1000)
    miou = MeanIoU(19, 255)
    ap = MaskAP(num_classes=19, ignore_label=255, label_divisor=1000, thing_class_ids=range(11, 19))
    for sample, panoptic, semantic, instances in CASES:
        overlaps = label_overlaps(sample.panoptic, panoptic)
        pq.update(overlaps)
        miou.update(sample.semantic, semantic)
        ap.update(overlaps, instances.labels, instances.score, crowd_labels=sample.crowd_labels)
        scores.add(scores.measure(sample, panoptic, semantic, instances))
    result = scores.compute()
    quality, iou, precision = pq.compute(thing_class_ids=range(11, 19)), miou.compute(), ap.compute()
    assert result.metrics == {
        "pq": quality.pq,
        "sq": quality.sq,
        "rq": quality.rq,
        "miou": iou.miou,
        "ap": precision.ap,
    }
    assert 0 < result.metrics["ap"] < result.metrics["pq"] < 100
    assert result.ap12["ap50"] == precision.means.ap50
    for name, expected in {
        "pq": quality.pq_per_class,
        "sq": quality.sq_per_class,
        "rq": quality.rq_per_class,
        "tp": quality.tp,
        "fp": quality.fp,
        "fn": quality.fn,
        "matched_iou": quality.iou,
        "iou": iou.iou_per_class,
    }.items():
        found = result.per_class[name]
        assert list(found) == list(CITYSCAPES.class_names)
        np.testing.assert_array_equal(
            [np.nan if value is None else value for value in found.values()], expected
        )
    json.dumps([result.per_class, result.ap12], allow_nan=False)


def test_measuring_adds_nothing(scores: InternalScores) -> None:
    scores.measure(*CASES[0])
    assert np.isnan(scores.compute().metrics["pq"])
    assert sum(value or 0 for value in scores.compute().per_class["fn"].values()) == 0


def test_numbers_do_not_depend_on_the_order_in_which_images_come(scores: InternalScores) -> None:
    parts = [scores.measure(*case) for case in CASES]
    for part in parts:
        part["ap/dt_score"][:] = 0.5
    backwards, elsewhere = InternalScores(CITYSCAPES), InternalScores(CITYSCAPES)
    for position, part in enumerate(parts):
        scores.add(part)
        backwards.add(parts[-1 - position], len(parts) - 1 - position)
        elsewhere.add(parts[-1 - position])
    assert backwards.compute() == scores.compute()
    # Detections of equal score are ranked in the order of images.
    assert elsewhere.compute().metrics["ap"] != scores.compute().metrics["ap"]
    assert elsewhere.compute().metrics["pq"] == scores.compute().metrics["pq"]


def test_a_resumed_sum_is_the_same_to_the_last_bit(scores: InternalScores, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create({"entry": "a/b"})
    for case in CASES:
        part = scores.measure(*case)
        folder.write_statistics(case[0].image_id, part)
        scores.add(part)
    resumed = InternalScores(CITYSCAPES)
    for case in CASES:
        arrays = folder.find_statistics(case[0].image_id)
        assert arrays is not None
        resumed.add(arrays)
    assert resumed.compute() == scores.compute()


def test_the_numbers_so_far_are_those_of_the_images_added(scores: InternalScores) -> None:
    assert all(np.isnan(value) for value in scores.so_far().values())
    for case in CASES:
        scores.add(scores.measure(*case))
        result = scores.compute()
        assert scores.so_far() == {name: result.metrics[name] for name in ("pq", "miou")}


def test_an_image_without_anything_to_score_gives_no_number(scores: InternalScores) -> None:
    void = np.full((4, 4), CITYSCAPES.void_label, np.int32)
    sample = Sample(
        "void", np.zeros((4, 4, 3), np.uint8), void, np.full((4, 4), 255, np.uint8), np.zeros(0, np.int32)
    )
    empty = np.zeros(0, np.int32)
    floats = np.zeros(0, np.float32)
    nothing = Instances(empty, np.zeros(0, np.int64), floats, floats, floats)
    scores.add(scores.measure(sample, void, np.zeros((4, 4), np.uint8), nothing))
    result = scores.compute()
    assert np.isnan(result.metrics["pq"])
    assert np.isnan(result.metrics["miou"])
    assert set(result.per_class["pq"].values()) == {None}
    assert set(result.per_class["tp"].values()) == {0}


def test_classes_of_a_panoptic_map_count_as_a_semantic_map_does(minicoco: Path, tmp_path: Path) -> None:
    dataset = open_files(CocoDataset, minicoco, "val2017", cache=tmp_path / "cache")
    scores = InternalScores(dataset.info)
    for index in range(4):
        sample = dataset.load(index, picture=False)
        # Shifted, so that nothing fits; part of it void.
        panoptic = np.roll(sample.panoptic, (5, 9), axis=(0, 1))
        panoptic[:20] = dataset.info.void_label
        semantic = (panoptic // dataset.info.label_divisor).astype(np.uint8)
        derived, given = (scores.measure(sample, panoptic, each, None) for each in (None, semantic))
        assert list(derived) == list(given)
        for name, array in given.items():
            np.testing.assert_array_equal(derived[name], array, err_msg=name)
        assert given["official_miou/confusion"].sum() > 0

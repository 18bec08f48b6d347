"""Mask AP against COCOeval on run-length masks, and its state as a list of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import DataError
from zoo.metrics.mask_ap import MaskAP
from zoo.metrics.overlap import label_overlaps

NUM_CLASSES, IGNORE_LABEL, LABEL_DIVISOR, THING_CLASS_IDS = 5, 255, 1000, (2, 3, 4)


class Image(NamedTuple):
    ground_truth: np.ndarray
    prediction: np.ndarray
    pred_labels: np.ndarray
    pred_scores: np.ndarray
    crowd_labels: np.ndarray


def random_image(seed: int) -> Image:
    """Rectangles of stuff, void, instances and crowd; a shifted, partly relabelled copy; scores with ties."""
    generator = np.random.default_rng(seed)
    ground_truth = np.zeros((190, 230), np.int32)
    for _ in range(generator.integers(0, 14)):
        label = generator.choice([1, *THING_CLASS_IDS, IGNORE_LABEL]) * LABEL_DIVISOR
        if label // LABEL_DIVISOR in THING_CLASS_IDS:
            label += generator.integers(0, 6)  # 0: crowd
        top, left = generator.integers(0, 150), generator.integers(0, 190)
        height, width = generator.integers(1, 190, 2)
        ground_truth[top : top + height, left : left + width] = label
    prediction = np.roll(ground_truth, generator.integers(0, 4, 2), axis=(0, 1))
    for label in np.unique(prediction):
        if generator.random() < 0.3:
            prediction[prediction == label] = generator.choice(THING_CLASS_IDS) * LABEL_DIVISOR + 9
    labels = generator.permutation(np.unique(prediction))
    scores = generator.choice(np.array([0.1, 0.35, 0.7], np.float32), labels.size)
    gt_labels = np.unique(ground_truth)
    is_crowd = np.isin(gt_labels // LABEL_DIVISOR, THING_CLASS_IDS) & (gt_labels % LABEL_DIVISOR == 0)
    return Image(ground_truth, prediction, labels, scores, gt_labels[is_crowd])


def crowded_image(offset: int) -> Image:
    """More than 100 detections of one class, all of one score."""
    grid = np.kron(np.arange(1, 145).reshape(12, 12), np.ones((6, 8), np.int64))
    ground_truth = (2000 + grid).astype(np.int32)
    prediction = np.roll(ground_truth, offset, axis=1)
    labels = np.unique(prediction)
    return Image(ground_truth, prediction, labels, np.full(labels.size, 0.5, np.float32), labels[:0])


def new_metric() -> MaskAP:
    return MaskAP(NUM_CLASSES, IGNORE_LABEL, LABEL_DIVISOR, THING_CLASS_IDS)


def measured(*images: Image) -> MaskAP:
    metric = new_metric()
    for image in images:
        metric.update(label_overlaps(image.ground_truth, image.prediction), *image[2:])
    return metric


def coco_image(image: Image) -> tuple[np.ndarray, list[int], list[tuple[np.ndarray, int, float]]]:
    """Returns an image as `cocoeval_means` takes it; things are in the order of their first pixels."""
    score_of = dict(zip(image.pred_labels.tolist(), image.pred_scores.tolist(), strict=True))
    detected = [
        (image.prediction == label, label // LABEL_DIVISOR, score_of[label])
        for label in dict.fromkeys(image.prediction.ravel().tolist())
    ]
    return image.ground_truth, image.crowd_labels.tolist(), detected


@settings(max_examples=60)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4))
def test_equals_cocoeval_on_masks(cocoeval_means: Callable[..., np.ndarray], seeds: list[int]) -> None:
    images = [random_image(seed) for seed in seeds]
    # Equal to the last bit, not merely close.
    expected = cocoeval_means(list(map(coco_image, images)), THING_CLASS_IDS)
    np.testing.assert_array_equal(astuple(measured(*images).compute().means), expected)


def test_equals_cocoeval_with_more_detections_than_are_kept(
    cocoeval_means: Callable[..., np.ndarray],
) -> None:
    images = [crowded_image(1), random_image(3), crowded_image(2)]
    means = measured(*images).compute().means
    expected = cocoeval_means(list(map(coco_image, images)), THING_CLASS_IDS)
    np.testing.assert_array_equal(astuple(means), expected)
    assert 0 < means.ar_10 < means.ar_100 < 100


def test_random_images_meet_every_size_and_crowd() -> None:
    images = [random_image(seed) for seed in range(20)]
    result = measured(*images).compute()
    assert np.isfinite(astuple(result.means)).all()
    assert sum(image.crowd_labels.size for image in images) > 5
    without_crowd = measured(*(image._replace(crowd_labels=np.empty(0)) for image in images)).compute()
    assert without_crowd.means != result.means
    assert np.isnan(result.ap_per_class[:2]).all()
    assert result.ap == result.means.ap == pytest.approx(np.nanmean(result.ap_per_class), rel=1e-12)


@settings(max_examples=20)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=5), st.data())
def test_shards_in_order_give_the_same_bits(seeds: list[int], data: st.DataObject) -> None:
    images = [random_image(seed) for seed in seeds]
    together = measured(*images)
    first_cut = data.draw(st.integers(0, len(images)))
    second_cut = data.draw(st.integers(first_cut, len(images)))
    cuts = (slice(first_cut), slice(first_cut, second_cut), slice(second_cut, None))
    left, middle, right = (measured(*images[cut]) for cut in cuts)
    tail = MaskAP.from_arrays(middle.to_arrays())
    tail.merge(right)
    head = measured(*images[cuts[0]])
    head.merge(tail)  # a + (b + c)
    left.merge(middle)
    left.merge(right)  # (a + b) + c
    assert left == head == together
    assert left.num_images == len(images)
    np.testing.assert_array_equal(astuple(left.compute().means), astuple(together.compute().means))


def test_goes_to_a_file_and_back(tmp_path: Path) -> None:
    metric = measured(random_image(1), random_image(2))
    np.savez(tmp_path / "record.npz", **metric.to_arrays())
    with np.load(tmp_path / "record.npz") as record:
        restored = MaskAP.from_arrays(record)
    assert restored == metric
    assert restored.thing_class_ids == THING_CLASS_IDS
    restored.merge(measured(random_image(3)))
    assert restored == measured(*map(random_image, (1, 2, 3)))
    assert metric != restored


def test_a_damaged_record_is_refused() -> None:
    arrays = measured(random_image(1)).to_arrays()
    with pytest.raises(DataError, match="expected an array 'dt_score'"):
        MaskAP.from_arrays({name: array for name, array in arrays.items() if name != "dt_score"})
    with pytest.raises(DataError, match="array 'gt_area': expected shape"):
        MaskAP.from_arrays({**arrays, "gt_area": arrays["gt_area"][1:]})
    with pytest.raises(DataError, match=r"array 'gt_offsets': expected shape \(1,\), found \(0,\)"):
        MaskAP.from_arrays({**arrays, "gt_offsets": arrays["gt_offsets"][:0]})


def test_no_detections_are_zeros_and_no_ground_truth_is_nan() -> None:
    things = np.full((4, 4), 2001, np.int32)
    stuff = np.zeros((4, 4), np.int32)
    metric = new_metric()
    assert astuple(metric.compute().means) == (0.0,) * 12
    metric.update(label_overlaps(things, stuff), [0], [0.5])
    assert astuple(metric.compute().means) == (0.0,) * 12
    metric = new_metric()
    metric.update(label_overlaps(stuff, things), [2001], [0.5])
    assert np.isnan(astuple(metric.compute().means)).all()


def test_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    measured(random_image(5), random_image(6)).compute()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_crowd_labels_are_things_of_instance_number_zero() -> None:
    labels = np.array([0, 1000, 2000, 2001, 4000, 255000], np.int32)
    assert new_metric().crowd_labels(labels).tolist() == [2000, 4000]


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0], [0.5], "expected a number for the thing segment 2001, found none or NaN"),
        ([0, 2001], [0.5, np.nan], "expected a number for the thing segment 2001, found none or NaN"),
        ([0, 2001, 3001], [0.5] * 3, "label 3001 has a score but no pixel in the predicted map"),
        ([2001, 2001], [0.5] * 2, "expected each label once"),
        ([2001], [0.5] * 2, r"found shapes \(1,\) and \(2,\)"),
    ],
)
def test_refuses_scores_that_do_not_fit(labels: list[int], scores: list[float], message: str) -> None:
    label_map = np.array([[0, 2001]], np.int32)
    metric = new_metric()
    with pytest.raises(ValueError, match=message):
        metric.update(label_overlaps(label_map, label_map), labels, scores)
    assert metric == new_metric()


def test_refuses_unknown_classes() -> None:
    unknown, known = np.full((2, 2), 9001, np.int32), np.full((2, 2), 2001, np.int32)
    with pytest.raises(DataError, match="ground-truth panoptic map, label 9001"):
        new_metric().update(label_overlaps(unknown, known), [2001], [0.5])
    with pytest.raises(ValueError, match=r"thing_class_ids: expected classes of 0\.\.4"):
        MaskAP(NUM_CLASSES, IGNORE_LABEL, LABEL_DIVISOR, [7])

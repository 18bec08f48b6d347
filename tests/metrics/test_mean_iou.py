"""Mean IoU against masks of each class, and its state as a sum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import DataError
from zoo.metrics.mean_iou import MeanIoU
from zoo.metrics.overlap import label_overlaps

NUM_CLASSES, IGNORE_LABEL = 5, 255


def random_maps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    ground_truth = np.repeat(generator.choice([0, 1, 2, 3, IGNORE_LABEL], (7, 4)), 3, axis=1)
    changed = generator.random(ground_truth.shape) < 0.3
    other = generator.choice([0, 1, 2, IGNORE_LABEL])
    prediction = np.where(changed | (ground_truth == IGNORE_LABEL), other, ground_truth)
    return ground_truth.astype(generator.choice([np.uint8, np.int32])), prediction.astype(np.int32)


def measured(*maps: tuple[np.ndarray, np.ndarray]) -> MeanIoU:
    metric = MeanIoU(NUM_CLASSES, IGNORE_LABEL)
    for ground_truth, prediction in maps:
        metric.update(ground_truth, prediction)
    return metric


@given(st.integers(0, 2**32 - 1))
def test_equals_masks_of_each_class(seed: int) -> None:
    ground_truth, prediction = random_maps(seed)
    result = measured((ground_truth, prediction)).compute()
    valid = ground_truth != IGNORE_LABEL
    expected = np.full(NUM_CLASSES, np.nan)
    for class_id in range(NUM_CLASSES):
        in_truth, in_prediction = valid & (ground_truth == class_id), valid & (prediction == class_id)
        if (in_truth | in_prediction).any():
            expected[class_id] = 100 * (in_truth & in_prediction).sum() / (in_truth | in_prediction).sum()
    np.testing.assert_allclose(result.iou_per_class, expected, rtol=1e-15)
    assert result.miou == pytest.approx(np.nanmean(expected), rel=1e-14)
    assert result.confusion.sum() == (valid & (prediction != IGNORE_LABEL)).sum()


@given(st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3))
def test_merge_is_associative_and_a_sum(seeds: list[int]) -> None:
    maps = [random_maps(seed) for seed in seeds]
    first, second, third = (measured(pair) for pair in maps)
    right = measured(maps[1])
    right.merge(third)
    left = measured(maps[0])
    left.merge(second)
    left.merge(third)
    first.merge(right)
    assert first == left == measured(*maps)
    assert MeanIoU.from_arrays(first.to_arrays()) == first


def test_ignored_class_may_be_one_of_the_classes() -> None:
    metric = MeanIoU(num_classes=3, ignore_label=0)
    metric.update(np.array([[0, 0, 1, 2]], np.uint8), np.array([[0, 1, 1, 1]], np.uint8))
    assert metric.confusion.tolist() == [[0, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert metric.compute().miou == 25


def test_nothing_measured_is_nan() -> None:
    for shape in ((0, 5), (5, 0)):
        empty = np.empty(shape, np.uint8)
        assert np.isnan(measured((empty, empty)).compute().miou)


def test_refuses_unknown_classes_and_keeps_its_state() -> None:
    metric = measured(random_maps(0))
    for ground_truth, prediction in (
        ([[0, 0], [7, 0]], [[0, 0], [1, 0]]),
        ([[0, 0], [1, 0]], [[0, 0], [-1, 0]]),
    ):
        with pytest.raises(DataError, match=r"row 1, column 0: expected classes of 0\.\.4"):
            metric.update(np.array(ground_truth, np.int32), np.array(prediction, np.int32))
    assert metric == measured(random_maps(0))


def test_refuses_other_maps() -> None:
    classes = np.zeros((2, 3), np.uint8)
    with pytest.raises(
        ValueError, match="pred_semantic: expected a 2-D integer semantic map, found 2-D float32"
    ):
        measured((classes, classes.astype(np.float32)))
    with pytest.raises(ValueError, match=r"gt_semantic is \(2, 3\), pred_semantic is \(3, 2\)"):
        measured((classes, classes.T))


@pytest.mark.parametrize("ignore_label", [0, 255])
def test_overlaps_give_the_confusion_of_the_pixels(ignore_label: int) -> None:
    random = np.random.default_rng(ignore_label)
    classes = np.array([0, 1, 2, 3, ignore_label], np.int32)
    truth, pred = (random.choice(classes, (20, 30)) * 1000 + random.integers(0, 3, (20, 30)) for _ in "ab")
    truth, pred = truth.astype(np.int32), pred.astype(np.int32)
    of_pixels, of_overlaps = MeanIoU(4, ignore_label), MeanIoU(4, ignore_label)
    of_pixels.update(truth // 1000, pred // 1000)
    overlaps = label_overlaps(truth, pred)
    of_overlaps.update_overlaps(overlaps, overlaps.gt_labels // 1000, 1000)
    expected = of_pixels.to_arrays()
    for name, found in of_overlaps.to_arrays().items():
        np.testing.assert_array_equal(found, expected.pop(name))
    assert not expected
    one, four = np.full((1, 1), 1000, np.int32), np.full((1, 1), 4000, np.int32)
    with pytest.raises(DataError, match=r"found ground truth 1 and prediction 4; convert"):
        of_overlaps.update_overlaps(label_overlaps(one, four), np.array([1]), 1000)

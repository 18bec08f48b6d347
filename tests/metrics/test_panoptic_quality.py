"""Panoptic quality against its definition, and its state as a sum."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import DataError
from zoo.metrics.mean_iou import MeanIoU
from zoo.metrics.overlap import label_overlaps
from zoo.metrics.panoptic_quality import PanopticQuality

NUM_CLASSES, IGNORE_LABEL, LABEL_DIVISOR = 4, 255, 1000
VOID = IGNORE_LABEL * LABEL_DIVISOR
# Class 3 is never drawn; 255001 is an ignored segment that is not void; 2000 is a crowd.
LABELS = [0, 1000, 2000, 2001, 2002, VOID, VOID + 1]


def random_maps(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of labels, and a prediction that agrees with most of them."""
    generator = np.random.default_rng(seed)
    blocks = generator.choice(LABELS, (4, 4))
    ground_truth = np.kron(blocks, np.ones((3, 5), np.int64)).astype(np.int32)
    guess = np.kron(generator.permuted(blocks, axis=0), np.ones((3, 5), np.int64))
    changed = generator.random(ground_truth.shape) < generator.choice([0.05, 0.4, 0.9])
    return ground_truth, np.where(changed, guess, ground_truth).astype(np.int32)


def measured(*maps: tuple[np.ndarray, np.ndarray]) -> PanopticQuality:
    metric = PanopticQuality(NUM_CLASSES, IGNORE_LABEL, LABEL_DIVISOR)
    for ground_truth, prediction in maps:
        metric.update(label_overlaps(ground_truth, prediction))
    return metric


def by_definition(ground_truth: np.ndarray, prediction: np.ndarray) -> dict[str, np.ndarray]:
    """Counts with one mask per segment."""
    parts = {name: np.zeros(NUM_CLASSES) for name in ("iou", "tp", "fp", "fn")}
    matched = set()
    void = ground_truth == VOID
    for gt_label in np.unique(ground_truth):
        gt_class = gt_label // LABEL_DIVISOR
        if gt_class == IGNORE_LABEL:
            continue
        gt_mask = ground_truth == gt_label
        for pred_label in np.unique(prediction[gt_mask]):
            pred_mask = prediction == pred_label
            iou = (gt_mask & pred_mask).sum() / (gt_mask | (pred_mask & ~void)).sum()
            if pred_label // LABEL_DIVISOR == gt_class and iou > 0.5:
                parts["iou"][gt_class] += iou
                parts["tp"][gt_class] += 1
                matched.add(pred_label)
                break
        else:
            parts["fn"][gt_class] += 1
    for pred_label in np.unique(prediction):
        pred_class = pred_label // LABEL_DIVISOR
        mostly_void = void[prediction == pred_label].mean() > 0.5
        if pred_class != IGNORE_LABEL and pred_label not in matched and not mostly_void:
            parts["fp"][pred_class] += 1
    return parts


@given(st.integers(0, 2**32 - 1))
def test_equals_the_definition(seed: int) -> None:
    maps = random_maps(seed)
    metric = measured(maps)
    for name, expected in by_definition(*maps).items():
        np.testing.assert_array_equal(getattr(metric, name), expected, err_msg=name)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=6), st.data())
def test_totals_do_not_depend_on_order_or_grouping(seeds: list[int], data: st.DataObject) -> None:
    images = [random_maps(seed) for seed in seeds]
    together = measured(*images)
    shuffled = data.draw(st.permutations(images))
    cut = data.draw(st.integers(0, len(images)))
    first, second = measured(*shuffled[:cut]), measured(*shuffled[cut:])
    second.merge(first)
    assert second == together
    assert second.compute(thing_class_ids=[2]).things == together.compute(thing_class_ids=[2]).things


def test_iou_sum_is_exact_where_float64_is_not() -> None:
    """Adding a third in float64 many times drifts; the total is the true sum rounded once."""
    ground_truth = np.zeros((1, 3), np.int32)
    prediction = np.array([[0, 0, 1000]], np.int32)
    metric = measured(*itertools.repeat((ground_truth, prediction), 1000))
    total = int(2 / 3 * 2**53) * 1000 / 2**53
    assert metric.iou[0] == total
    assert sum([2 / 3] * 1000) != total


def test_means_in_percent() -> None:
    ground_truth = np.array([[0, 0, 0, 0, 0, 2001, 2001, 1000]], np.int32)
    prediction = np.array([[0, 0, 0, 0, 2001, 2001, 2001, VOID]], np.int32)
    result = measured((ground_truth, prediction)).compute(thing_class_ids=[2, 3])
    np.testing.assert_allclose(result.sq_per_class, [80, 0, 200 / 3, np.nan])
    np.testing.assert_allclose(result.rq_per_class, [100, 0, 100, np.nan])
    np.testing.assert_allclose(result.pq_per_class, [80, 0, 200 / 3, np.nan])
    assert (result.pq, result.rq) == pytest.approx(((80 + 200 / 3) / 3, 200 / 3))
    assert result.things is not None
    assert result.stuff is not None
    assert (result.things.pq, result.things.num_classes) == (pytest.approx(200 / 3), 1)
    assert (result.stuff.pq, result.stuff.num_classes) == (pytest.approx(40), 2)
    assert [array.tolist() for array in (result.tp, result.fp, result.fn)] == [
        [1, 0, 1, 0],
        [0, 0, 0, 0],
        [0, 1, 0, 0],
    ]


def test_nothing_measured_is_nan() -> None:
    result = measured().compute(thing_class_ids=[2])
    assert np.isnan([result.pq, result.sq, result.rq, *result.pq_per_class]).all()
    assert result.things is not None
    assert result.things.num_classes == 0


def test_goes_to_a_file_and_back(tmp_path: Path) -> None:
    metric = measured(random_maps(1), random_maps(2))
    np.savez(tmp_path / "record.npz", **metric.to_arrays(), another=np.zeros(3))
    with np.load(tmp_path / "record.npz") as record:
        restored = PanopticQuality.from_arrays(record)
    assert restored == metric
    restored.update(label_overlaps(*random_maps(3)))
    assert restored != metric


def test_a_damaged_record_is_refused() -> None:
    arrays = measured(random_maps(1)).to_arrays()
    with pytest.raises(DataError, match="expected an array 'fn'"):
        PanopticQuality.from_arrays({name: array for name, array in arrays.items() if name != "fn"})
    with pytest.raises(DataError, match=r"'tp': expected shape \(4,\), found \(3,\)"):
        PanopticQuality.from_arrays({**arrays, "tp": arrays["tp"][:3]})
    with pytest.raises(DataError, match="'fp': expected 1-D int64, found 1-D float64"):
        PanopticQuality.from_arrays({**arrays, "fp": arrays["fp"].astype(float)})


def test_refuses_what_cannot_be_merged() -> None:
    metric = measured()
    with pytest.raises(ValueError, match="cannot merge MeanIoU into PanopticQuality"):
        metric.merge(MeanIoU(NUM_CLASSES, IGNORE_LABEL))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="different label_divisor: expected 1000, found 256"):
        metric.merge(PanopticQuality(NUM_CLASSES, IGNORE_LABEL, 256))


@pytest.mark.parametrize(("ground_truth", "prediction"), [(7001, 0), (0, 7001), (-1, 0)])
def test_refuses_unknown_classes(ground_truth: int, prediction: int) -> None:
    metric = measured()
    with pytest.raises(DataError, match=r"expected a class of 0\.\.3 or 255 \(ignore\), found class (7|-1);"):
        metric.update(
            label_overlaps(np.full((1, 1), ground_truth, np.int32), np.full((1, 1), prediction, np.int32))
        )
    assert metric == measured()

"""Boundary PQ and boundary IoU against a plain computation from the definition, mask by mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import DataError
from zoo.metrics.boundary import BoundaryQuality, boundary_distance_px, dilation_ratio
from zoo.metrics.panoptic_quality import PanopticQuality
from zoo.metrics.segments import ImageSegments, OfficialTruth

NUM_CLASSES, DIVISOR, IGNORE, THINGS = 4, 1000, 255, (2, 3)
VOID = IGNORE * DIVISOR


def new_metric(ratio: float, ignore: int = IGNORE) -> BoundaryQuality:
    return BoundaryQuality(NUM_CLASSES, ignore, DIVISOR, ratio)


# ---- the definition, step by step ----


def boundary_of(mask: np.ndarray, ratio: float) -> np.ndarray:
    """The mask without what is left of it after as many erosions by 3 x 3 as the distance has pixels."""
    height, width = mask.shape
    distance = max(1, round(float(ratio * np.sqrt(height**2 + width**2))))
    eroded = mask
    for _ in range(distance):
        padded = np.pad(eroded, 1)  # what is outside of the image is not in the mask
        shifted = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
        eroded = np.logical_and.reduce(shifted)
    return mask & ~eroded


def iou_of(truth: np.ndarray, found: np.ndarray, void: np.ndarray) -> float:
    found = found & ~void
    return (truth & found).sum() / (truth | found).sum()


def add_plain_pq(
    truth: OfficialTruth, panoptic: np.ndarray, ratio: float, sums: dict[str, np.ndarray]
) -> None:
    void = truth.segment_map < 0
    positions = [i for i in range(truth.class_ids.size) if (truth.segment_map == i).any()]
    labels = [label for label in np.unique(panoptic).tolist() if label != VOID]
    matched_truth, matched_labels = set(), set()
    for i in positions:
        for label in labels:
            class_id = int(truth.class_ids[i])
            if truth.is_crowd[i] or label // DIVISOR != class_id:
                continue
            mask, found = truth.segment_map == i, panoptic == label
            iou = min(
                iou_of(mask, found, void), iou_of(boundary_of(mask, ratio), boundary_of(found, ratio), void)
            )
            if iou > 0.5:
                sums["iou"][class_id] += iou
                sums["tp"][class_id] += 1
                matched_truth.add(i)
                matched_labels.add(label)
    last_crowd = {int(truth.class_ids[i]): i for i in positions if truth.is_crowd[i]}
    for i in positions:
        if i not in matched_truth and not truth.is_crowd[i]:
            sums["fn"][truth.class_ids[i]] += 1
    for label in labels:
        found = panoptic == label
        excused = void | (truth.segment_map == last_crowd.get(label // DIVISOR, -2))
        if label not in matched_labels and (found & excused).sum() / found.sum() <= 0.5:
            sums["fp"][label // DIVISOR] += 1


def add_plain_iou(
    truth: np.ndarray, semantic: np.ndarray, ratio: float, both: np.ndarray, either: np.ndarray
) -> None:
    void = truth == IGNORE
    for class_id in range(NUM_CLASSES):
        region, found = (boundary_of(map_ == class_id, ratio) for map_ in (truth, semantic))
        both[class_id] += (region & found).sum()
        either[class_id] += ((region | found) & ~void).sum()


# ---- cases ----


def random_case(seed: int) -> tuple[OfficialTruth, np.ndarray, np.ndarray]:
    """Boxes of segments, crowds and void, some thinner than the distance; a prediction with moved edges."""
    generator = np.random.default_rng(seed)
    height, width = generator.integers(1, 50, 2)
    segments = 8
    segment_map = np.full((height, width), generator.integers(-1, segments), np.int32)
    for _ in range(generator.integers(0, 9)):
        top, left = generator.integers(0, height), generator.integers(0, width)
        size = generator.integers(1, 40, 2)
        segment_map[top : top + size[0], left : left + size[1]] = generator.integers(-1, segments)
    class_ids = generator.integers(0, NUM_CLASSES, segments).astype(np.int32)
    truth = OfficialTruth(
        segment_map=segment_map,
        segment_ids=np.arange(1, segments + 1, dtype=np.int32) * 7,
        class_ids=class_ids,
        is_crowd=generator.random(segments) < 0.3,
    )
    guessed = np.where(
        generator.random(segments) < 0.8, class_ids, generator.integers(0, NUM_CLASSES, segments)
    )
    labels = np.append(guessed * DIVISOR + np.arange(segments), generator.choice([0, VOID, 2009]))
    panoptic = np.roll(labels[segment_map], generator.integers(-2, 3, 2), (0, 1)).astype(np.int32)
    panoptic[generator.random(panoptic.shape) < generator.choice([0, 0.01])] = VOID
    semantic = np.where(generator.random(panoptic.shape) < 0.002, 1, panoptic // DIVISOR)
    return truth, panoptic, semantic.astype(np.uint8)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3), st.sampled_from([0.001, 0.02, 0.06, 0.2]))
def test_equals_the_definition(seeds: list[int], ratio: float) -> None:
    metric = new_metric(ratio)
    sums = {name: np.zeros(NUM_CLASSES) for name in ("iou", "tp", "fp", "fn")}
    both, either = np.zeros((2, NUM_CLASSES), np.int64)
    for seed in seeds:
        truth, panoptic, semantic = random_case(seed)
        metric.update(truth, panoptic, semantic)
        add_plain_pq(truth, panoptic, ratio, sums)
        add_plain_iou(truth.semantic(IGNORE), semantic, ratio, both, either)
    result = metric.compute(thing_class_ids=THINGS)
    for name in ("tp", "fp", "fn"):
        assert getattr(result.quality, name).tolist() == sums[name].tolist(), name
    np.testing.assert_allclose(result.quality.iou, sums["iou"], rtol=0, atol=1e-14)
    with np.errstate(invalid="ignore"):
        expected = 100 * (both / either)
    np.testing.assert_array_equal(result.iou_per_class, expected)
    if (either > 0).any():
        assert result.miou == expected[either > 0].mean()


def test_the_cases_match_and_miss() -> None:
    totals, masks_alone = new_metric(0.02), 0
    for seed in range(60):
        truth, panoptic, semantic = random_case(seed)
        totals.update(truth, panoptic, semantic)
        wide = new_metric(0.99)  # every segment is all boundary: its IoU is that of the masks
        wide.update(truth, panoptic, semantic)
        masks_alone += int(wide.tp.sum())
    assert (totals.tp > 0).all()
    assert (totals.fp > 0).all()
    assert (totals.fn > 0).all()
    assert totals.tp.sum() < masks_alone


def test_a_large_distance_gives_the_quality_of_the_masks() -> None:
    from zoo.metrics.overlap import label_overlaps

    masks, boundaries = PanopticQuality(NUM_CLASSES, IGNORE, DIVISOR), new_metric(0.99)
    for seed in range(30):
        _, other, _ = random_case(seed)
        rolled = np.roll(other, 1, 0)
        truth = OfficialTruth.of_panoptic(rolled, label_divisor=DIVISOR, ignore_label=IGNORE)
        masks.update(label_overlaps(rolled, other))
        boundaries.update(truth, other, other // DIVISOR)
    assert boundaries.tp.sum() > 0
    for name in ("iou", "tp", "fp", "fn"):
        np.testing.assert_array_equal(getattr(boundaries, name), getattr(masks, name))


def test_the_distance_is_a_share_of_the_diagonal() -> None:
    assert dilation_ratio("coco") == 0.02
    assert dilation_ratio("cityscapes") == 0.005
    assert boundary_distance_px((1024, 2048), dilation_ratio("cityscapes")) == 11
    assert boundary_distance_px((480, 640), dilation_ratio("coco")) == 16
    assert boundary_distance_px((3, 4), 0.02) == 1


@pytest.mark.parametrize("ignore", [0, NUM_CLASSES, NUM_CLASSES + 1])
def test_void_may_be_a_class_or_lie_just_beyond(ignore: int) -> None:
    """The class that stands for void changes no other class."""
    metric, usual = new_metric(0.1, ignore), new_metric(0.1)
    for seed in range(20):
        truth, panoptic, semantic = random_case(seed)
        keeps = truth.class_ids != 0
        truth_map = np.where(np.append(keeps, True)[truth.segment_map], truth.segment_map, -1)
        truth = OfficialTruth(truth_map, truth.segment_ids, truth.class_ids, truth.is_crowd)
        panoptic = np.where(panoptic < DIVISOR, VOID, panoptic).astype(np.int32)
        semantic = np.where(semantic == 0, 1, semantic)
        usual.update(truth, panoptic, semantic)
        panoptic = np.where(panoptic == VOID, ignore * DIVISOR, panoptic).astype(np.int32)
        metric.update(truth, panoptic, np.where(semantic == IGNORE, ignore, semantic))
    assert usual.tp.sum() > 0
    for name in ("iou", "tp", "fp", "fn"):
        np.testing.assert_array_equal(getattr(metric, name)[1:], getattr(usual, name)[1:])
    np.testing.assert_array_equal(metric.compute().iou_per_class[1:], usual.compute().iou_per_class[1:])
    assert np.isnan(metric.compute().iou_per_class[0])


def test_sums_over_shards_and_goes_to_a_file_and_back(tmp_path: Path) -> None:
    whole, first, second = new_metric(0.05), new_metric(0.05), new_metric(0.05)
    for seed in range(12):
        truth, panoptic, semantic = random_case(seed)
        # Counted before, or here.
        segments = ImageSegments.measure(truth, panoptic, label_divisor=DIVISOR, ignore_label=IGNORE)
        whole.update(truth, panoptic, semantic, segments=segments)
        (first if seed % 3 else second).update(truth, panoptic, semantic)
    np.savez(tmp_path / "state.npz", **second.to_arrays())
    with np.load(tmp_path / "state.npz") as stored:
        first.merge(BoundaryQuality.from_arrays(stored))
    assert first == whole
    assert first.dilation_ratio == 0.05
    with pytest.raises(ValueError, match="different dilation_ratio"):
        first.merge(new_metric(0.02))


def test_either_map_may_be_missing() -> None:
    both, panoptic_alone, semantic_alone = new_metric(0.05), new_metric(0.05), new_metric(0.05)
    for seed in range(12):
        truth, panoptic, semantic = random_case(seed)
        both.update(truth, panoptic, semantic)
        panoptic_alone.update(truth, panoptic, None)
        semantic_alone.update(truth, None, semantic)
    assert panoptic_alone.compute().quality.pq == both.compute().quality.pq
    assert np.isnan(panoptic_alone.compute().miou)
    assert semantic_alone.compute().miou == both.compute().miou
    assert np.isnan(semantic_alone.compute().quality.pq)
    panoptic_alone.merge(semantic_alone)
    assert panoptic_alone == both


def test_refuses_what_does_not_fit() -> None:
    truth = OfficialTruth.of_panoptic(np.zeros((4, 4), np.int32), label_divisor=DIVISOR, ignore_label=IGNORE)
    zeros = np.zeros((4, 4), np.int32)
    with pytest.raises(DataError, match="predicted panoptic map, label 9001"):
        new_metric(0.02).update(truth, zeros + 9001, zeros)
    with pytest.raises(ValueError, match="different shapes"):
        new_metric(0.02).update(truth, zeros[:3], zeros)
    with pytest.raises(ValueError, match="different shapes"):
        new_metric(0.02).update(truth, zeros, zeros[:3])
    with pytest.raises(ValueError, match="dilation_ratio must be between 0 and 1"):
        new_metric(1.5)

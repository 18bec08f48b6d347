"""The metrics against what the reference implementation computed for the same maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zoo.metrics.mask_ap import MaskAP
from zoo.metrics.mean_iou import MeanIoU
from zoo.metrics.overlap import label_overlaps
from zoo.metrics.panoptic_quality import PanopticQuality

DATA = Path(__file__).parents[1] / "data" / "metrics"
CASES = sorted(DATA.glob("case*.npz"))
NUM_CLASSES, IGNORE_LABEL, LABEL_DIVISOR = 19, 255, 1000
THING_CLASS_IDS = range(11, 19)


@pytest.fixture(name="cases")
def _cases() -> list[dict[str, np.ndarray]]:
    assert len(CASES) == 6
    return [dict(np.load(path)) for path in CASES]


@pytest.fixture(name="totals")
def _totals() -> dict[str, np.ndarray]:
    return dict(np.load(DATA / "totals.npz"))


def new_panoptic_quality() -> PanopticQuality:
    return PanopticQuality(NUM_CLASSES, IGNORE_LABEL, LABEL_DIVISOR)


def combined_scores(case: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean probability of its class times mean instance score, per predicted segment that is not void.

    `class_probability_x4096` is the semantic probability of each pixel's panoptic class.
    """
    panoptic = case["panoptic"]
    class_probability = case["class_probability_x4096"].astype(np.float32) / np.float32(4096)
    labels = [label for label in np.unique(panoptic) if label // LABEL_DIVISOR != IGNORE_LABEL]
    scores = [
        class_probability[panoptic == label].mean() * case["instance_score_map"][panoptic == label].mean()
        for label in labels
    ]
    return np.array(labels), np.array(scores, np.float32)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_panoptic_quality_parts_are_equal(path: Path) -> None:
    case = dict(np.load(path))
    metric = new_panoptic_quality()
    metric.update(label_overlaps(case["ground_truth"], case["panoptic"]))
    assert case["pq_iou"].dtype == np.float64
    for name in ("iou", "tp", "fp", "fn"):
        np.testing.assert_array_equal(getattr(metric, name), case[f"pq_{name}"], err_msg=name)


def test_panoptic_quality_totals(cases: list[dict[str, np.ndarray]], totals: dict[str, np.ndarray]) -> None:
    metric = new_panoptic_quality()
    for case in cases:
        metric.update(label_overlaps(case["ground_truth"], case["panoptic"]))
    result = metric.compute(THING_CLASS_IDS)
    # The reference sums and averages in float32.
    np.testing.assert_allclose(
        [result.pq / 100, result.sq / 100, result.rq / 100], totals["pq_sq_rq"], rtol=3e-7, atol=0
    )
    assert result.things is not None
    assert result.stuff is not None
    assert result.things.num_classes + result.stuff.num_classes == np.isfinite(result.pq_per_class).sum()
    assert result.pq == pytest.approx(np.nanmean(result.pq_per_class), rel=1e-12)
    assert result.things.rq == pytest.approx(np.nanmean(result.rq_per_class[11:]), rel=1e-12)
    assert result.stuff.sq == pytest.approx(np.nanmean(result.sq_per_class[:11]), rel=1e-12)


def test_mean_iou_totals(cases: list[dict[str, np.ndarray]], totals: dict[str, np.ndarray]) -> None:
    metric = MeanIoU(NUM_CLASSES, IGNORE_LABEL)
    for case in cases:
        metric.update(case["ground_truth"] // LABEL_DIVISOR, case["semantic"])
    result = metric.compute()
    np.testing.assert_array_equal(result.confusion, totals["confusion"])
    assert result.miou / 100 == pytest.approx(float(totals["miou"]), abs=1e-6, rel=0)


def test_mask_ap_totals(cases: list[dict[str, np.ndarray]], totals: dict[str, np.ndarray]) -> None:
    metric = MaskAP(NUM_CLASSES, IGNORE_LABEL, LABEL_DIVISOR, THING_CLASS_IDS)
    for case in cases:
        crowd = np.unique(case["ground_truth"][case["is_crowd"]])
        metric.update(label_overlaps(case["ground_truth"], case["panoptic"]), *combined_scores(case), crowd)
    means = metric.compute().means
    found = [
        means.ap, means.ap50, means.ap75, means.ap_small, means.ap_medium, means.ap_large,
        means.ar_1, means.ar_10, means.ar_100, means.ar_small, means.ar_medium, means.ar_large,
    ]  # fmt: skip
    expected = np.where(totals["ap12"] < 0, np.nan, totals["ap12"].astype(np.float64))
    np.testing.assert_allclose(np.array(found) / 100, expected, rtol=0, atol=1e-6)

"""Intervals: of which size they are, and how often they hold on real per-image statistics."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from zoo.metrics.ap_resampling import MatchedDetections
from zoo.metrics.bootstrap import ClassRatios, Statistic, interval, iou_row, quality_row, student_t_quantile
from zoo.metrics.mask_ap import MaskAP
from zoo.metrics.mean_iou import MeanIoU
from zoo.metrics.panoptic_quality import PanopticQuality
from zoo.metrics.pq_rules import OFFICIAL, count_image, sum_exactly
from zoo.metrics.segments import ImageSegments
from zoo.repro.records.statistics import part_of

Arrays = dict[str, np.ndarray]


def mean_of(values: np.ndarray) -> Statistic:
    """Returns the mean over images as a metric of one class."""
    return ClassRatios(values[:, None] / 100, np.ones((values.size, 1)))


NORMAL = np.random.default_rng(3).normal(50, 4, 400)


# ---- metrics of weighted images ----


def test_ratios_of_repeated_images_are_those_of_the_metrics(minicity_statistics: list[Arrays]) -> None:
    counts = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), size=10)
    counts[0] = 1
    pq = [PanopticQuality.from_arrays(part_of(arrays, "pq")) for arrays in minicity_statistics]
    miou = [MeanIoU.from_arrays(part_of(arrays, "miou")) for arrays in minicity_statistics]
    expected_pq, expected_miou = [], []
    for row in counts:
        quality, iou = PanopticQuality(19, 255, 1000), MeanIoU(19, 255)
        for position in np.repeat(np.arange(30), row):
            quality.merge(pq[position])
            iou.merge(miou[position])
        expected_pq.append(quality.compute().pq)
        expected_miou.append(iou.compute().miou)
    found = ClassRatios.of(quality_row(image) for image in pq)(counts)
    np.testing.assert_allclose(found, expected_pq, rtol=0, atol=1e-9)
    found = ClassRatios.of(iou_row(image.confusion) for image in miou)(counts)
    np.testing.assert_allclose(found, expected_miou, rtol=0, atol=1e-9)


def test_a_class_that_is_left_out_of_mean_iou() -> None:
    confusion = np.array([[3, 1], [2, 4]])
    for left_out, expected in (
        (None, (3 / 6 + 4 / 7) / 2),
        (0, 4 / 7),
        (1, 3 / 6),
        (255, (3 / 6 + 4 / 7) / 2),
    ):
        found = ClassRatios.of([iou_row(confusion, left_out)])(np.ones((1, 1), int))
        assert found[0] == pytest.approx(100 * expected)
    assert confusion.tolist() == [[3, 1], [2, 4]]


def test_no_class_at_all_is_nan() -> None:
    ratios = ClassRatios(np.array([[0.0], [1.0]]), np.array([[0.0], [2.0]]))
    found = ratios(np.array([[3, 0], [0, 2], [1, 1]]))
    assert np.isnan(found[0])
    assert found[1:].tolist() == [50.0, 50.0]


# ---- the interval's size ----


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [(4, 2.776445), (9, 2.262157), (14, 2.144787), (29, 2.045230), (499, 1.964729), (10**6, 1.959966)],
)
def test_quantiles_of_student_t(degrees: int, expected: float) -> None:
    assert student_t_quantile(0.975, degrees) == pytest.approx(expected, abs=1.5e-3 if degrees < 9 else 1e-4)


def test_of_a_mean_it_is_the_textbook_one() -> None:
    low, high = interval(mean_of(NORMAL), 400, resamples=4000)
    half = student_t_quantile(0.975, 399) * NORMAL.std(ddof=1) / 20
    assert (low + high) / 2 == pytest.approx(NORMAL.mean(), abs=0.02)
    assert (high - low) / 2 == pytest.approx(half, rel=0.04)


def test_the_known_part_of_a_population_makes_it_smaller() -> None:
    low, high = interval(mean_of(NORMAL), 400)
    for population in (500, 800, 40000):
        narrow_low, narrow_high = interval(mean_of(NORMAL), 400, population=population)
        assert (narrow_high - narrow_low) / (high - low) == pytest.approx(math.sqrt(1 - 400 / population))
    value = float(mean_of(NORMAL)(np.ones((1, 400), int))[0])
    assert interval(mean_of(NORMAL), 400, population=400) == (value, value)


def test_a_seed_gives_one_interval_and_another_seed_another() -> None:
    first = interval(mean_of(NORMAL), 400, seed=1)
    assert interval(mean_of(NORMAL), 400, seed=1) == first
    second = interval(mean_of(NORMAL), 400, seed=2)
    assert second != first
    assert second == pytest.approx(first, abs=0.1)


def test_a_lower_level_is_narrower() -> None:
    wide, narrow = (interval(mean_of(NORMAL), 400, level=level) for level in (0.95, 0.5))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_it_stays_within_0_and_100_percent() -> None:
    values = np.where(np.arange(8) % 4 == 0, 10.0, 100.0)
    assert interval(mean_of(values), 8)[1] == 100.0
    assert interval(mean_of(100 - values), 8)[0] == 0.0


def test_images_that_are_all_alike_leave_no_doubt() -> None:
    low, high = interval(mean_of(np.full(9, 70.0)), 9, population=100)
    assert low == pytest.approx(70)
    assert high == pytest.approx(70)


def test_an_undefined_metric_has_none() -> None:
    low, high = interval(ClassRatios(np.zeros((6, 2)), np.zeros((6, 2))), 6)
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize(("images", "population"), [(1, None), (0, 5), (6, 5)])
def test_impossible_numbers_of_images(images: int, population: int | None) -> None:
    with pytest.raises(ValueError, match=f"found {images}"):
        interval(mean_of(NORMAL[:images]), images, population=population)


# ---- how often it holds ----


def internal_pq(statistics: list[Arrays]) -> Statistic:
    return ClassRatios.of(quality_row(PanopticQuality.from_arrays(part_of(a, "pq"))) for a in statistics)


def official_pq(statistics: list[Arrays]) -> Statistic:
    def row(arrays: Arrays) -> tuple[np.ndarray, np.ndarray]:
        counts = count_image(
            ImageSegments.from_arrays(part_of(arrays, "segments")),
            OFFICIAL,
            num_classes=int(arrays["pq/num_classes"]),
            thing_class_ids=arrays["ap/thing_class_ids"].tolist(),
        )
        return quality_row(sum_exactly([counts]))

    return ClassRatios.of(map(row, statistics))


def internal_miou(statistics: list[Arrays]) -> Statistic:
    return ClassRatios.of(iou_row(arrays["miou/confusion"]) for arrays in statistics)


def official_miou(statistics: list[Arrays]) -> Statistic:
    void = int(statistics[0]["miou/ignore_label"])
    return ClassRatios.of(iou_row(arrays["official_miou/confusion"], void) for arrays in statistics)


def internal_ap(statistics: list[Arrays]) -> Statistic:
    total = MaskAP.from_arrays(part_of(statistics[0], "ap"))
    for arrays in statistics[1:]:
        total.merge(MaskAP.from_arrays(part_of(arrays, "ap")))
    return MatchedDetections.match(total).average_precision


METRICS = {
    ("internal", "pq"): internal_pq,
    ("official", "pq"): official_pq,
    ("internal", "miou"): internal_miou,
    ("official", "miou"): official_miou,
    ("internal", "ap"): internal_ap,
}


@pytest.mark.parametrize("name", METRICS, ids="-".join)
@pytest.mark.parametrize("dataset", ["minicity", "minicoco"])
def test_intervals_of_random_halves_cover_the_whole(
    request: pytest.FixtureRequest, dataset: str, name: tuple[str, str]
) -> None:
    statistics = request.getfixturevalue(f"{dataset}_statistics")
    record = json.loads((request.getfixturevalue(f"{dataset}_run") / "record.json").read_text())
    evaluator, metric = name
    of_images = METRICS[name](statistics)
    whole = float(of_images(np.ones((1, 30), np.int64))[0])
    assert whole == pytest.approx(record["metrics"][evaluator][metric], abs=1e-9)
    generator = np.random.default_rng(0)
    covered, widths = 0, []
    for _ in range(200):
        half = generator.choice(30, 15, replace=False)

        def of_half(counts: np.ndarray, half: np.ndarray = half) -> np.ndarray:
            in_all = np.zeros((len(counts), 30), np.int64)
            in_all[:, half] = counts
            return of_images(in_all)

        low, high = interval(of_half, 15, population=30, resamples=1000)
        covered += low <= whole <= high
        widths.append(high - low)
    assert 180 <= covered <= 198, f"{covered} of 200, mean width {np.mean(widths):.2f} points"

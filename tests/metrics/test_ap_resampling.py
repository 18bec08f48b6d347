"""Mask AP of weighted images against pycocotools on images that are really repeated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zoo.metrics.ap_resampling import MatchedDetections
from zoo.metrics.mask_ap import MaskAP
from zoo.metrics.overlap import label_overlaps

THINGS = (1, 2, 3)


def empty() -> MaskAP:
    return MaskAP(num_classes=4, ignore_label=255, label_divisor=100, thing_class_ids=THINGS)


def random_image(seed: int, *, detections: bool = True) -> MaskAP:
    """One image of blobs, some of them crowds, and a prediction that is partly right; no two scores equal."""
    generator = np.random.default_rng(seed)
    labels = generator.choice(THINGS, 10) * 100 + np.arange(1, 11)
    coarse = generator.integers(0, 14, (7, 9))
    names = np.append(labels, [0, 0, 25500, 25500])
    truth = np.kron(names[coarse], np.ones((4, 4), int)).astype(np.int32)
    found = np.where(generator.random(14) < 0.8, names, 0)
    found = np.where((found > 0) & (generator.random(14) < 0.2), 399, found)
    prediction = np.kron(found[coarse], np.ones((4, 4), int)).astype(np.int32)
    prediction = np.roll(prediction, generator.integers(-1, 2, 2), (0, 1))
    if not detections:
        prediction[:] = 0
    predicted = np.unique(prediction)
    metric = empty()
    metric.update(
        label_overlaps(truth, prediction),
        predicted,
        generator.permutation(predicted.size) / 50 + generator.random(),
        crowd_labels=generator.choice(labels, 2),
    )
    return metric


def joined(images: list[MaskAP]) -> MaskAP:
    total = empty()
    for image in images:
        total.merge(image)
    return total


IMAGES = [random_image(seed) for seed in range(12)]


def repeated(counts: np.ndarray, images: list[MaskAP]) -> float:
    return (
        joined([image for image, count in zip(images, counts, strict=True) for _ in range(count)])
        .compute()
        .ap
    )


def test_each_image_once_is_the_metric_itself() -> None:
    whole = joined(IMAGES)
    found = MatchedDetections.match(whole).average_precision(np.ones((1, len(IMAGES)), np.int64))
    assert 5 < whole.compute().ap < 95
    assert found[0] == pytest.approx(whole.compute().ap, abs=1e-9)


def test_repeated_and_absent_images() -> None:
    counts = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), size=25)
    counts[0] = 0
    counts[0, 3] = 7
    found = MatchedDetections.match(joined(IMAGES)).average_precision(counts)
    expected = [repeated(row, IMAGES) for row in counts]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    assert np.unique(found).size == len(found)


def test_the_real_run(minicity_statistics: list[dict[str, np.ndarray]]) -> None:
    from zoo.repro.records.statistics import part_of

    images = [MaskAP.from_arrays(part_of(arrays, "ap")) for arrays in minicity_statistics]
    total = MaskAP.from_arrays(images[0].to_arrays())
    for image in images[1:]:
        total.merge(image)
    matched = MatchedDetections.match(total)
    counts = np.random.default_rng(1).multinomial(30, np.full(30, 1 / 30), size=4)
    counts[0] = 1
    expected = [total.compute().ap]
    for row in counts[1:]:
        order = np.repeat(np.arange(30), row)
        resample = MaskAP.from_arrays(images[order[0]].to_arrays())
        for position in order[1:]:
            resample.merge(images[position])
        expected.append(resample.compute().ap)
    np.testing.assert_allclose(matched.average_precision(counts), expected, rtol=0, atol=1e-9)


def test_nothing_to_find_and_nothing_found() -> None:
    images: list[Any] = [IMAGES[0], random_image(50, detections=False), empty()]
    nothing = np.full((4, 4), 0, np.int32)
    images[2].update(label_overlaps(nothing, nothing), [], [])
    prediction = np.full((4, 4), 101, np.int32)
    images.append(empty())
    images[3].update(label_overlaps(nothing, prediction), [101], [0.5])
    counts = np.array([[1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 2], [1, 0, 0, 0], [0, 1, 0, 1]])
    found = MatchedDetections.match(joined(images)).average_precision(counts)
    expected = [repeated(row, images) for row in counts]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    assert found[1:3].tolist() == [0.0, 0.0]
    assert np.isnan(found[3])


def test_counts_of_another_number_of_images() -> None:
    with pytest.raises(ValueError, match=r"expected \[B, 12\], found \(1, 3\)"):
        MatchedDetections.match(joined(IMAGES)).average_precision(np.ones((1, 3), np.int64))

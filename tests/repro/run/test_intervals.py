"""Intervals of partial runs, from real per-image statistics."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from zoo.repro.cityscapes.classes import CITYSCAPES
from zoo.repro.run.intervals import MIN_IMAGES, intervals_for
from zoo.repro.run.scores import InternalScores

Arrays = dict[str, np.ndarray]
METRICS: dict[str, dict[str, float | None]] = {
    "internal": {"pq": 70.0, "miou": 80.0, "ap": 40.0},
    "official": {"pq": 70.0, "miou": 80.0, "ap": 46.5, "sq": 50.0},
}


def test_every_metric_of_both_evaluators(minicity_statistics: list[Arrays]) -> None:
    half = minicity_statistics[::2]
    found = intervals_for(half, METRICS, images_in_dataset=30)
    assert {evaluator: sorted(values) for evaluator, values in found.items()} == {
        "internal": ["ap", "miou", "pq"],
        "official": ["ap", "miou", "pq"],
    }
    scores = InternalScores(CITYSCAPES)
    for arrays in half:
        scores.add(arrays)
    for metric, value in scores.compute().metrics.items():
        if metric in found["internal"]:
            low, high = found["internal"][metric]
            assert low < value < high
            assert 1 < high - low < 20
    json.dumps(found, allow_nan=False)


def test_the_official_pq_has_an_interval_of_its_own(minicity_statistics: list[Arrays]) -> None:
    found = intervals_for(minicity_statistics[:20], METRICS, images_in_dataset=30)
    for metric in ("pq", "miou"):
        internal, official = found["internal"][metric], found["official"][metric]
        assert internal != official
        assert internal == pytest.approx(official, abs=0.5)


def test_the_official_ap_has_the_interval_of_the_internal_one(minicity_statistics: list[Arrays]) -> None:
    found = intervals_for(minicity_statistics[:20], METRICS, images_in_dataset=30)
    internal, official = found["internal"]["ap"], found["official"]["ap"]
    assert official == pytest.approx([bound + 6.5 for bound in internal])
    at_the_top = {"internal": {"ap": 40.0}, "official": {"ap": 99.5}}
    assert (
        intervals_for(minicity_statistics[:20], at_the_top, images_in_dataset=30)["official"]["ap"][1] == 100
    )


def test_more_images_leave_less_doubt(minicity_statistics: list[Arrays]) -> None:
    widths = []
    for images in (10, 20, 29):
        low, high = intervals_for(minicity_statistics[:images], METRICS, images_in_dataset=30)["internal"][
            "pq"
        ]
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[2]
    low, high = intervals_for(minicity_statistics[:20], METRICS, images_in_dataset=None)["internal"]["pq"]
    assert high - low > widths[1]


def test_few_images_have_none(minicity_statistics: list[Arrays]) -> None:
    assert intervals_for(minicity_statistics[: MIN_IMAGES - 1], METRICS, images_in_dataset=30) == {}
    assert intervals_for(minicity_statistics[:MIN_IMAGES], METRICS, images_in_dataset=30) != {}


def test_only_what_was_measured_has_one(minicity_statistics: list[Arrays]) -> None:
    some: dict[str, Any] = {"internal": {"pq": 70.0, "ap": None}, "official": {}}
    found = intervals_for(minicity_statistics[:9], some, images_in_dataset=30)
    assert {evaluator: list(values) for evaluator, values in found.items()} == {"internal": ["pq"]}


def test_statistics_without_segments_have_no_official_ones(minicity_statistics: list[Arrays]) -> None:
    bare = [
        {key: array for key, array in arrays.items() if not key.startswith(("segments/", "official_miou/"))}
        for arrays in minicity_statistics[:9]
    ]
    found = intervals_for(bare, METRICS, images_in_dataset=30)
    assert sorted(found["internal"]) == ["ap", "miou", "pq"]
    # Of the internal interval, moved.
    assert sorted(found["official"]) == ["ap"]

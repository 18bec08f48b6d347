"""Predictions scored by workers of a cluster: the record of a single process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.repro.cityscapes.dataset import CityscapesDataset
from zoo.repro.cluster.workers import Workers
from zoo.repro.datasets.opening import open_files
from zoo.repro.run.score import UnsoundPredictionsError, score

pytestmark = pytest.mark.xdist_group("ray")

OWN = ("timings", "efficiency", "workers", "predictions")


def test_the_record_and_the_findings_are_those_of_one_process(
    three_nodes: Any, minicity: Path, tmp_path: Path, predict: Callable[..., None]
) -> None:
    predictions = tmp_path / "mine"
    dataset = open_files(CityscapesDataset, minicity, "val", cache=tmp_path / "cache")
    assert isinstance(dataset, CityscapesDataset)
    predict(dataset, predictions, (1, 2))
    workers = Workers(three_nodes.address, actors=2, cpus_per_actor=1)

    def scored(name: str, **options: Any) -> dict[str, Any]:
        record = score(
            predictions, dataset="minicity", data=minicity, out=tmp_path / name, limit=9, **options
        )
        return {key: value for key, value in record.items() if key not in OWN}

    expected = scored("here")
    assert 0 < expected["metrics"]["official"]["pq"] < 99
    assert scored("cluster", workers=workers) == expected
    for number in (6, 3):
        (predictions / f"panoptic/{dataset.image_ids[number]}.png").write_bytes(b"broken")
    checks = []
    for options in ({}, {"workers": workers}):
        with pytest.raises(UnsoundPredictionsError) as caught:
            scored("unsound", **options)
        checks.append(str(caught.value.check))
    assert checks[0] == checks[1]
    left_out = scored("left out", keep_going=True)
    assert len(left_out["skipped"]) == 2
    assert scored("left out there", keep_going=True, workers=workers) == left_out

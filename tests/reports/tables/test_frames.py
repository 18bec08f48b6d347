"""`zoo.results`: the numbers of run records as a DataFrame."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import zoo
from zoo.errors import DataError

Call = Callable[..., Any]
NAME = "minicity/mobilenet_v3_small_os16"


def test_results_are_the_numbers_of_the_record(minicity_run: Path) -> None:
    record = json.loads((minicity_run / "record.json").read_text())
    frame = zoo.results(minicity_run)
    assert set(frame["entry"]) == {NAME}
    assert set(frame["path"]) == {str(minicity_run / "record.json")}
    assert set(frame["images"]) == {30}
    by_number = frame.set_index(["evaluator", "metric"])
    measured = {
        (evaluator, metric): value
        for evaluator, metrics in record["metrics"].items()
        for metric, value in metrics.items()
    }
    assert by_number["measured"].to_dict() == measured
    for claim in record["claims"]:
        row = by_number.loc[(claim["evaluator"], claim["metric"])]
        for name in ("published", "difference", "decimals", "tolerance", "verdict"):
            assert row[name] == claim[name]
        assert row["printed"] == f"{claim['published']:.{claim['decimals']}f}"
    others = by_number.drop([(claim["evaluator"], claim["metric"]) for claim in record["claims"]])
    assert len(others) == len(measured) - len(record["claims"])
    assert others[["published", "printed", "difference", "verdict"]].isna().all(axis=None)


def test_results_have_the_run_in_every_row(write_record: Call, tmp_path: Path) -> None:
    claim = {"metric": "pq", "evaluator": "official", "published": 36.8, "decimals": 2, "tolerance": 0.1}
    path = write_record(
        "coco/resnet50_os32",
        claims=[
            {**claim, "measured": None, "difference": None, "verdict": "not judged", "reason": "did not run"}
        ],
        metrics={"internal": {"pq": 35.5, "sq": 70.5, "rq": None}},
        intervals={"internal": {"pq": [35.0, 36.0], "sq": [70.0, 71.0]}},
        images=15,
        settings={"precision": "bfloat16", "scales": [0.5, 1.0], "flip": True},
        versions={"tensorflow": "2.20.0", "panoptic-zoo": "0.1.0"},
        device={"kind": "gpu"},
        dataset={"name": "coco", "fingerprint": "1"},
        timings={"started": "2026-11-25T02:11:09+02:00"},
    )
    bare = write_record(NAME, metrics={"official": {"pq": 1.0}})
    frame = zoo.results(path, str(bare))
    assert frame["entry"].tolist() == [NAME, *["coco/resnet50_os32"] * 3], "the oldest first"
    pq, *_ = (row for row in frame.itertuples() if row.metric == "pq" and row.evaluator == "internal")
    assert (pq.precision, pq.scales, pq.flip, pq.device) == ("bfloat16", "0.5,1", True, "gpu")
    assert pq.settings == "bfloat16 · scales 0.5, 1 · with mirrored images · 15 of 30 images"
    assert (pq.zoo_version, pq.tensorflow_version, pq.dataset) == ("0.1.0", "2.20.0", "coco")
    assert pq.started == pd.Timestamp("2026-11-25T00:11:09Z")
    assert (pq.low, pq.high, pq.images, pq.images_in_dataset) == (35.0, 36.0, 15, 30)
    unmeasured = frame[frame["verdict"] == "not judged"].iloc[0]
    assert math.isnan(unmeasured["measured"])
    assert (unmeasured["printed"], unmeasured["reason"]) == ("36.80", "did not run")
    assert frame[frame["metric"] == "sq"].iloc[0][["low", "high"]].tolist() == [70.0, 71.0]
    unknown = ["precision", "scales", "flip", "device", "started", "zoo_version", "dataset", "low"]
    assert frame.iloc[0][unknown].isna().all()
    assert zoo.results(tmp_path).equals(frame), "a folder above the runs"


def test_results_have_types_though_there_are_none(minicity_run: Path) -> None:
    empty, frame = zoo.results(), zoo.results(minicity_run)
    assert len(empty) == 0
    for found in (empty, frame):
        dtypes = {name: str(dtype) for name, dtype in found.dtypes.items()}
        assert {name for name, dtype in dtypes.items() if dtype == "category"} == {
            *("dataset", "metric", "evaluator", "verdict")
        }
        numbers = ("measured", "published", "difference", "tolerance", "low", "high")
        assert {dtypes[name] for name in numbers} == {"float64"}
        assert {dtypes[name] for name in ("decimals", "images", "images_in_dataset")} == {"Int64"}
        assert (dtypes["flip"], dtypes["started"]) == ("boolean", "datetime64[us, UTC]")
        assert {dtypes[name] for name in ("entry", "printed", "settings", "path")} == {"string"}


def test_results_of_nothing_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run record"):
        zoo.results(tmp_path)
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(DataError, match=r"record\.json"):
        zoo.results(tmp_path)


def test_report_measured_as_csv_is_the_frame(zoo_call: Call, minicity_run: Path) -> None:
    done = zoo_call("report", "measured", minicity_run, "--format", "csv")
    assert (done.returncode, done.stderr) == (0, "")
    frame = zoo.results(minicity_run)
    again = pd.read_csv(io.StringIO(done.stdout), converters={"measured": float})
    assert again.columns.tolist() == frame.columns.tolist()
    assert again["measured"].tolist() == frame["measured"].tolist()
    assert '"74.20"' in done.stdout

"""What `zoo predict` writes has, scored by `zoo score`, exactly the numbers of `zoo reproduce`."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Call = Callable[..., Any]

# Each beside the run that it is compared with.
CITY = pytest.param("minicity", "whole", "leftImg8bit", marks=pytest.mark.xdist_group("minicity"))
COCO = pytest.param("minicoco", "whole_coco", "val2017", marks=pytest.mark.xdist_group("minicoco"))


@pytest.mark.parametrize("form", ["coco", "cityscapes"])
@pytest.mark.parametrize(("dataset", "run", "pictures"), [CITY, COCO])
def test_predictions_have_the_numbers_of_a_run_to_the_last_bit(
    zoo_call: Call,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    dataset: str,
    run: str,
    pictures: str,
    form: str,
) -> None:
    whole, folder = request.getfixturevalue(run), request.getfixturevalue(dataset) / pictures
    out = tmp_path / "seen"
    entry = f"{dataset}/mobilenet_v3_small_os16"
    done = zoo_call("predict", entry, folder, "--out", out, "--write", f"{form},table")
    assert done.stderr.splitlines()[-1] == f"zoo: 30 of 30 written; in {out}", done.stderr
    done = zoo_call("score", out, "--dataset", dataset, "--out", tmp_path / "runs", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["images"], record["skipped"]) == (30, {})
    assert set(record["metrics"]) == {"official", "internal"}
    assert record["predictions"]["holds"] == ["instances", "panoptic", "semantic"]
    assert ("instances" in record["predictions"]["form"]) == (form == "cityscapes")
    for part in ("metrics", "per_class", "ap12", "pictures"):
        assert record[part] == whole.record[part], part
    for part in ("panoptic", "semantic"):
        written = {path.stem.removesuffix("_leftImg8bit"): path for path in (out / part).rglob("*.png")}
        expected = sorted((whole.folder / "predictions" / part).glob("*.png"))
        assert sorted(written) == [path.stem for path in expected]
        for path in expected:
            np.testing.assert_array_equal(
                np.asarray(Image.open(written[path.stem])), np.asarray(Image.open(path))
            )
    annotations = json.loads((out / "panoptic.json").read_text())["annotations"]
    with (out / "instances.csv").open() as file:
        areas = sorted(int(row["area_px"]) for row in csv.DictReader(file))
    segments = [segment for each in annotations for segment in each["segments_info"] if "score" in segment]
    assert areas == sorted(segment["area"] for segment in segments)

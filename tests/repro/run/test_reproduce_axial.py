"""The bundled Axial-DeepLab from end to end, against what the reference implementation measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

NAME = "minicity/axial_swidernet_os16"
PUBLISHED = json.loads(
    (Path(__file__).parents[2] / "data" / "minicity" / "published_axial.json").read_text(encoding="utf-8")
)
# Published values are rounded to six digits after the point; percentage points.
UNROUNDED_TOLERANCE = 1e-4


def test_every_claim_is_a_match(zoo_call: Callable[..., Any], tmp_path: Path) -> None:
    done = zoo_call("reproduce", NAME, "--out", tmp_path / "runs", "--json")

    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["images"] == record["images_in_dataset"] == PUBLISHED["images"]
    claims = {(claim["evaluator"], claim["metric"]): claim for claim in record["claims"]}
    assert len(claims) == len(PUBLISHED["claims"]) == 6
    for published in PUBLISHED["claims"]:
        claim = claims[published["evaluator"], published["metric"]]
        assert (claim["published"], claim["verdict"]) == (published["value"], "match")
    for evaluator in ("official", "internal"):
        for metric, value in PUBLISHED["unrounded"][evaluator].items():
            found = record["metrics"][evaluator][metric]
            assert found == pytest.approx(value, abs=UNROUNDED_TOLERANCE), (evaluator, metric)

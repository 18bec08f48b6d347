"""The bundled COCO entry from end to end: the installed program, against what was published."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.reports.explain.steps import AP_OF_COCO, explain
from zoo.repro.coco.classes import COCO

NAME = "minicoco/mobilenet_v3_small_os16"
PUBLISHED = json.loads(
    (Path(__file__).parents[2] / "data" / "minicoco" / "published.json").read_text(encoding="utf-8")
)
# Published values are rounded to six digits after the point; percentage points.
UNROUNDED_TOLERANCE = 1e-4

Run = Callable[..., "subprocess.CompletedProcess[str]"]


# Beside the run that all of these files compare with.
pytestmark = pytest.mark.xdist_group("minicoco")


@pytest.fixture
def runs(whole_coco: Any) -> Path:
    """The folder in which the run keeps its own."""
    folder: Path = whole_coco.folder.parent
    return folder


@pytest.fixture(scope="module")
def record(whole_coco: Any) -> dict[str, Any]:
    done = whole_coco.done
    assert all(line.startswith("zoo: ") for line in done.stderr.splitlines()), done.stderr
    found: dict[str, Any] = whole_coco.record
    return found


def test_every_claim_is_a_match(record: dict[str, Any]) -> None:
    claims = {(claim["evaluator"], claim["metric"]): claim for claim in record["claims"]}
    assert len(claims) == len(PUBLISHED["claims"]) == 5
    for published in PUBLISHED["claims"]:
        claim = claims[published["evaluator"], published["metric"]]
        assert (claim["published"], claim["decimals"]) == (published["value"], published["decimals"])
        assert claim["verdict"] == "match"
    assert record["images"] == record["images_in_dataset"] == PUBLISHED["images"]


def test_unrounded_numbers_equal_the_published_ones(record: dict[str, Any]) -> None:
    for evaluator in ("official", "internal"):
        for metric, value in PUBLISHED["unrounded"][evaluator].items():
            found = record["metrics"][evaluator][metric]
            assert found == pytest.approx(value, abs=UNROUNDED_TOLERANCE), (evaluator, metric)
    averages = list(record["ap12"].values())
    assert averages == pytest.approx(PUBLISHED["unrounded"]["internal_ap12"], abs=1e-3)


def test_counts_equal_the_published_ones(record: dict[str, Any]) -> None:
    per_class, published = record["per_class"]["internal"], PUBLISHED["unrounded"]["internal_per_class"]
    for name in ("tp", "fp", "fn"):
        assert list(per_class[name]) == list(COCO.class_names)
        assert list(per_class[name].values()) == published[name]
    assert list(per_class["matched_iou"].values()) == pytest.approx(published["iou"], abs=1e-4)


def test_the_semantic_score_says_what_it_is(record: dict[str, Any]) -> None:
    # Crowd regions are void in the internal number and keep their category in the official one.
    assert record["metrics"]["official"]["miou"] != record["metrics"]["internal"]["miou"]
    assert 80 < record["metrics"]["official"]["miou"] < 90
    assert "crowd regions included" in record["official_scripts"]["miou"]


def test_a_users_predictions_are_those_that_were_scored(
    record: dict[str, Any], runs: Path, predicts_what_was_written: Callable[[str, Path], int]
) -> None:
    folder = runs / "minicoco__mobilenet_v3_small_os16"
    assert predicts_what_was_written(NAME, folder) == record["images"] == 30


def test_the_difference_between_the_evaluators_is_explained_to_the_last_bit(
    record: dict[str, Any], runs: Path
) -> None:
    explanation = explain(runs / "minicoco__mobilenet_v3_small_os16")
    pq, miou = (each for each in explanation.waterfalls if each.evaluators[1] == "official")
    for waterfall in (pq, miou):
        assert waterfall.end == record["metrics"]["official"][waterfall.metric]
        assert waterfall.residual == 0
    # Counted by this project, so there is no script whose arithmetic could differ.
    assert [step.rule for step in miou.steps] == ["crowd pixels count", "void is no class"]
    assert pq.end - pq.start == pytest.approx(-0.3486, abs=1e-4)
    official = record["per_class"]["official"]["pq"]
    for name, value in pq.steps[-1].per_class.items():
        assert (value or 0) == official.get(name, 0)
    assert explanation.ap_note == AP_OF_COCO


def test_images_that_cannot_be_used_are_counted(zoo_call: Run, minicoco: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for path in minicoco.rglob("*"):
        if path.is_file():
            target = data / path.relative_to(minicoco)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    broken = data / "val2017/000000001001.jpg"
    broken.write_bytes(broken.read_bytes()[:1500])
    arguments = ["reproduce", NAME, "--data", data, "--limit", "3", "--out", tmp_path / "out"]
    refused = zoo_call(*arguments)
    assert refused.returncode == 3
    (line,) = [line for line in refused.stderr.splitlines() if "error" in line]
    assert "000000001001.jpg: cannot be decoded as an image" in line
    assert "--keep-going" in line
    (data / "val2017/000000001002.jpg").unlink()
    done = zoo_call(*arguments, "--restart", "--keep-going", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["images"], record["images_in_dataset"]) == (2, 30)
    assert set(record["skipped"]) == {"000000001001", "000000001002"}
    for claim in record["claims"]:
        assert claim["verdict"] == "not judged"
        assert "2 of 30 images skipped" in claim["reason"]

"""Runs over a part of the images, with other settings, and of entries with other claims."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.repro.cityscapes.classes import CITYSCAPES
from zoo.repro.records.run_folder import RunFolder
from zoo.repro.run.scores import InternalResult, InternalScores

NAME = "minicity/mobilenet_v3_small_os16"
IMAGES = 30

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Whole = Any  # Of conftest.py: an undisturbed run over all images.

# Beside the run that all of these files compare with.
pytestmark = pytest.mark.xdist_group("minicity")


def verdicts_of(record: dict[str, Any]) -> list[str]:
    return [claim["verdict"] for claim in record["claims"]]


OWN_REGISTRY = """
datasets:
  three: {{title: Three scenes, format: cityscapes, split: val, images: 3, archive: three.tar.gz}}
entries:
  mine/holds:
    extends: minicity/mobilenet_v3_small_os16
    title: Small
    dataset: three
    checkpoint: package://zoo/assets/minicity_mobilenet_v3_small_os16.tar.gz
    published: {{internal: {{pq: {pq_close:.2f}, miou: {miou:.2f}}}, source: here}}
    tolerance: {{pq: 0.5, miou: 0.0}}
  mine/missed:
    extends: mine/holds
    title: Small
    checkpoint: package://zoo/assets/minicity_mobilenet_v3_small_os16.tar.gz
    published: {{internal: {{pq: {pq_wrong:.2f}, miou: {miou:.2f}}}, source: here}}
"""


def internal_of_first(whole: Whole, count: int) -> InternalResult:
    """The internal numbers of the first images, summed from the records of the whole run."""
    scores, folder = InternalScores(CITYSCAPES), RunFolder(whole.folder)
    for path in sorted((whole.folder / "images").iterdir())[:count]:
        arrays = folder.find_statistics(path.stem)
        assert arrays is not None
        scores.add(arrays)
    return scores.compute()


@pytest.fixture(scope="module")
def results() -> dict[str, tuple[int, str]]:
    """What `called` keeps for the tests after the first."""
    return {}


@pytest.fixture
def called(
    whole: Whole,
    minicity: Path,
    zoo_call: Run,
    results: dict[str, tuple[int, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, tuple[int, str]]:
    """Exit codes and what was printed of several calls, made once."""
    if results:
        return results
    folder = tmp_path_factory.mktemp("called")
    with tarfile.open(folder / "three.tar.gz", "w:gz") as archive:
        for path in sorted(minicity.glob("*/val/frankfurt/frankfurt_00000[012]_*")):
            archive.add(path, Path("three") / path.relative_to(minicity))
    expected = internal_of_first(whole, 3).metrics
    registry = folder / "registry.yaml"
    registry.write_text(
        OWN_REGISTRY.format(
            pq_close=expected["pq"] + 0.3, pq_wrong=expected["pq"] - 0.6, miou=expected["miou"]
        )
    )
    own = ["--registry", registry, "reproduce"]
    calls: dict[str, list[object]] = {
        "limit": ["reproduce", NAME, "--limit", 3],
        "intervals": ["reproduce", NAME, "--limit", 8],
        "bfloat16": ["reproduce", NAME, "--limit", 2, "--precision", "bfloat16"],
        "multi-scale": ["reproduce", NAME, "--limit", 2, "--scales", "0.75,1", "--flip"],
        "holds": [*own, "mine/holds", "--limit", 99],
        "missed": [*own, "mine/holds", "mine/missed"],
    }
    for name, call in calls.items():
        done = zoo_call(*call, "--json", "--out", folder / name)
        assert "Traceback" not in done.stderr
        results[name] = done.returncode, done.stdout
    return results


def test_a_part_of_the_images_is_not_judged(whole: Whole, called: dict[str, tuple[int, str]]) -> None:
    code, out = called["limit"]
    record = json.loads(out)
    assert code == 0
    assert (record["images"], record["images_in_dataset"]) == (3, IMAGES)
    assert verdicts_of(record) == ["not judged"] * 6
    assert {claim["reason"] for claim in record["claims"]} == {f"3 of {IMAGES} images"}
    expected = internal_of_first(whole, 3)
    assert record["metrics"]["internal"] == expected.metrics
    assert record["per_class"]["internal"] == expected.per_class
    assert record["ap12"] == expected.ap12
    # Three images are too few to say where the whole lies.
    assert "intervals" not in record


def test_a_part_of_the_images_says_where_the_whole_lies(
    whole: Whole, called: dict[str, tuple[int, str]]
) -> None:
    record = json.loads(called["intervals"][1])
    assert record["images"] == 8
    for evaluator in ("internal", "official"):
        intervals = record["intervals"][evaluator]
        assert sorted(intervals) == ["ap", "miou", "pq"]
        for metric, (low, high) in intervals.items():
            assert 0 <= low < record["metrics"][evaluator][metric] < high <= 100
            assert high - low < 40
    assert "intervals" not in whole.record


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("bfloat16", {"precision": "bfloat16"}, "--precision bfloat16"),
        ("multi-scale", {"scales": [0.75, 1.0], "flip": True}, "--scales 0.75,1 --flip"),
    ],
)
def test_settings_that_change_numbers_are_recorded(
    whole: Whole, called: dict[str, tuple[int, str]], name: str, settings: dict[str, Any], reason: str
) -> None:
    code, out = called[name]
    record = json.loads(out)
    assert code == 0
    assert record["settings"] == {**whole.record["settings"], "limit": 2, **settings}
    assert verdicts_of(record) == ["not judged"] * 6
    assert {claim["reason"] for claim in record["claims"]} == {
        f"2 of {IMAGES} images, measured with {reason}"
    }
    # Other numbers than with the defaults, but of the same network on the same scenes.
    expected = internal_of_first(whole, 2).metrics
    assert record["metrics"]["internal"] != expected
    assert record["metrics"]["internal"]["miou"] == pytest.approx(expected["miou"], abs=5)


def test_a_tolerance_of_the_entry_holds(whole: Whole, called: dict[str, tuple[int, str]]) -> None:
    code, out = called["holds"]
    record = json.loads(out)
    assert code == 0
    # A limit beyond the set is no limit.
    assert (record["images"], record["images_in_dataset"]) == (3, 3)
    assert verdicts_of(record) == ["within", "match"]
    assert record["claims"][0]["difference"] == pytest.approx(-0.3, abs=0.006)
    assert record["metrics"]["internal"] == internal_of_first(whole, 3).metrics


def test_one_missed_claim_of_many_is_exit_code_1(called: dict[str, tuple[int, str]]) -> None:
    code, out = called["missed"]
    records = json.loads(out)
    assert code == 1
    assert [record["entry"] for record in records] == ["mine/holds", "mine/missed"]
    assert [verdicts_of(record) for record in records] == [["within", "match"], ["mismatch", "match"]]

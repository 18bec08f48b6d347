"""The main job from end to end: the installed program, on the bundled entry, against what was published."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from zoo.registry import load_registry
from zoo.reports.explain.steps import explain
from zoo.repro.cityscapes.classes import CITYSCAPES
from zoo.repro.run.efficiency import efficiency, peak_memory_bytes

NAME = "minicity/mobilenet_v3_small_os16"
PUBLISHED = json.loads(
    (Path(__file__).parents[2] / "data" / "minicity" / "published.json").read_text(encoding="utf-8")
)
IMAGES = PUBLISHED["images"]
# Published values are rounded to six digits after the point; percentage points.
UNROUNDED_TOLERANCE = 1e-4

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Whole = Any  # Of conftest.py: an undisturbed run over all images.

# Beside the run that all of these files compare with.
pytestmark = pytest.mark.xdist_group("minicity")


def without_timings(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in ("timings", "efficiency")}


def test_every_claim_of_the_bundled_entry_is_a_match(whole: Whole) -> None:
    record = whole.record
    assert record["entry"] == NAME
    assert record["images"] == record["images_in_dataset"] == IMAGES
    judged = {(claim["evaluator"], claim["metric"]): claim for claim in record["claims"]}
    assert len(judged) == len(PUBLISHED["claims"]) == 6
    for published in PUBLISHED["claims"]:
        claim = judged[published["evaluator"], published["metric"]]
        assert claim["verdict"] == "match"
        assert claim["published"] == published["value"]
        assert claim["decimals"] == published["decimals"]
        assert f"{claim['measured']:.{claim['decimals']}f}" == f"{published['value']:.{claim['decimals']}f}"


def test_the_best_median_and_worst_image_are_drawn(whole: Whole) -> None:
    found = {picture["rank"]: picture for picture in whole.record["pictures"]}
    assert found["best"]["pq"] > found["median"]["pq"] > found["worst"]["pq"]
    for picture in found.values():
        assert sorted(picture["files"]) == ["difference", "ground_truth", "input", "prediction"]
        assert all((whole.folder / name).stat().st_size > 1000 for name in picture["files"].values())
        assert picture["classes"]["road"] == "#804080"


def test_unrounded_numbers_equal_the_published_ones(whole: Whole) -> None:
    record = whole.record
    for evaluator in ("official", "internal"):
        for metric, value in PUBLISHED["unrounded"][evaluator].items():
            found = record["metrics"][evaluator][metric]
            assert found == pytest.approx(value, abs=UNROUNDED_TOLERANCE), (evaluator, metric)
    averages = list(record["ap12"].values())
    assert averages == pytest.approx(PUBLISHED["unrounded"]["internal_ap12"], abs=1e-3)


def test_internal_counts_equal_the_published_ones(whole: Whole) -> None:
    per_class, published = (
        whole.record["per_class"]["internal"],
        PUBLISHED["unrounded"]["internal_per_class"],
    )
    for name in ("tp", "fp", "fn"):
        assert list(per_class[name]) == list(CITYSCAPES.class_names)
        assert list(per_class[name].values()) == published[name]
    matched = list(per_class["matched_iou"].values())
    assert matched == pytest.approx(published["iou"], abs=1e-5)
    for i, name in enumerate(CITYSCAPES.class_names):
        tp, fp, fn = (published[key][i] for key in ("tp", "fp", "fn"))
        assert per_class["sq"][name] == pytest.approx(100 * matched[i] / tp)
        assert per_class["rq"][name] == pytest.approx(100 * tp / (tp + fp / 2 + fn / 2))
        assert per_class["pq"][name] == pytest.approx(100 * matched[i] / (tp + fp / 2 + fn / 2))


def test_official_numbers_are_per_class_too(whole: Whole) -> None:
    per_class, metrics = whole.record["per_class"]["official"], whole.record["metrics"]["official"]
    things = [CITYSCAPES.class_names[i] for i in CITYSCAPES.thing_class_ids]
    for metric, per_class_metric, names in (
        ("pq", "pq", list(CITYSCAPES.class_names)),
        ("miou", "iou", list(CITYSCAPES.class_names)),
        ("ap", "ap", things),
        ("ap50", "ap50", things),
    ):
        values = per_class[per_class_metric]
        assert list(values) == names
        assert sum(values.values()) / len(values) == pytest.approx(metrics[metric])


def test_a_users_predictions_are_those_that_were_scored(
    whole: Whole, predicts_what_was_written: Callable[[str, Path], int]
) -> None:
    assert predicts_what_was_written(NAME, whole.folder) == 30


def test_only_the_record_is_on_stdout(whole: Whole) -> None:
    assert whole.without_timings == without_timings(
        json.loads((whole.folder / "record.json").read_text(encoding="utf-8"))
    )
    assert whole.record["timings"]["images_computed"] == IMAGES
    assert all(line.startswith("zoo: ") for line in whole.done.stderr.splitlines()), whole.done.stderr
    assert f"zoo: images: {IMAGES} of {IMAGES}" in whole.done.stderr


def test_the_record_says_where_its_numbers_come_from(whole: Whole) -> None:
    record = whole.record
    files = PUBLISHED["files"]
    assert record["checkpoint"]["sha256"] == files["minicity_mobilenet_v3_small_os16.tar.gz"]["sha256"]
    assert record["checkpoint"]["receipt"]["ok"] is True
    assert record["dataset"]["name"] == "minicity"
    assert record["settings"]["precision"] == "float32"
    assert record["versions"]["tensorflow"]
    assert record["device"]["replicas"] >= 1
    for digest in (record["entry_digest"], record["dataset"]["fingerprint"], record["code"]):
        assert len(digest) == 64
    assert {"total_s", "network_s", "post_processing_s", "official_s"} <= record["timings"].keys()


def test_the_record_says_what_the_run_needed(whole: Whole) -> None:
    found, entry = whole.record["efficiency"], load_registry().resolve(NAME)
    assert (found["parameters"], found["multiply_adds"]) == (entry.parameters, entry.multiply_adds)
    timings = whole.record["timings"]
    # Without the first call, which traces the network.
    expected = (timings["network_s"] - timings["network_first_s"]) / (IMAGES - 1)
    assert found["seconds_per_image"] == pytest.approx(expected)
    assert 0 < expected < timings["network_first_s"]
    # TensorFlow alone takes more than 100 MB.
    assert 1e8 < found["peak_memory_bytes"] < psutil.virtual_memory().total


def test_a_size_that_is_not_declared_is_that_of_the_network_as_built() -> None:
    entry = load_registry().resolve(NAME)
    undeclared = entry.model_copy(update={"parameters": None, "multiply_adds": None})
    found = efficiency(undeclared, {"images_computed": 1, "network_s": 9.0, "network_first_s": 9.0})
    assert (found["parameters"], found["multiply_adds"]) == (entry.parameters, entry.multiply_adds)
    assert found["seconds_per_image"] is None
    known = efficiency(None, {"images_computed": 30})
    assert 0 < known.pop("peak_memory_bytes") <= peak_memory_bytes()
    assert set(known.values()) == {None}


def test_the_table_is_beside_the_record(whole: Whole, zoo_command: Run) -> None:
    table = (whole.folder / "table.md").read_text(encoding="utf-8")
    assert table.count("| match ") == 6
    assert "74.20" in table
    shown = zoo_command("report", "diff", whole.folder, "--format", "markdown")
    assert (shown.returncode, shown.stdout) == (0, table)


def test_the_difference_between_the_evaluators_is_explained_to_the_last_bit(whole: Whole) -> None:
    found = [each for each in explain(whole.folder).waterfalls if each.evaluators[1] == "official"]
    assert [waterfall.metric for waterfall in found] == ["pq", "miou"]
    for waterfall in found:
        assert waterfall.end == whole.record["metrics"]["official"][waterfall.metric]
        assert waterfall.residual == 0
        assert waterfall.end != waterfall.start

"""The main job from end to end: the installed program, on the bundled entry, against what was published."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from zoo.reports.explain.steps import explain
from zoo.repro.cityscapes.classes import CITYSCAPES
from zoo.repro.records.run_folder import RunFolder
from zoo.repro.run.scores import InternalResult, InternalScores

NAME = "minicity/mobilenet_v3_small_os16"
FOLDER = "minicity__mobilenet_v3_small_os16"
PUBLISHED = json.loads(
    (Path(__file__).parents[2] / "data" / "minicity" / "published.json").read_text(encoding="utf-8")
)
IMAGES = PUBLISHED["images"]
# Published values are rounded to six digits after the point; percentage points.
UNROUNDED_TOLERANCE = 1e-4

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Whole:
    """An undisturbed run over all images."""

    done: subprocess.CompletedProcess[str]
    folder: Path

    @property
    def record(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self.done.stdout)
        return record


@pytest.fixture(scope="session")
def whole(zoo_command: Run, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    out = tmp_path_factory.mktemp("whole")
    done = zoo_command("reproduce", NAME, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    return Whole(done, out / FOLDER)


@pytest.fixture(autouse=True)
def nothing_beside(zoo_folder: Path) -> Any:
    """Runs leave nothing in the folder they are started in."""
    yield
    assert list(zoo_folder.iterdir()) == []


def without_timings(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "timings"}


def numbers_of(record: dict[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in ("images", "metrics", "per_class", "ap12")}


def verdicts_of(record: dict[str, Any]) -> list[str]:
    return [claim["verdict"] for claim in record["claims"]]


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
    assert without_timings(whole.record) == without_timings(
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


def test_the_table_is_beside_the_record(whole: Whole, zoo_command: Run) -> None:
    table = (whole.folder / "table.md").read_text(encoding="utf-8")
    assert table.count("| match ") == 6
    assert "74.20" in table
    shown = zoo_command("report", "diff", whole.folder, "--format", "markdown")
    assert (shown.returncode, shown.stdout) == (0, table)


# ---- stopped, and started again ----


def start(environment: dict[str, str], folder: Path, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "zoo.cli", "reproduce", NAME, *map(str, arguments)],
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def stop(process: subprocess.Popen[str], images: Path, count: int, number: signal.Signals) -> str:
    """Waits until `count` records are there, sends the signal to all processes of the run, returns stderr."""
    while len(list(images.glob("*.npz"))) < count:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    os.killpg(process.pid, number)
    return process.communicate()[1]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_stopped_run_goes_on_and_ends_the_same(
    whole: Whole, zoo_environment: dict[str, str], zoo_folder: Path, zoo_command: Run, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / f"{FOLDER}.unfinished")

    # Control-C: what the numbers are so far, the error, and what was computed is kept.
    process = start(zoo_environment, zoo_folder, "--out", tmp_path)
    stderr = stop(process, folder.images, 4, signal.SIGINT)
    kept = sorted(path.stem for path in folder.images.glob("*.npz"))
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1].startswith(f"zoo: error: {NAME}: interrupted with {len(kept)} of {IMAGES}")
    so_far = stderr.splitlines()[-2]
    assert so_far.startswith(f"zoo: {len(kept)} of {IMAGES} images so far: PQ ")
    assert ("95 % intervals" in so_far) == (len(kept) >= 5)
    assert 4 <= len(kept) < IMAGES
    assert not (folder.root / "record.json").exists()

    # Killed in the middle.
    before = {path.name: path.stat().st_mtime_ns for path in folder.images.glob("*.npz")}
    process = start(zoo_environment, zoo_folder, "--out", tmp_path)
    stop(process, folder.images, max(8, len(kept) + 4), signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (folder.root / "record.json").exists()
    assert {name: (folder.images / name).stat().st_mtime_ns for name in before} == before
    kept = sorted(path.stem for path in folder.images.glob("*.npz"))
    assert 8 <= len(kept) < IMAGES

    # A record damaged by a power cut, and a prediction that is gone.
    damaged = folder.images / f"{kept[2]}.npz"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    (folder.predictions / "panoptic" / f"{kept[5]}.json").unlink()

    done = zoo_command("reproduce", NAME, "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert f"resuming a run with {len(kept) - 2} image" in done.stderr
    assert record["timings"]["images_computed"] == IMAGES - len(kept) + 2
    assert without_timings(record) == without_timings(whole.record)
    for path in sorted((whole.folder / "images").iterdir()):
        assert (tmp_path / FOLDER / "images" / path.name).read_bytes() == path.read_bytes()


# ---- parts of the set, other settings, other claims ----

# Calls the program once for each list of words on stdin; saves the time that TensorFlow takes to start.
CALLS = """
import contextlib, io, json, sys
from zoo.cli import main

results = []
for words in json.load(sys.stdin):
    sys.argv, shown, code = ["zoo", *words], io.StringIO(), 0
    with contextlib.redirect_stdout(shown):
        try:
            main()
        except SystemExit as error:
            code = error.code or 0
    results.append([code, shown.getvalue()])
print(json.dumps(results))
"""

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


@pytest.fixture(scope="session")
def called(
    whole: Whole,
    minicity: Path,
    zoo_environment: dict[str, str],
    zoo_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, tuple[int, str]]:
    """Exit codes and what was printed of several calls."""
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
    words = [
        [str(word) for word in (*call, "--json", "--out", folder / name)] for name, call in calls.items()
    ]
    done = subprocess.run(
        [sys.executable, "-c", CALLS],
        input=json.dumps(words),
        env=zoo_environment,
        cwd=zoo_folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return {name: (code, out) for name, (code, out) in zip(calls, json.loads(done.stdout), strict=True)}


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


def test_the_difference_between_the_evaluators_is_explained_to_the_last_bit(whole: Whole) -> None:
    for waterfall in explain(whole.folder).waterfalls:
        assert waterfall.official == whole.record["metrics"]["official"][waterfall.metric]
        assert waterfall.residual == 0
        assert waterfall.official != waterfall.internal


# ---- devices ----

TWO_DEVICES = """
import json, sys
from pathlib import Path

import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from zoo.registry import load_registry
from zoo.repro.run.reproduce import reproduce_entry
from zoo.repro.run.settings import RunSettings

registry = load_registry()
records = {}
for device in ("cpu", "cpu:0"):
    records[device] = reproduce_entry(
        registry.resolve("minicity/mobilenet_v3_small_os16"),
        registry=registry,
        out=Path(sys.argv[1]) / device.replace(":", "_"),
        settings=RunSettings(limit=7, device=device),
    )
print(json.dumps(records))
"""


def test_two_devices_give_the_totals_of_one(
    whole: Whole, zoo_environment: dict[str, str], zoo_folder: Path, tmp_path: Path
) -> None:
    # An odd number of images: the last batch is not full.
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES, str(tmp_path)],
        env={**zoo_environment, "TF_CPP_MIN_LOG_LEVEL": "2"},
        cwd=zoo_folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)
    assert records["cpu"]["device"]["replicas"] == 2
    assert records["cpu:0"]["device"]["replicas"] == 1
    assert numbers_of(records["cpu"]) == numbers_of(records["cpu:0"])
    assert records["cpu"]["images"] == 7
    folders = [tmp_path / device / f"{FOLDER}__limit7__cpu" / "images" for device in ("cpu", "cpu_0")]
    for path in sorted(folders[0].iterdir()):
        assert path.read_bytes() == (folders[1] / path.name).read_bytes()
        assert path.read_bytes() == (whole.folder / "images" / path.name).read_bytes()

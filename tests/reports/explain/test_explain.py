"""`zoo explain`: from the internal number to the official script's own, rule by rule."""

from __future__ import annotations

import io
import itertools
import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.errors import DataError
from zoo.files.json_files import write_json
from zoo.metrics.segments import OfficialTruth
from zoo.model.postprocess.instances import Instances
from zoo.reports.explain.pq_steps import OFFICIAL_CHANGES
from zoo.reports.explain.step_tables import class_table, markdown, points, step_rows, terminal
from zoo.reports.explain.steps import AP_OF_CITYSCAPES, AP_OF_COCO, Explanation, explain
from zoo.reports.explain.waterfall import Step, Waterfall
from zoo.reports.page.waterfall_svg import draw
from zoo.repro.coco.classes import COCO
from zoo.repro.datasets.dataset import Sample
from zoo.repro.records.record import SCHEMA_VERSION, finite
from zoo.repro.records.run_folder import RunFolder
from zoo.repro.run.scores import InternalScores

Call = Callable[..., Any]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def explanation(minicity_run: Path) -> Explanation:
    return explain(minicity_run)


@pytest.fixture
def copied_run(minicity_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(minicity_run, tmp_path / "run"))


def change_record(run: Path, **changes: Any) -> None:
    path = run / "record.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**record, **changes}), encoding="utf-8")


# ---- the arithmetic ----


def test_the_last_step_is_the_official_number_to_the_last_bit(
    explanation: Explanation, minicity_run: Path
) -> None:
    metrics = json.loads((minicity_run / "record.json").read_text(encoding="utf-8"))["metrics"]
    assert [waterfall.metric for waterfall in explanation.waterfalls] == ["pq", "miou"]
    for waterfall in explanation.waterfalls:
        assert waterfall.start == metrics["internal"][waterfall.metric]
        assert waterfall.end == metrics["official"][waterfall.metric]
        assert waterfall.steps[-1].value == waterfall.end
        assert waterfall.residual == 0


def test_the_last_step_of_a_coco_run_too(minicoco_run: Path) -> None:
    found = explain(minicoco_run)
    pq, miou = found.waterfalls
    assert pq.residual == miou.residual == 0
    worths = {step.rule: step.worth for step in pq.steps}
    assert worths["other crowds in the union"] == pytest.approx(-0.267, abs=5e-4)
    assert worths["own crowd in the union"] == pytest.approx(-0.035, abs=5e-4)
    assert worths["other crowds excuse nothing"] == pytest.approx(-0.046, abs=5e-4)
    assert found.ap_note == AP_OF_COCO


def test_official_values_per_class_are_the_official_scripts(
    explanation: Explanation, minicity_run: Path
) -> None:
    per_class = json.loads((minicity_run / "record.json").read_text(encoding="utf-8"))["per_class"]
    for waterfall, name in zip(explanation.waterfalls, ("pq", "iou"), strict=True):
        assert waterfall.per_class == per_class["internal"][name]
        assert waterfall.steps[-1].per_class == per_class["official"][name]


def test_worths_and_shares_add_up(explanation: Explanation) -> None:
    for waterfall in explanation.waterfalls:
        before = waterfall.start
        for step in waterfall.steps:
            assert step.worth == step.value - before
            assert sum(step.shares.values()) == pytest.approx(step.worth, abs=1e-12)
            before = step.value


def test_every_rule_is_named_also_where_it_is_worth_nothing(explanation: Explanation) -> None:
    pq, miou = explanation.waterfalls
    assert [step.rule for step in pq.steps] == [rule[0] for rule in OFFICIAL_CHANGES] + [
        "the script's arithmetic"
    ]
    assert [step.rule for step in miou.steps] == [
        "crowd pixels count",
        "void is no class",
        "the script's arithmetic",
    ]
    worths = {step.rule: step.worth for step in pq.steps}
    # The data set has crowds, of other classes under cars above all, and one stuff segment a class.
    assert worths["stuff segments apart"] == 0
    assert worths["other crowds in the union"] < -0.01
    assert worths["other crowds excuse nothing"] < -0.01
    assert abs(worths["the script's arithmetic"]) < 1e-12
    assert max(pq.steps[4].shares, key=lambda name: abs(pq.steps[4].shares[name])) == "car"


def test_on_to_torchmetrics_in_steps_that_add_up(minicity_run: Path, minicoco_run: Path) -> None:
    # What torchmetrics 1.9.0 computes from the maps of these runs, see tests/peers.
    for run, value in ((minicity_run, 74.112299245), (minicoco_run, 63.644624796)):
        found = explain(run)
        on = found.torchmetrics
        assert on is not None
        assert found.all_waterfalls[1] is on
        assert on.end == on.steps[-1].value == pytest.approx(value, abs=1e-7)
        assert on.start == found.waterfalls[0].end
        assert sum(step.worth for step in on.steps) == pytest.approx(on.end - on.start, abs=1e-12)
        for step in on.steps:
            assert sum(step.shares.values()) == pytest.approx(step.worth, abs=1e-12)
        shown = found.to_json()["pq"]
        assert shown["torchmetrics"]["value"] == on.end
        assert [step["rule"] for step in shown["torchmetrics"]["steps"]][-1] == "single precision"
        assert shown["rules"][0]["torchmetrics"] == "segments like any other"
    worths = {step.rule: step.worth for step in on.steps}
    assert worths["crowds are segments"] == pytest.approx(0.221, abs=5e-4)
    assert worths["half void is not missed"] == pytest.approx(0.351, abs=5e-4)


def test_a_part_of_the_images(copied_run: Path, minicity_statistics: list[dict[str, np.ndarray]]) -> None:
    """A record of the first ten images in a folder that holds more."""
    from zoo.metrics.mean_iou import MeanIoU
    from zoo.metrics.panoptic_quality import PanopticQuality
    from zoo.repro.records.statistics import part_of

    pq, miou = PanopticQuality(19, 255, 1000), MeanIoU(19, 255)
    for arrays in minicity_statistics[:10]:
        pq.merge(PanopticQuality.from_arrays(part_of(arrays, "pq")))
        miou.merge(MeanIoU.from_arrays(part_of(arrays, "miou")))
    internal = {"pq": pq.compute().pq, "miou": miou.compute().miou}
    change_record(copied_run, images=10, metrics={"internal": internal, "official": {"pq": 70.0}})
    found = explain(copied_run)
    assert [waterfall.metric for waterfall in found.waterfalls] == ["pq"]
    assert found.ap == {}
    assert found.waterfalls[0].residual == 70.0 - found.waterfalls[0].steps[-1].value
    assert "10 of 30 images" in markdown(found)


def test_void_that_is_predicted_is_a_class_of_the_internal_mean_alone(tmp_path: Path) -> None:
    truth = OfficialTruth(
        segment_map=np.array([[0] * 6 + [1] * 4 + [-1] * 2], np.int32),
        segment_ids=np.array([5, 9], np.int32),
        class_ids=np.array([1, 3], np.int32),
        is_crowd=np.array([False, True]),
    )
    # COCO's void is class 0, which the network may predict: on two pixels of the person.
    semantic = np.array([[1, 1, 1, 1, 0, 0, 3, 3, 3, 1, 0, 0]], np.int32)
    divisor, nothing = COCO.label_divisor, np.zeros(0, np.float32)
    sample = Sample(
        image_id="a",
        image=np.zeros((1, 12, 3), np.uint8),
        panoptic=np.array([[divisor + 1] * 6 + [0] * 6], np.int32),
        semantic=np.array([[1] * 6 + [0] * 6], np.uint8),
        crowd_labels=np.zeros(0, np.int32),
        official=truth,
    )
    scores = InternalScores(COCO)
    empty = Instances(np.zeros(0, np.int32), np.zeros(0, np.int64), nothing, nothing, nothing)
    arrays = scores.measure(sample, np.zeros((1, 12), np.int32), semantic, empty)
    scores.add(arrays)
    result = scores.compute()
    folder = RunFolder(tmp_path)
    folder.images.mkdir()
    folder.write_statistics("a", arrays)
    record = {
        "schema": SCHEMA_VERSION,
        "entry": "a/b",
        "claims": [],
        "images": 1,
        "images_in_dataset": 1,
        "metrics": {"internal": finite(result.metrics), "official": {"miou": result.official_miou}},
        "per_class": {"internal": result.per_class},
        "official_scripts": {"miou": "counted"},
    }
    write_json(tmp_path / "record.json", record)

    (miou,) = explain(tmp_path).waterfalls
    # Internal: person 4 of 6, void 0 of 2. Crowd pixels: person 4 of 7, car 3 of 4, void 0 of 2.
    assert miou.start == pytest.approx(100 * (4 / 6) / 2)
    assert [step.rule for step in miou.steps] == ["crowd pixels count", "void is no class"]
    assert miou.steps[0].value == pytest.approx(100 * (4 / 7 + 3 / 4) / 3)
    assert miou.steps[1].value == pytest.approx(100 * (4 / 7 + 3 / 4) / 2)
    assert miou.residual == 0
    assert sum(miou.steps[1].shares.values()) == pytest.approx(miou.steps[1].worth)


# ---- how it is shown ----


def small() -> Explanation:
    """A difference with round numbers: a class that rises, one that falls, one that is not there."""

    def step(rule: str, value: float, worth: float, cat: float, dog: float) -> Step:
        values = {"cat": 2 * cat, "dog": 2 * dog, "<owl>": None}
        return Step(rule, f"about {rule}", value, worth, {"cat": cat, "dog": dog, "<owl>": 0.0}, values)

    pq = Waterfall(
        "pq",
        60.0,
        {"cat": 70.0, "dog": 50.0, "<owl>": None},
        (step("rise & fall", 60.4, 0.4, 0.6, -0.2), step("nothing", 60.4, 0.0, 0.0, 0.0)),
        60.4,
    )
    return Explanation("a/b", 5, 9, (pq,), {"internal": 20.0, "official": 22.5}, "as said")


def test_rows_go_from_the_internal_to_the_official_number() -> None:
    assert [row[:4] for row in step_rows(small().waterfalls[0])] == [
        ("", "internal", "", "60.000"),
        ("1", "rise & fall", "+0.400", "60.400"),
        ("2", "nothing", "0.000", "60.400"),
        ("", "not explained", "0", "60.400"),
    ]


def test_classes_with_the_largest_part_first_and_rules_that_matter() -> None:
    header, rows, others = class_table(small().waterfalls[0])
    assert header == ("Class", "Internal", "Official", "Points of the mean", "Rule 1")
    assert [(row[0], *row[3:]) for row in rows] == [("cat", "+0.600", "+0.600"), ("dog", "-0.200", "-0.200")]
    assert others == "1 other classes carry less than 0.0005 points each"


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.000"), (-1e-14, "0.000"), (0.00051, "+0.001"), (-0.25, "-0.250")]
)
def test_points(value: float, text: str) -> None:
    assert points(value) == text


def test_markdown_lines_up(explanation: Explanation) -> None:
    text = markdown(explanation, per_class=True)
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 7
    for block in blocks:
        assert len({len(line) for line in block}) == 1
        assert len({line.count("|") for line in block}) == 1
    assert AP_OF_CITYSCAPES in text
    assert len(blocks[5]) == len(explanation.waterfalls[1].steps) + 4


@pytest.mark.parametrize("width", [60, 100, 200])
def test_a_narrow_terminal_keeps_numbers_whole(explanation: Explanation, width: int) -> None:
    from rich.console import Console

    console = Console(width=width, record=True, file=io.StringIO())
    console.print(terminal(explanation, per_class=True))
    text = console.export_text()
    assert all(len(line) <= width for line in text.splitlines())
    assert text.count("74.165") >= 4


def test_the_picture_is_a_self_contained_svg_with_selectable_text(explanation: Explanation) -> None:
    root = ElementTree.fromstring(draw(explanation))
    assert root.tag == f"{SVG}svg"
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None
    assert description is not None
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert "74.197 % internal" in (description.text or "")
    texts = ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]
    for waterfall in explanation.waterfalls:
        for number, step in enumerate(waterfall.steps, start=1):
            assert f"{number}. {step.rule}" in texts
            assert points(step.worth) in texts
    assert not list(root.iter(f"{SVG}image"))
    assert "http" not in draw(explanation).replace("http://www.w3.org/2000/svg", "")


def test_the_bars_of_the_picture_meet(explanation: Explanation) -> None:
    """Each bar begins where the one before it ended, on the side that its sign says."""
    pq = explanation.waterfalls[0]
    alone = Explanation("a/b", 1, 1, (pq,), {}, "")
    bars = [
        (float(bar.get("x", "")), float(bar.get("width", "")), bar.get("class"))
        for bar in ElementTree.fromstring(draw(alone)).iter(f"{SVG}rect")
    ]
    assert [bar[2] for bar in bars] == ["down"] * 3
    for upper, lower in itertools.pairwise(bars):
        assert upper[0] == pytest.approx(lower[0] + lower[1], abs=0.02)
    per_point = [bar[1] / -step.worth for bar, step in zip(bars, pq.steps[2:5], strict=True)]
    assert per_point == pytest.approx([per_point[0]] * 3, rel=0.01)


def test_the_picture_escapes_names_and_draws_nothing_for_nothing() -> None:
    root = ElementTree.fromstring(draw(small()))
    assert "1. rise & fall" in ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]
    assert [bar.get("class") for bar in root.iter(f"{SVG}rect")] == ["up"]
    hostile = replace(small(), entry="</title><script>")
    root = ElementTree.fromstring(draw(hostile))
    assert "</title><script>" in (root.findtext(f"{SVG}title") or "")
    flat = Waterfall("miou", 50.0, {}, (Step("nothing", "", 50.0, 0.0, {}, {}),), 50.0)
    ElementTree.fromstring(draw(Explanation("a/b", 1, 1, (flat,), {}, "")))


# ---- the command ----


def test_the_command_in_every_format(zoo_call: Call, minicity_run: Path, tmp_path: Path) -> None:
    shown = zoo_call("explain", minicity_run / "record.json", "--per-class")
    assert shown.returncode == 0, shown.stderr
    assert "other crowds excuse nothing" in shown.stdout
    assert "motorcycle" in shown.stdout
    picture = tmp_path / "gap.svg"
    done = zoo_call("explain", minicity_run, "--json", "--picture", picture)
    found = json.loads(done.stdout)
    assert found["pq"]["residual"] == 0
    assert found["miou"]["difference"] == pytest.approx(0.0306, abs=1e-4)
    assert found["ap"]["note"] == AP_OF_CITYSCAPES
    assert [step["rule"] for step in found["pq"]["steps"]][:2] == [rule[0] for rule in OFFICIAL_CHANGES[:2]]
    assert picture.read_text(encoding="utf-8").startswith("<svg ")
    assert json.loads(zoo_call("explain", minicity_run, "--format", "json").stdout) == found
    text = zoo_call("explain", minicity_run, "--format", "markdown").stdout
    assert text == markdown(explain(minicity_run))


def test_it_needs_no_tensorflow(minicity_run: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from zoo.reports.explain.steps import explain; "
        "explain(Path(sys.argv[1])); import zoo.reports.explain.step_tables, zoo.reports.page.waterfall_svg; "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(minicity_run)], check=True, cwd=tmp_path)


def test_wrong_calls(zoo_call: Call, one_line: Call, minicity_run: Path, tmp_path: Path) -> None:
    assert "--format yaml" in one_line(zoo_call("explain", minicity_run, "--format", "yaml"), 2)
    assert "ends in .svg" in one_line(zoo_call("explain", minicity_run, "--picture", "gap.png"), 2)
    (tmp_path / "file").touch()
    nowhere = zoo_call("explain", minicity_run, "--picture", tmp_path / "file" / "gap.svg")
    assert f"gap.svg: {tmp_path / 'file'} is a file, not a folder" in one_line(nowhere, 3)


def test_a_record_that_was_moved(zoo_call: Call, one_line: Call, copied_run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.json"
    shutil.copyfile(copied_run / "record.json", moved)
    assert "found no such folder" in one_line(zoo_call("explain", moved), 3)
    assert "no run record there" in one_line(zoo_call("explain", tmp_path / "nothing"), 3)


def test_a_run_with_images_missing(zoo_call: Call, one_line: Call, copied_run: Path) -> None:
    for path in sorted((copied_run / "images").iterdir())[:4]:
        path.unlink()
    assert "expected the statistics of 30 images, found 26" in one_line(zoo_call("explain", copied_run), 3)


def test_a_record_without_official_numbers(zoo_call: Call, one_line: Call, copied_run: Path) -> None:
    record = json.loads((copied_run / "record.json").read_text(encoding="utf-8"))
    metrics = {**record["metrics"], "official": {}}
    change_record(copied_run, metrics=metrics, official_scripts={"skipped": "TFRecords hold no files"})
    line = one_line(zoo_call("explain", copied_run), 3)
    assert "nothing to compare the internal numbers with" in line
    assert line.endswith(": TFRecords hold no files")


def test_statistics_of_another_run(copied_run: Path) -> None:
    folder = RunFolder(copied_run)
    names = sorted(path.stem for path in folder.images.iterdir())
    other = folder.find_statistics(names[1])
    assert other is not None
    folder.write_statistics(names[0], other)
    with pytest.raises(DataError, match="the record is of another run"):
        explain(copied_run)


def test_statistics_without_segments(copied_run: Path) -> None:
    folder = RunFolder(copied_run)
    name = min(path.stem for path in folder.images.iterdir())
    arrays = folder.find_statistics(name)
    assert arrays is not None
    folder.write_statistics(name, {key: array for key, array in arrays.items() if "segments/" not in key})
    with pytest.raises(DataError, match="expected counted segments"):
        explain(copied_run)

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import DataError
from zoo.reports.runs import open_run
from zoo.reports.tables.compare import Comparison, compare_runs, markdown, to_json

MakeRun = Callable[..., Path]


def bfloat16(record: dict[str, Any]) -> None:
    record["settings"]["precision"] = "bfloat16"


def compared(before: Path, after: Path, **options: Any) -> Comparison:
    return compare_runs(open_run(before), open_run(after), **options)


@pytest.fixture
def pair(make_run: MakeRun) -> tuple[Path, Path]:
    """Two runs: in the second one the person of image 3 is missed, and things of image 0 are 4 pixels off."""
    return make_run("a"), make_run("b", shifts={0: 4, 3: 6}, change=bfloat16)


def test_the_images_that_moved_most_come_first(pair: tuple[Path, Path]) -> None:
    found = compared(*pair)
    assert found.images is not None
    assert len(found.images) == 4
    assert {image.image_id for image in found.moved_images} == {"scene_000", "scene_003"}
    sizes = [abs(image.pq.difference or 0) for image in found.moved_images]
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) > 0
    assert all((image.pq.difference or 0) < 0 for image in found.moved_images)
    person = next(image for image in found.images if image.image_id == "scene_003")
    assert person.segments == {"person": {"tp": -1, "fp": 1, "fn": 1}}
    assert person.segments_text() == "person -1 found +1 spurious +1 missed"


def test_conditions_that_differ_are_listed_and_do_not_hinder(pair: tuple[Path, Path]) -> None:
    assert compared(*pair).conditions == [("precision", "float32", "bfloat16")]


def test_a_fall_counts_from_the_threshold_on(pair: tuple[Path, Path]) -> None:
    found = compared(*pair)
    fall = -(found.metrics["internal", "pq"].difference or 0)
    assert fall > 0.1
    assert ("internal", "pq") in found.fallen
    assert ("internal", "pq") not in compared(*pair, threshold=fall + 1e-9).fallen
    assert ("internal", "pq") in compared(*pair, threshold=fall - 1e-9).fallen
    # The other way round every metric rises.
    assert compared(*reversed(pair)).fallen == []


def test_a_metric_that_is_gone_has_fallen(make_run: MakeRun) -> None:
    def without_ap(record: dict[str, Any]) -> None:
        record["metrics"] = {**record["metrics"], "official": {**record["metrics"]["official"], "ap": None}}

    found = compared(make_run("a"), make_run("b", change=without_ap), threshold=100)
    assert found.fallen == [("official", "ap")]
    assert compared(*(open_run(run.path).path for run in (found.after, found.before))).fallen == []


def test_equal_runs_have_nothing_to_tell(make_run: MakeRun) -> None:
    found = compared(make_run("a"), make_run("b"))
    assert found.fallen == found.moved_images == found.moved_classes == found.conditions == []
    assert all(not change.has_moved for change in found.metrics.values())
    text = markdown(found, 10)
    assert "Nothing: same settings" in text
    assert "0 of 4 images moved." in text


def test_classes_that_moved_are_those_of_the_things_that_moved(pair: tuple[Path, Path]) -> None:
    moved = compared(*pair).moved_classes
    names = {name for (_, metric, name), _ in moved if metric == "pq"}
    assert {"person", "car"} <= names
    sizes = [change.size for _, change in moved]
    assert sizes == sorted(sizes, reverse=True)
    assert not any(metric == "ap" for (_, metric, _), _ in moved)


def test_records_alone_compare_without_images(pair: tuple[Path, Path], tmp_path: Path) -> None:
    alone = tmp_path / "alone.json"
    shutil.copyfile(pair[0] / "record.json", alone)
    found = compared(alone, pair[1])
    assert found.images is None
    assert found.metrics == compared(*pair).metrics
    assert "Not compared: the statistics of the images are not beside both records." in markdown(found, 3)
    assert to_json(found)["images"] is None


def other_entry(record: dict[str, Any]) -> None:
    record["entry"] = "minicity/other"


def other_data(record: dict[str, Any]) -> None:
    record["dataset"] = {"name": "minicity", "fingerprint": "0" * 64}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"change": other_entry}, "entry minicity/drawn and entry minicity/other"),
        ({"change": other_data}, r"other data \(fingerprints ffffffffff and 0000000000\)"),
        ({"images": 3}, "4 and 3 images; run both with the same --limit"),
    ],
)
def test_what_cannot_be_compared_is_told(make_run: MakeRun, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        compared(make_run("a"), make_run("b", **options))


def test_other_images_cannot_be_compared(make_run: MakeRun) -> None:
    before, after = make_run("a"), make_run("b")
    (after / "images" / "scene_000.npz").rename(after / "images" / "scene_0005.npz")
    with pytest.raises(DataError, match="other images, scene_000 is in one of them only"):
        compared(before, after)


def test_markdown_is_tables_that_parse(pair: tuple[Path, Path]) -> None:
    lines = markdown(compared(*pair), 2).splitlines()
    tables: list[list[str]] = [[]]
    for line in lines:
        if line.startswith("|"):
            tables[-1].append(line)
        elif tables[-1]:
            tables.append([])
    assert len([table for table in tables if table]) == 4
    for table in tables:
        assert len({line.count("|") for line in table}) <= 1
    assert len(tables[3]) == 2 + 2
    assert tables[3][2].startswith("| scene_")


def test_the_command(zoo_call: Callable[..., Any], pair: tuple[Path, Path], one_line: Any) -> None:
    done = zoo_call("report", "compare", *pair)
    assert done.returncode == 1
    assert "scene_003" in done.stdout
    assert "bfloat16" in done.stdout
    assert "fell" in done.stdout
    done = zoo_call("report", "compare", *pair, "--threshold", 100, "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found["fallen"] == []
    assert [image["image_id"] for image in found["images"]][:2] == ["scene_003", "scene_000"]
    assert len(found["images"]) == 4
    assert zoo_call("report", "compare", *pair, "--format", "markdown").stdout.startswith("# minicity/drawn")
    assert "expected terminal or markdown" in one_line(
        zoo_call("report", "compare", *pair, "--format", "csv"), 2
    )
    assert "no run record there" in one_line(zoo_call("report", "compare", pair[0], pair[1] / "no"), 3)


def test_the_command_on_another_entry(zoo_call: Callable[..., Any], make_run: MakeRun, one_line: Any) -> None:
    done = zoo_call("report", "compare", make_run("a"), make_run("b", change=other_entry))
    assert "cannot be compared: entry minicity/drawn and entry minicity/other" in one_line(done, 3)

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import DataError, UsageError
from zoo.reports.page.history_chart import change_notes, history_picture
from zoo.reports.runs import find_runs
from zoo.reports.tables.history import histories, history, moments, rows, select_entry

MakeRun = Callable[..., Path]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def records(make_run: MakeRun, tmp_path: Path) -> Path:
    """Nights of two entries: numpy changes before the third one, in which a claim is missed too."""
    source = make_run("source") / "record.json"

    def night(day: int, change: Callable[[dict[str, Any]], None] | None = None) -> None:
        record = json.loads(source.read_text(encoding="utf-8"))
        record["timings"]["started"] = f"2026-11-{day:02d}T02:11:09+00:00"
        record["code"] = f"{day:064d}"[::-1]
        if change is not None:
            change(record)
        path = tmp_path / "nightly" / f"2026-11-{day:02d}" / "minicity__drawn" / "record.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record), encoding="utf-8")

    def newer_numpy(record: dict[str, Any]) -> None:
        record["versions"]["numpy"] = "2.4.0"

    def missed(record: dict[str, Any]) -> None:
        newer_numpy(record)
        record["claims"][0]["verdict"] = "mismatch"
        record["metrics"]["official"]["pq"] -= 3

    def other(record: dict[str, Any]) -> None:
        record["entry"] = "minicoco/drawn"

    night(1)
    night(2)
    night(3, missed)
    night(5, newer_numpy)
    night(8, other)
    shutil.copytree(tmp_path / "source", tmp_path / "nightly" / "whole_run")
    return tmp_path / "nightly"


def points_of(records: Path) -> Any:
    return history(select_entry(find_runs([records]), "minicity/drawn", records))


def test_runs_are_in_order_with_what_changed(records: Path) -> None:
    points = points_of(records)
    assert [point.run.day for point in points] == [
        "2026-11-01",
        "2026-11-02",
        "2026-11-03",
        "2026-11-05",
        "2026-11-20",
    ]
    assert points[0].changes == ()
    assert [name for name, _, _ in points[1].changes] == ["zoo's code"]
    assert points[1].marked_changes == ()
    assert points[2].marked_changes == (("numpy version", "2.3.5", "2.4.0"),)
    assert points[3].marked_changes == ()
    assert points[4].marked_changes == (("numpy version", "2.4.0", "2.3.5"),)
    assert [point.verdicts() for point in points[1:4]] == [
        "6 match",
        "1 mismatch, 5 match (PQ official)",
        "6 match",
    ]


def test_rows_hold_the_values_of_each_run(records: Path) -> None:
    points = points_of(records)
    header, body = rows(points)
    assert header[0] == "Date (UTC)"
    assert header[-2:] == ["Verdicts", "Changed"]
    assert header[1:-2] == [
        f"{metric} {evaluator}" for evaluator in ("official", "internal") for metric in ("PQ", "mIoU", "AP")
    ]
    assert all(len(row) == len(header) for row in body)
    assert [float(row[1]) for row in body] == pytest.approx(
        [point.run.record["metrics"]["official"]["pq"] for point in points], abs=5e-4
    )
    assert float(body[1][1]) - float(body[2][1]) == pytest.approx(3, abs=2e-3)


def test_a_name_may_be_short_where_it_is_unambiguous(records: Path) -> None:
    runs = find_runs([records])
    with pytest.raises(UsageError, match="'drawn' is short for minicity/drawn and minicoco/drawn"):
        select_entry(runs, "drawn", records)
    only = [run for run in runs if run.entry == "minicoco/drawn"]
    assert select_entry(only, "drawn", records) == only
    with pytest.raises(DataError, match="no run record of 'other'; there are records of minicity/drawn"):
        select_entry(runs, "other", records)


def test_the_drawing_holds_every_value_and_marks_changes(records: Path) -> None:
    points = points_of(records)
    root = ET.fromstring(history_picture([points]))
    assert root.tag == f"{SVG}svg"
    hints = [element.text or "" for element in root.iter(f"{SVG}title")][1:]
    assert len(hints) == 5 * 6
    official = points[2].run.record["metrics"]["official"]["pq"]
    assert f"2026-11-03 02:11, official PQ: {official:.3f}, mismatch" in hints
    by_class = [element.get("class") for element in root.iter()]
    assert by_class.count("chart-change") == 2
    # One in the legend, one at the missed claim.
    assert by_class.count("chart-missed") == 2
    assert by_class.count("chart-published official") == by_class.count("chart-published internal") == 3
    texts = ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]
    assert "1  2026-11-03 02:11: numpy version 2.3.5 → 2.4.0" in texts
    assert change_notes(points) == [text for text in texts if "numpy version" in text]


def test_many_changes_go_over_several_lines(records: Path, make_run: MakeRun) -> None:
    def all_new(record: dict[str, Any]) -> None:
        record["versions"] = {f"package_{number}": "1.2.3" for number in range(12)}

    later = make_run("later", started="2026-12-01T00:00:00+00:00", change=all_new)
    points = history([*select_entry(find_runs([records]), "minicity/drawn", records), *find_runs([later])])
    root = ET.fromstring(history_picture([points]))
    texts = ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]
    shown = [text for text in texts if "package_" in text]
    assert len(shown) > 3
    assert max(map(len, shown)) <= 95
    words = " ".join(" ".join(texts).split())
    assert all(f"package_{number} version" in words for number in range(12))
    lowest = max(float(element.get("y", 0)) for element in root.iter(f"{SVG}text"))
    assert lowest < float(root.get("height", 0))


def test_the_drawing_keeps_order_and_distance(records: Path) -> None:
    root = ET.fromstring(history_picture([points_of(records)]))
    circles = [
        element
        for element in root.iter(f"{SVG}circle")
        if element.get("class", "").startswith("chart-point official")
    ]
    pq = [(float(circle.get("cx", 0)), float(circle.get("cy", 0))) for circle in circles[:5]]
    x = [position for position, _ in pq]
    # Days 1, 2, 3, 5, 20.
    assert [(b - x[0]) / (x[1] - x[0]) for b in x] == pytest.approx([0, 1, 2, 4, 19], abs=0.02)
    heights = [height for _, height in pq]
    assert heights[2] == max(heights)
    assert heights[0] == heights[1] == heights[3] == heights[4]
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for element in root.iter():
        for key, most in (("cx", width), ("x", width), ("x2", width), ("cy", height), ("y", height)):
            assert 0 <= float(element.get(key, 0)) <= most, (element.tag, element.attrib)


def test_one_run_and_a_run_without_a_date_can_be_drawn(make_run: MakeRun) -> None:
    def undated(record: dict[str, Any]) -> None:
        del record["timings"]

    run = make_run("one")
    assert "AP of 1 run, 2026-11-20 to" in history_picture([history(find_runs([run]))])
    both = history(find_runs([run, make_run("two", change=undated)]))
    root = ET.fromstring(history_picture([both]))
    assert len(list(root.iter(f"{SVG}title"))) - 1 == 6
    none = history_picture([history(find_runs([make_run("three", change=undated)]))])
    assert ET.fromstring(none).get("width") == "720"


def test_the_command(zoo_call: Callable[..., Any], records: Path, tmp_path: Path, one_line: Any) -> None:
    picture = tmp_path / "pictures" / "history.svg"
    done = zoo_call("report", "history", "minicity/drawn", "--records", records, "--picture", picture)
    assert done.returncode == 0
    assert "2026-11-03 02:11" in done.stdout
    assert "numpy version 2.3.5" in done.stdout
    assert ET.parse(picture).getroot().tag == f"{SVG}svg"
    found = json.loads(zoo_call("report", "history", "minicity/drawn", "--records", records, "--json").stdout)
    assert [point["started"][:10] for point in found][:2] == ["2026-11-01", "2026-11-02"]
    assert found[2]["verdicts"][0]["verdict"] == "mismatch"
    assert found[2]["changes"][0] == {"name": "numpy version", "before": "2.3.5", "after": "2.4.0"}
    wrong = zoo_call("report", "history", "drawn", "--records", records, "--picture", tmp_path / "a.png")
    assert "expected a file name that ends in .svg" in one_line(wrong, 2)
    assert "give the full name" in one_line(zoo_call("report", "history", "drawn", "--records", records), 2)
    assert "no run record" in one_line(zoo_call("report", "history", "x", "--records", tmp_path / "no"), 3)


def test_runs_of_other_settings_have_a_history_of_their_own(make_run: MakeRun) -> None:
    def coarse(record: dict[str, Any]) -> None:
        record["settings"]["precision"] = "bfloat16"

    def partial(record: dict[str, Any]) -> None:
        record["settings"]["limit"], record["images_in_dataset"] = 4, 30

    def elsewhere(record: dict[str, Any]) -> None:
        record["settings"]["device"], record["device"]["kind"] = "gpu:1", "gpu"

    day = "2026-11-20T"
    runs = find_runs(
        [
            make_run("a", started=f"{day}01:00:07+00:00"),
            make_run("b", started=f"{day}02:00:07+00:00", change=coarse),
            make_run("c", started=f"{day}03:00:07+00:00", change=partial),
            make_run("d", started=f"{day}04:00:07+00:00", change=elsewhere),
        ]
    )
    found = histories(runs)
    assert [(points[0].run.settings, len(points)) for points in found] == [
        ("float32 · all images", 2),
        ("bfloat16 · all images", 1),
        ("float32 · 4 of 30 images", 1),
    ]
    assert found[0][1].marked_changes == (("device", "cpu", "gpu"),)
    assert {len(points[0].changes) for points in found} == {0}
    root = ET.fromstring(history_picture(found))
    texts = ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]
    assert "minicity/drawn, bfloat16 · all images" in texts
    # Equal dates are told apart by their times.
    assert {"2026-11-20 01:00", "2026-11-20 04:00"} <= set(texts)


def test_moments_are_as_exact_as_they_have_to_be(make_run: MakeRun) -> None:
    run = [
        *find_runs([make_run("a", started="2026-11-20T01:00:07+00:00")]),
        *find_runs([make_run("b", started="2026-11-21T01:00:07+00:00")]),
        *find_runs([make_run("c", started="2026-11-21T01:00:09+00:00")]),
        *find_runs([make_run("d", started="2026-11-21T02:00:00+00:00")]),
    ]
    assert moments(run[:2]) == ["2026-11-20", "2026-11-21"]
    assert moments([run[1], run[3]]) == ["2026-11-21 01:00", "2026-11-21 02:00"]
    assert moments(run[1:3]) == ["2026-11-21 01:00:07", "2026-11-21 01:00:09"]
    assert [row[0] for row in rows(history(run[:2]))[1]] == ["2026-11-20 01:00", "2026-11-21 01:00"]

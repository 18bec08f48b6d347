from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.errors import DataError
from zoo.reports.runs import (
    changed_conditions,
    find_runs,
    one_of_each_entry,
    open_run,
    record_files,
    settings_of,
)
from zoo.repro.records.claim_words import metric_title

MakeRun = Callable[..., Path]


def test_runs_are_found_below_a_folder_oldest_first(make_run: MakeRun, tmp_path: Path) -> None:
    newer = make_run("history/b/minicity__drawn", started="2026-11-22T02:00:00+00:00")
    older = make_run("history/z/minicity__drawn", started="2026-11-20T02:00:00+00:00")
    loose = tmp_path / "history" / "loose.json"
    record = json.loads((older / "record.json").read_text(encoding="utf-8"))
    record["timings"]["started"] = "2026-11-21T02:00:00+00:00"
    loose.write_text(json.dumps(record), encoding="utf-8")
    (tmp_path / "history" / "other.json").write_text('{"entry": 1}', encoding="utf-8")
    (tmp_path / "history" / "broken.json").write_text("{", encoding="utf-8")
    (tmp_path / "history" / "deep.json").write_text("[" * 100_000, encoding="utf-8")
    found = [run.path for run in find_runs([tmp_path / "history"])]
    assert found == [older / "record.json", loose, newer / "record.json"]
    # Given twice, read once.
    assert len(find_runs([tmp_path / "history", newer, newer / "record.json"])) == 3


def test_a_folder_without_records_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run record in it"):
        find_runs([tmp_path])


def test_images_of_a_longer_run_before_do_not_count(make_run: MakeRun) -> None:
    folder = make_run(images=4)
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    record["images"] = 2
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    run = open_run(folder)
    assert run.image_ids() == ["scene_000", "scene_001"]
    assert [name for name, _ in run.images()] == run.image_ids()


def test_images_that_a_run_skips_do_not_count(make_run: MakeRun) -> None:
    folder = make_run(images=4)
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    record |= {"images": 3, "skipped": {"scene_001": "is broken"}}
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    assert open_run(folder).image_ids() == ["scene_000", "scene_002", "scene_003"]


def test_a_record_without_its_images_has_none(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run()
    alone = tmp_path / "alone.json"
    shutil.copyfile(folder / "record.json", alone)
    assert open_run(alone).image_ids() == []
    (folder / "images" / "scene_003.npz").unlink()
    assert open_run(folder).image_ids() == []


def test_damaged_statistics_are_told(make_run: MakeRun) -> None:
    folder = make_run()
    path = folder / "images" / "scene_001.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(DataError, match=r"scene_001\.npz: is missing or damaged; run the entry again"):
        list(open_run(folder).images())


def test_a_record_without_scales_has_the_plain_settings() -> None:
    assert settings_of({"settings": {"scales": None}}) == settings_of({"settings": {"scales": [1.0]}})


def test_what_differs_is_named_with_both_values() -> None:
    before = {"settings": {"precision": "float32", "scales": [1.0]}, "versions": {"numpy": "2.3.5"}}
    after = {"settings": {"precision": "bfloat16", "scales": [0.5, 1.0]}, "versions": {"numpy": "2.3.5"}}
    assert changed_conditions(before, after) == [
        ("precision", "float32", "bfloat16"),
        ("scales", "1", "0.5,1"),
    ]
    assert changed_conditions(before, {**before, "device": {"kind": "gpu"}}) == [("device", "none", "gpu")]


@pytest.mark.parametrize(
    ("metric", "title"), [("miou", "mIoU"), ("pq_things", "PQ things"), ("new_one", "new one")]
)
def test_metrics_have_titles(metric: str, title: str) -> None:
    assert metric_title(metric) == title


def test_the_only_run_below_a_folder_is_opened(make_run: MakeRun, tmp_path: Path) -> None:
    first = make_run("out/minicity__drawn")
    assert open_run(tmp_path / "out").path == first / "record.json"
    second = make_run("out/minicoco__drawn")
    with pytest.raises(DataError, match="expected one run record, found 2; give one of them, as"):
        open_run(tmp_path / "out")
    assert open_run(second).path == second / "record.json"
    with pytest.raises(DataError, match="no run record there"):
        open_run(tmp_path / "none")


def test_every_report_takes_the_folder_that_was_given_to_out(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run("out/minicity__drawn"), make_run("out/minicity__drawn__flip")]
    unfinished = tmp_path / "out" / "minicity__drawn__limit3.unfinished"
    (unfinished / "images").mkdir(parents=True)
    (unfinished / "run.json").write_text("{}")
    assert record_files([tmp_path / "out", runs[0]]) == [
        runs[0] / "record.json",
        runs[1] / "record.json",
        runs[0],
    ]
    for read in (open_run, lambda path: record_files([path])):
        with pytest.raises(DataError, match="no run record in it; the run there is unfinished") as caught:
            read(unfinished)
        assert "\n" not in str(caught.value)


def test_the_run_that_was_measured_as_published_counts(make_run: MakeRun, tmp_path: Path) -> None:
    names = ("plain", "flip", "limit")
    for number, name in enumerate(names):
        path = make_run(f"out/{name}") / "record.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        record["settings"] = {"precision": "float32", "scales": [1.0], "flip": name == "flip"}
        record["images_in_dataset"] = record["images"] + (name == "limit")
        record["timings"] = {"started": f"2026-11-25T0{number}:00:00+00:00"}
        path.write_text(json.dumps(record), encoding="utf-8")
    runs = find_runs([tmp_path / "out"])
    assert [run.path.parent.name for run in runs] == list(names)
    assert one_of_each_entry(runs) == [runs[0]]


def test_a_copied_record_counts_once_where_its_run_is(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("nights/work/minicity__drawn")
    copy = tmp_path / "nights" / "2026-11-25" / "minicity__drawn" / "record.json"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((run / "record.json").read_bytes())
    for paths in ([copy, run], [run, copy], [tmp_path / "nights"]):
        (found,) = find_runs(paths)
        assert found.path == run / "record.json"

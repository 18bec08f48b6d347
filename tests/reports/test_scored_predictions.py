"""Runs without an entry, and records with nulls: every report takes them, or says why not in one line."""

from __future__ import annotations

import io
import json
import runpy
import shutil
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import zoo
from zoo.errors import DataError, ZooError
from zoo.registry import Registry, load_registry
from zoo.reports.explain import step_tables
from zoo.reports.explain.steps import explain
from zoo.reports.page.history_chart import history_picture
from zoo.reports.page.html import page
from zoo.reports.runs import find_runs, open_run
from zoo.reports.tables import claim_table, compare, history
from zoo.reports.tables.measured import measured_tables
from zoo.repro.records.record import read_record, run_name
from zoo.repro.records.run_folder import RunFolder

ENTRY = "minicity/mobilenet_v3_small_os16"
NAME = "somebody's model"
PREDICTIONS = {"name": NAME, "path": "/data/out", "form": "coco", "sha256": "a" * 64, "holds": ["panoptic"]}
NO_NETWORK = ("device", "checkpoint", "settings", "pictures", "entry_digest", "post_processing")

Record = dict[str, Any]
Change = Callable[[Record], None]


def _print(found: Any) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(found)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def _compared(run: Path) -> str:
    found = compare.compare_runs(open_run(run), open_run(run))
    console = Console(file=io.StringIO(), width=200)
    compare.write_terminal(found, 10, console)
    return json.dumps(compare.to_json(found)) + compare.markdown(found, 10)


def _told(run: Path) -> str:
    found = history.histories(find_runs([run]))
    json.dumps(history.as_json(found[0]))
    return _print(history.terminal(found[0])) + history_picture(found)


def _explained(run: Path) -> str:
    found = explain(run)
    return _print(step_tables.terminal(found, per_class=True)) + json.dumps(found.to_json())


@cache
def _registry() -> Registry:
    return load_registry()


REPORTS: dict[str, Callable[[Path], str]] = {
    "diff": lambda run: _print(claim_table.terminal([read_record(run)])),
    "diff as markdown": lambda run: claim_table.markdown([read_record(run)]),
    "diff as csv": lambda run: claim_table.as_csv([read_record(run)]),
    "diff as json": lambda run: claim_table.as_json([read_record(run)]),
    "measured": lambda run: measured_tables(_registry(), [open_run(run)]),
    "measured as latex": lambda run: measured_tables(_registry(), [open_run(run)], latex=True),
    "results": lambda run: str(zoo.results(run).to_csv()),
    "history": _told,
    "compare": _compared,
    "html": lambda run: page(find_runs([run])),
    "explain": _explained,
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    make_run = runpy.run_path(str(Path(__file__).with_name("drawn_run.py")))["make_run"]
    folder: Path = make_run(tmp_path_factory.mktemp("drawn"), entry=ENTRY, images=2)
    return folder


@pytest.fixture
def changed(drawn: Path, tmp_path: Path) -> Callable[[Change], Path]:
    """Returns a function that copies the drawn run and changes its record."""

    def copy(change: Change) -> Path:
        run = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        shutil.copytree(drawn, run)
        record = json.loads((run / "record.json").read_text(encoding="utf-8"))
        change(record)
        (run / "record.json").write_text(json.dumps(record), encoding="utf-8")
        return run

    return copy


def score_predictions(record: Record) -> None:
    """Makes a record one of `zoo score`, of predictions that hold everything."""
    record |= {"entry": None, "predictions": PREDICTIONS, "claims": [], **dict.fromkeys(NO_NETWORK)}


def keep_semantic_alone(record: Record) -> None:
    """Makes a record one of label maps: mean IoU alone, boundary IoU beside it."""
    score_predictions(record)
    for evaluator, kept in record["metrics"].items():
        record["metrics"][evaluator] = {key: kept[key] for key in kept if key == "miou"}
    record["metrics"]["internal"]["boundary_iou"] = 33.25
    iou = record["per_class"]["internal"]["iou"]
    boundary = {name: value and value / 2 for name, value in iou.items()}
    record["per_class"] = {"official": {"iou": iou}, "internal": {"iou": iou, "boundary_iou": boundary}}
    record["efficiency"] = dict.fromkeys(("parameters", "multiply_adds", "seconds_per_image"))


@pytest.mark.parametrize("report", [name for name in REPORTS if name != "explain"])
def test_scored_predictions_are_called_by_their_name(report: str, changed: Callable[[Change], Path]) -> None:
    run = changed(score_predictions)
    assert run_name(read_record(run)) == NAME
    text = REPORTS[report](run)
    # A table of one run alone does not name it.
    assert NAME in text or report == "diff"
    assert "Panoptic-DeepLab" not in text, "it may be any network"
    for evaluator in ("official", "internal"):
        value = read_record(run)["metrics"][evaluator]["pq"]
        assert f"{value:.1f}" in text or f"{value:.0f}" in text


@pytest.mark.parametrize("report", [name for name in REPORTS if name != "explain"])
def test_what_predictions_do_not_hold_is_not_there(report: str, changed: Callable[[Change], Path]) -> None:
    run = changed(keep_semantic_alone)
    # The statistics of such a run have no part for what was not measured.
    folder = RunFolder(run)
    for path in folder.images.glob("*.npz"):
        arrays = folder.find_statistics(path.stem)
        assert arrays is not None
        folder.write_statistics(path.stem, {k: v for k, v in arrays.items() if k.startswith("miou/")})
    text = REPORTS[report](run)
    assert "33.25" in text
    assert "mIoU" in text or "miou" in text
    assert "PQ" not in text or report in ("compare", "html"), "two of them explain themselves with the word"


NULLS: list[tuple[str, ...]] = [
    *((key,) for key in (*NO_NETWORK, "dataset", "skipped", "per_class", "ap12", "official_scripts")),
    *((key,) for key in ("intervals", "versions", "code", "timings", "efficiency", "predictions")),
    *(("device", "kind"), ("dataset", "name"), ("dataset", "fingerprint"), ("checkpoint", "sha256")),
    *(("settings", "precision"), ("settings", "scales"), ("settings", "flip"), ("versions", "numpy")),
    *(("timings", key) for key in ("started", "images_s", "images_computed")),
    *(("per_class", "official"), ("per_class", "internal", "pq"), ("per_class", "internal", "iou")),
    *(("post_processing", "thing_class_ids"), ("metrics", "official", "pq"), ("metrics", "official")),
    *(("pictures", 0, key) for key in ("pq", "wrong_class", "wrong_segment", "size", "files")),
    *(("claims", 0, key) for key in ("measured", "reason", "interval", "tolerance", "decimals")),
]


@pytest.mark.parametrize("path", NULLS, ids=lambda path: ".".join(map(str, path)))
def test_nulls_give_a_report_or_one_line(path: tuple[Any, ...], changed: Callable[[Change], Path]) -> None:
    def remove(record: Record) -> None:
        part: Any = record
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = None

    run = changed(remove)
    for name, report in REPORTS.items():
        try:
            shown = report(run)
        except ZooError as error:
            shown = ""
            reason = str(error)
        assert shown or (str(run) in reason and "\n" not in reason), name
    if len(path) == 1:
        assert "PQ" in REPORTS["diff"](run), "what may be left out may be null"


def test_other_predictions_of_the_same_images_can_be_compared(changed: Callable[[Change], Path]) -> None:
    def rename(record: Record) -> None:
        score_predictions(record)
        record["predictions"] = {**PREDICTIONS, "name": "another"}

    runs = [open_run(changed(change)) for change in (score_predictions, rename, lambda record: None)]
    for before, after in pairwise(runs):
        found = compare.compare_runs(before, after)
        assert found.title == f"{before.entry} and {after.entry}"
        assert len(found.images or ()) == 2
    other = open_run(changed(lambda record: record.update(entry="minicity/other")))
    with pytest.raises(DataError, match="entry minicity/mobilenet_v3_small_os16 and entry minicity/other"):
        compare.compare_runs(runs[2], other)

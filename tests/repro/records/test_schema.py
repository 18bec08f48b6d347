"""Records with bad values: one line from every command that reads them, and never a traceback."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.errors import DataError
from zoo.reports.runs import open_run
from zoo.repro.records.record import read_record
from zoo.repro.records.run_folder import RunFolder

Call = Callable[..., Any]

NAN, INFINITY = float("nan"), float("inf")
BAD: list[tuple[tuple[Any, ...], Any, str]] = [
    (("claims", 0, "measured"), "x", "claims.0.measured: expected a number, found 'x'"),
    (("claims", 0, "measured"), NAN, "claims.0.measured: expected a finite number, found nan"),
    (("claims", 0, "measured"), INFINITY, "claims.0.measured: expected a finite number, found inf"),
    (("claims", 0, "measured"), True, "claims.0.measured: expected a number, found true"),
    (("claims", 0, "measured"), None, "claims.0.measured: expected a number under the verdict 'match'"),
    (("claims", 0, "measured"), 99.0, "claims.0.difference: expected"),
    (("claims", 0, "verdict"), "fine", "claims.0.verdict: expected 'match', 'within'"),
    (("claims", 0, "metric"), "rq", "claims.0.metric: expected 'pq'"),
    (("claims", 0, "decimals"), 1.5, "claims.0.decimals: expected an integer"),
    (("claims", 0, "decimals"), -1, "claims.0.decimals: expected"),
    (("claims", 0, "interval"), [1.0], "claims.0.interval.1: expected a value, found none"),
    (("claims", 0, "reason"), 3, "claims.0.reason: expected text, found 3"),
    (("claims", 0), 3, "claims.0: expected a mapping"),
    (("claims",), {"pq": 1}, "claims: expected a list, found a mapping with pq"),
    (("claims",), None, "claims: expected a list, found nothing"),
    (("entry",), "", "entry: expected text"),
    (("entry",), ["a/b"], "entry: expected text"),
    (("images",), "4", "images: expected an integer, found '4'"),
    (("images",), 0, "images: expected"),
    (("metrics", "internal", "pq"), "74", "metrics.internal.pq: expected a number, found '74'"),
    (("metrics", "internal", "pq"), -INFINITY, "metrics.internal.pq: expected a finite number"),
    (("metrics",), [], "metrics: expected a mapping"),
    (("metrics", "somebody"), {"pq": 1.0}, "metrics.somebody"),
    (("per_class",), {}, "per_class.internal: expected a value, found none"),
    (("entry",), None, "predictions: expected the scored ones, as there is no entry, found none"),
    (("predictions",), {"path": "."}, "predictions.name: expected a value, found none"),
    (
        ("per_class", "internal", "pq", "road"),
        "9",
        "per_class.internal.pq.road: expected a number, found",
    ),
    (("per_class", "official", "ap"), [1], "per_class.official.ap: expected a mapping"),
    (("pictures",), [{"a": 1}], "pictures.0.image_id: expected a value, found none"),
    (("pictures",), {"a": 1}, "pictures: expected a list"),
    (("pictures", 0, "pq"), "74", "pictures.0.pq: expected a number, found '74'"),
    (("pictures", 0, "size"), [0, 4], "pictures.0.size.0: expected"),
    (
        ("pictures", 0, "files", "input"),
        "../../secret.png",
        "pictures.0.files.input: expected text",
    ),
    (
        ("pictures", 0, "files", "input"),
        "pictures/a.svg",
        "pictures.0.files.input: expected text",
    ),
    (("pictures", 0, "classes", "road"), "red;x:y", "pictures.0.classes.road: expected text"),
    (
        ("post_processing", "thing_class_ids"),
        ["11"],
        "post_processing.thing_class_ids.0: expected an",
    ),
    (("timings", "started"), "yesterday", "timings.started: "),
    (("timings", "started"), "2026-11-20T02:11:09", "timings.started: expected a time with its zone"),
    (("timings", "images_s"), [2], "timings.images_s: expected a number"),
    (("settings",), "fast", "settings: expected a mapping"),
    (("versions", "numpy"), 2, "versions.numpy: expected text"),
    (("device",), "cpu", "device: expected a mapping"),
    (("dataset",), [], "dataset: expected a mapping"),
    (("checkpoint",), {"sha256": 7}, "checkpoint.sha256: expected text"),
    (("intervals",), {"internal": {"pq": [1.0, NAN]}}, "intervals.internal.pq.1: expected a finite number"),
    (("skipped",), ["a"], "skipped: expected a mapping"),
    (("ap12",), {"ap": "1"}, "ap12.ap: expected a number"),
    (
        ("later",),
        {"deep": [1, {"x": NAN}]},
        "later.deep.1.x: expected a finite number",
    ),
    (("schema",), "1", "schema '1', expected 1"),
]
IDS = [f"{'.'.join(map(str, path))}={json.dumps(value)[:20]}" for path, value, _ in BAD]
REQUIRED = ("schema", "entry", "images", "images_in_dataset", "claims", "metrics")


def spoiled(run: Path, path: tuple[Any, ...], value: Any) -> Path:
    record = json.loads((run / "record.json").read_text(encoding="utf-8"))
    part = record
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    (run / "record.json").write_text(json.dumps(record), encoding="utf-8")
    return run


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    make_run = runpy.run_path(str(Path(__file__).parents[2] / "reports" / "drawn_run.py"))["make_run"]
    folder: Path = make_run(tmp_path_factory.mktemp("drawn"), images=2)
    return folder


@pytest.fixture
def run_folder(drawn: Path, tmp_path: Path) -> Path:
    shutil.copytree(drawn, tmp_path / "run")
    return tmp_path / "run"


def readers(run: Path, good: Path) -> list[tuple[object, ...]]:
    """Every command that reads a record."""
    forms = [("report", "diff", run, "--format", form) for form in ("terminal", "markdown", "csv", "json")]
    return [
        *forms,
        ("report", "html", run, "--out", run.parent / "page.html"),
        ("report", "measured", run),
        ("report", "compare", run, good),
        ("report", "compare", good, run),
        ("report", "history", "minicity/drawn", "--records", run),
        ("explain", run),
        ("explain", run, "--json"),
    ]


@pytest.mark.parametrize(("path", "value", "expected"), BAD, ids=IDS)
def test_a_bad_value_is_one_line(run_folder: Path, path: Any, value: Any, expected: str) -> None:
    run = spoiled(run_folder, path, value)
    with pytest.raises(DataError) as caught:
        read_record(run)
    message = str(caught.value)
    assert message.startswith(f"{run / 'record.json'}: not a run record that can be read: ")
    assert expected in message
    assert "\n" not in message
    assert "`zoo reproduce` measures again" in message


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("claims", 0, "measured"), "x"),
        (("claims", 0, "measured"), NAN),
        (("metrics", "internal", "pq"), "74"),
        (("per_class",), {}),
        (("pictures",), [{"a": 1}]),
    ],
)
def test_every_command_refuses_a_bad_value(
    zoo_call: Call, one_line: Call, run_folder: Path, drawn: Path, path: Any, value: Any
) -> None:
    run = spoiled(run_folder, path, value)
    for words in readers(run, drawn):
        message = one_line(zoo_call(*words), 3)
        assert message.startswith(f"{run / 'record.json'}: not a run record that can be read: ")
    assert not (run.parent / "page.html").exists()


@pytest.mark.parametrize("text", ["[]", "3", "null", '"x"', "{", "", "\x00", "[" * 100_000, "{}"])
def test_a_file_that_is_no_object(
    zoo_call: Call, one_line: Call, run_folder: Path, drawn: Path, text: str
) -> None:
    (run_folder / "record.json").write_text(text, encoding="utf-8")
    message = one_line(zoo_call("report", "diff", run_folder), 3)
    assert f"{run_folder / 'record.json'}: not a run record" in message


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_named(run_folder: Path, key: str) -> None:
    record = json.loads((run_folder / "record.json").read_text(encoding="utf-8"))
    del record[key]
    (run_folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(DataError, match=f"{key}: expected a value, found none"):
        read_record(run_folder)


def test_a_record_with_keys_of_another_version_is_read_unchanged(run_folder: Path) -> None:
    spoiled(run_folder, ("later",), {"deep": [1, None, "x"]})
    spoiled(run_folder, ("claims", 0, "later"), 1)
    assert read_record(run_folder) == json.loads((run_folder / "record.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "key", ["per_class", "pictures", "timings", "settings", "versions", "device", "dataset"]
)
def test_an_older_record_without_a_part_is_shown(
    zoo_call: Call, run_folder: Path, drawn: Path, key: str
) -> None:
    record = json.loads((run_folder / "record.json").read_text(encoding="utf-8"))
    del record[key]
    (run_folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    for words in readers(run_folder, drawn):
        assert "Traceback" not in zoo_call(*words).stderr


def test_statistics_of_another_kind_are_one_line(run_folder: Path) -> None:
    run = open_run(run_folder)
    first = run.image_ids()[0]
    folder = RunFolder(run_folder)
    folder.write_statistics(first, {"something": np.zeros(3)})
    expected = f"{first}.npz: not the statistics of an image: expected an array 'pq/tp', found none"
    with pytest.raises(DataError, match=expected):
        list(run.images())
    with pytest.raises(DataError, match=expected):
        list(folder.read_statistics([first]))

"""What becomes of the results of earlier runs when a new one is begun, stopped, or ended."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.errors import EvaluationError, InUseError
from zoo.files.json_files import write_json
from zoo.repro.records.record import SCHEMA_VERSION, read_record
from zoo.repro.records.run_destination import RunDestination
from zoo.repro.run.settings import RunSettings

IDENTITY: dict[str, Any] = {"entry": "a/b", "code": "1", "settings": {"scales": [1.0], "flip": False}}
OTHER = {**IDENTITY, "code": "2"}
ARRAYS = {"pq/tp": np.arange(3)}


@pytest.fixture
def destination(tmp_path: Path) -> RunDestination:
    return RunDestination(tmp_path / "a__b")


def write_results(destination: RunDestination, name: str, identity: dict[str, Any] = IDENTITY) -> None:
    """Makes a run up to its record, which is the last that is written before `finish`."""
    folder = destination.open(identity)
    folder.write_statistics(name, ARRAYS)
    timings = {"started": "2026-11-25T10:15:00+00:00"}
    about = {"schema": SCHEMA_VERSION, "entry": "a/b", "claims": [], "metrics": {}}
    record = {**about, "images": 1, "images_in_dataset": 9, "timings": timings}
    write_json(folder.root / "record.json", {**record, "name": name})


def run(destination: RunDestination, name: str, identity: dict[str, Any] = IDENTITY) -> Path | None:
    write_results(destination, name, identity)
    return destination.finish()


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def result(destination: RunDestination) -> str:
    record = read_record(destination.finished.root)
    assert destination.finished.done([record["name"]])
    return str(record["name"])


def test_a_new_run_replaces_the_last_one_only_at_its_end(destination: RunDestination) -> None:
    assert run(destination, "first") is None
    destination.open(IDENTITY).write_statistics("second", ARRAYS)
    assert result(destination) == "first"
    assert run(destination, "second") is None
    assert result(destination) == "second"
    assert names_in(destination.finished.root.parent) == {"a__b"}
    assert not destination.finished.done(["first"])


def test_an_unfinished_run_goes_on_beside_a_finished_one(destination: RunDestination) -> None:
    run(destination, "first")
    destination.open(IDENTITY).write_statistics("second", ARRAYS)
    assert RunDestination(destination.finished.root).open(IDENTITY).done(["first", "second"]) == {"second"}
    assert result(destination) == "first"


def test_restart_discards_the_unfinished_run_alone(destination: RunDestination) -> None:
    run(destination, "first")
    destination.open(IDENTITY).write_statistics("second", ARRAYS)
    assert destination.open(OTHER, restart=True).done(["second"]) == set()
    assert result(destination) == "first"


def test_results_of_something_else_are_kept_with_their_date(destination: RunDestination) -> None:
    run(destination, "first")
    first = run(destination, "second", OTHER)
    second = run(destination, "third")
    assert result(destination) == "third"
    assert first is not None
    assert second is not None
    assert (first.name, second.name) == ("a__b__2026-11-25T10-15-00", "a__b__2026-11-25T10-15-00.2")
    assert [read_record(path)["name"] for path in (first, second)] == ["first", "second"]


@pytest.mark.parametrize("renames", [0, 1, 2])
@pytest.mark.parametrize("identity", [IDENTITY, OTHER])
def test_killed_while_results_are_put_in_place(
    destination: RunDestination, monkeypatch: pytest.MonkeyPatch, renames: int, identity: dict[str, Any]
) -> None:
    run(destination, "first")
    (destination.finished.root / "notes.txt").write_text("mine")
    write_results(destination, "second", identity)
    rename, count = os.rename, iter(range(3))

    def killed(*paths: Path) -> None:
        if next(count) == renames:
            raise KeyboardInterrupt
        rename(*paths)

    monkeypatch.setattr(os, "rename", killed)
    if identity == IDENTITY or renames < 2:
        with pytest.raises(KeyboardInterrupt):
            destination.finish()
    else:
        assert destination.finish() is not None
    monkeypatch.undo()
    # The next call completes it, whatever it runs itself.
    RunDestination(destination.finished.root).open(IDENTITY)
    assert result(destination) == "second"
    (notes,) = destination.finished.root.parent.glob("*/notes.txt")
    assert notes.read_text() == "mine"
    assert not list(destination.finished.root.parent.glob(".*"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"code": "2"}, "with another code of zoo;"),
        ({"versions": {}, "entry": "a/c"}, "with another entry, another package versions;"),
        ({"checkpoint_sha256": "0"}, "with another checkpoint;"),
    ],
)
def test_an_unfinished_run_of_something_else_is_refused(
    destination: RunDestination, change: dict[str, Any], named: str
) -> None:
    destination.open(IDENTITY).write_statistics("a", ARRAYS)
    with pytest.raises(EvaluationError) as caught:
        destination.check({**IDENTITY, **change})
    message = str(caught.value)
    assert "\n" not in message
    assert str(destination.unfinished.root) in message
    assert named in message
    assert "--restart" in message
    assert destination.unfinished.done(["a"]) == {"a"}


def test_an_unfinished_run_without_images_stops_nobody(destination: RunDestination) -> None:
    destination.open(IDENTITY)
    assert destination.open(OTHER).identity() == OTHER


def test_images_of_an_unknown_run_are_not_taken_over(destination: RunDestination) -> None:
    folder = destination.open(IDENTITY)
    folder.write_statistics("a", ARRAYS)
    (folder.root / "run.json").write_text('{"entry":')
    assert destination.open(IDENTITY).done(["a"]) == set()


def test_a_run_whose_scripts_failed_goes_on(destination: RunDestination) -> None:
    run(destination, "first")
    write_results(destination, "second")
    record = read_record(destination.unfinished.root)
    write_json(destination.unfinished.root / "record.json", {**record, "official_scripts": {"failed": "why"}})
    assert destination.open(IDENTITY).done(["second"]) == {"second"}
    assert result(destination) == "first"


def test_a_place_in_use_is_refused(destination: RunDestination) -> None:
    with destination.in_use():
        with (
            pytest.raises(InUseError, match="another process is running there") as caught,
            RunDestination(destination.finished.root).in_use(),
        ):
            pytest.fail("two runs in one destination")
        assert "\n" not in str(caught.value)
    with RunDestination(destination.finished.root).in_use():
        pass


def test_a_file_in_the_place_is_refused(destination: RunDestination) -> None:
    destination.finished.root.write_text("mine")
    with pytest.raises(EvaluationError, match="is a file, expected a folder"):
        destination.check(IDENTITY)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (RunSettings(), "a__b"),
        (RunSettings(limit=4, device="gpu:0"), "a__b__limit4__gpu"),
        (RunSettings(precision="bfloat16"), "a__b__bfloat16"),
        (RunSettings(scales=(0.75, 1.0, 1.25), flip=True), "a__b__scales0.75_1_1.25__flip"),
    ],
)
def test_the_name_says_how_settings_differ(settings: RunSettings, expected: str) -> None:
    assert settings.folder_name("a/b") == expected

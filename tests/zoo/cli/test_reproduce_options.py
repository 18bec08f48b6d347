"""`zoo reproduce`: which data go with which entry, empty values, and what the end says of unjudged claims."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.cli.options import data_folders
from zoo.errors import UsageError
from zoo.registry import load_registry
from zoo.repro.records.claims import unjudged

CITY = "minicity/mobilenet_v3_small_os16"
COCO = "minicoco/mobilenet_v3_small_os16"

Call = Callable[..., Any]


def test_data_of_several_entries_are_checked_before_the_first_runs(
    zoo_call: Call, one_line: Call, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    data = f"minicoco={tmp_path / 'empty'}"
    message = one_line(zoo_call("reproduce", CITY, COCO, "--data", data, "--out", tmp_path / "out"), 3)
    assert str(tmp_path / "empty") in message
    assert not (tmp_path / "out").exists()


def test_a_plain_folder_for_several_data_sets_is_refused(
    zoo_call: Call, one_line: Call, tmp_path: Path
) -> None:
    message = one_line(zoo_call("reproduce", CITY, COCO, "--data", tmp_path, "--out", tmp_path / "out"), 2)
    assert message == f"--data {tmp_path}: expected DATASET=DIR, e.g. cityscapes=~/cityscapes"


def test_a_folder_of_a_data_set_that_no_entry_needs_is_refused(
    zoo_call: Call, one_line: Call, tmp_path: Path
) -> None:
    data = f"cityscapes={tmp_path / 'missing'}"
    message = one_line(zoo_call("reproduce", CITY, "--data", data, "--out", tmp_path / "out"), 2)
    assert message == "--data cityscapes=…: expected a data set of the entries, minicity"


def test_a_folder_is_given_with_or_without_the_data_sets_name(tmp_path: Path) -> None:
    registry = load_registry()
    odd = tmp_path / "a=b"
    odd.mkdir()
    for text in (str(odd), f"minicity={odd}"):
        assert data_folders([text], registry, "minicity") == {"minicity": odd}
    both = data_folders(["coco=a", "cityscapes=b"], registry)
    assert both == {"coco": Path("a").absolute(), "cityscapes": Path("b").absolute()}
    for texts, expected in (
        (["a"], "expected DATASET=DIR"),
        (["mars=a"], "no data set 'mars'"),
        (["coco=a", "coco=b"], "expected one folder of coco"),
    ):
        with pytest.raises(UsageError, match=expected):
            data_folders(texts, registry)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["reproduce", CITY, "--data", ""], "--data"),
        (["reproduce", CITY, "--data="], "--data"),
        (["reproduce", CITY, "--out", ""], "--out"),
        (["reproduce", ""], "an argument"),
        (["nightly", "--out", ""], "--out"),
        (["data", "check", "minicity", "--data", ""], "--data"),
        (["report", "html", "runs", "--out="], "--out"),
        (["--registry", "", "list"], "--registry"),
    ],
)
def test_an_empty_value_is_a_wrong_call(zoo_call: Call, one_line: Call, words: list[str], named: str) -> None:
    message = one_line(zoo_call(*words), 2)
    assert message == f"{named}: expected a value, found an empty one; is a variable not set?"


def test_a_night_looks_at_its_folders_first(zoo_call: Call, one_line: Call, tmp_path: Path) -> None:
    data = f"cityscapes={tmp_path / 'missing'}"
    message = one_line(zoo_call("nightly", "--data", data, "--out", tmp_path / "out"), 3)
    assert message.startswith(f"{tmp_path / 'missing'}: does not exist")
    assert not (tmp_path / "out").exists()


def test_nothing_judged_is_said_last_and_has_a_code_of_its_own(zoo_call: Call, tmp_path: Path) -> None:
    call = ["reproduce", CITY, "--limit", 2, "--out", tmp_path]
    for words, code in ((["--json"], 0), (["--strict"], 4)):
        done = zoo_call(*call, *words)
        assert done.returncode == code
        last = done.stderr.splitlines()[-1]
        assert last.startswith(f"zoo: {CITY}: nothing judged: ")
        assert "2 of 30 images" in last
    # A folder that holds folders of runs will do for every report.
    assert zoo_call("reproduce", CITY, "--limit", 2, "--flip", "--out", tmp_path).returncode == 0
    shown = json.loads(zoo_call("report", "diff", tmp_path, "--format", "json").stdout)
    assert len(shown) >= 12
    measured = zoo_call("report", "measured", tmp_path)
    assert measured.returncode == 0
    assert "left out: " in measured.stderr
    assert "__flip" in measured.stderr


def test_what_is_not_judged() -> None:
    held = {"verdict": "match"}
    no = {"verdict": "not judged", "reason": "why"}
    assert unjudged([held, held]) is None
    assert unjudged([held, no]) == "1 of 2 claims not judged: why"
    assert unjudged([no, no]) == "nothing judged: why"
    assert unjudged([]) == "nothing judged: nothing was published for it"


def test_a_run_of_converted_weights_fetches_no_checkpoint(
    zoo_call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "network.safetensors"
    done = zoo_call("convert", CITY, weights)
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr("zoo.fetch.fetcher.Fetcher.checkpoint", None)

    done = zoo_call(
        "reproduce", CITY, "--weights", weights, "--limit", 1, "--out", tmp_path / "out", "--json"
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["checkpoint"]["url"] == weights.as_uri()

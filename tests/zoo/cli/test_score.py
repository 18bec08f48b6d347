"""`zoo score` as users call it: check, corrected copy, claims, exit codes, and what is printed where."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.fetch.fetcher import Fetcher
from zoo.registry import load_registry
from zoo.repro.datasets.opening import open_dataset

Call = Callable[..., Any]
IMAGES = 4


@pytest.fixture
def maps(tmp_path: Path, zoo_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of label ids for the first images of the bundled data set: the ground truth itself."""
    monkeypatch.setenv("ZOO_CACHE", str(zoo_cache))
    dataset = open_dataset(load_registry().dataset("minicity"), None, Fetcher())
    folder = tmp_path / "my_model"
    folder.mkdir()
    original = np.zeros(256, np.uint8)
    original[: dataset.info.num_classes] = dataset.info.original_ids
    for index, image_id in enumerate(dataset.image_ids):
        semantic = dataset.load(index, picture=False).semantic
        Image.fromarray(original[semantic]).save(folder / f"{image_id}.png")
    return folder


def test_claims_decide_the_exit_code(zoo_call: Call, maps: Path, tmp_path: Path) -> None:
    call = ["score", maps, "--dataset", "minicity", "--evaluator", "internal", "--out", tmp_path / "runs"]
    held = zoo_call(*call, "--claim", "miou=100.0", "--json")
    assert held.returncode == 0, held.stderr
    record = json.loads(held.stdout)
    assert record["entry"] is None
    assert record["predictions"]["name"] == "my_model"
    assert record["claims"][0]["evaluator"] == "internal"
    assert json.loads((tmp_path / "runs/score__my_model__internal/record.json").read_text()) == record
    claims = tmp_path / "claims.yaml"
    claims.write_text("internal: {miou: 99.90}", encoding="utf-8")
    missed = zoo_call(*call, "--claims", claims)
    assert missed.returncode == 1
    assert "99.90" in missed.stdout
    assert "mismatch" in missed.stdout
    assert "no PQ, as there are no panoptic maps" in missed.stderr
    unjudged = zoo_call(*call, "--strict")
    assert unjudged.returncode == 4
    assert unjudged.stderr.splitlines()[-1] == "zoo: my_model: nothing judged: no --claim was given"
    partial = zoo_call(*call, "--claim", "miou=99.0", "--limit", IMAGES)
    assert partial.returncode == 0
    assert "nothing judged" in partial.stderr
    shown = zoo_call("report", "diff", tmp_path / "runs", "--format", "json")
    assert {row["entry"] for row in json.loads(shown.stdout)} >= {"my_model"}


def test_findings_are_lines_and_no_number(zoo_call: Call, maps: Path, tmp_path: Path) -> None:
    call = ["score", maps, "--dataset", "minicity", "--out", tmp_path / "runs"]
    assert zoo_call(*call, "--check").returncode == 0
    first = min(maps.iterdir())
    first.write_bytes(first.read_bytes()[:100])
    checked = zoo_call(*call, "--check")
    assert checked.returncode == 3
    assert str(first) in checked.stdout
    assert json.loads(zoo_call(*call, "--check", "--json").stdout)["counts"] == {"broken-file": 1}
    done = zoo_call(*call, "--json")
    assert (done.returncode, done.stdout) == (3, "")
    assert str(first) in done.stderr
    assert "nothing was scored: broken-file 1" in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "runs").glob("score*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataset", "mars"], "no data set 'mars'"),
        (["--dataset", "minicity", "--claim", "pq"], "--claim pq: expected a metric"),
        (["--dataset", "minicity", "--claim", "ap=1", "--claim", "ap=2"], "official.ap: expected one claim"),
        (["--dataset", "minicity", "--evaluator", "mine"], "--evaluator mine: expected"),
        ([], "Missing option '--dataset'"),
        (
            ["--dataset", "minicity", "--claims", "none.yaml"],
            "none.yaml: expected a file of claims, found none",
        ),
        (
            ["--dataset", "minicity", "--fix", "{maps}/mended"],
            "mended: expected a folder outside of the pred",
        ),
    ],
)
def test_a_wrong_call_is_one_line(
    zoo_call: Call, one_line: Call, maps: Path, words: list[str], message: str
) -> None:
    words = [word.format(maps=maps) for word in words]
    assert message in one_line(zoo_call("score", maps, *words), 2)
    assert not (maps / "mended").exists()

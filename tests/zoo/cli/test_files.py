"""Commands on files: `zoo fetch`, `verify`, `load-check`, `cache` and `report diff`."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.files.cache import Cache
from zoo.files.contents import entries
from zoo.registry import load_registry

NAME = "minicity/mobilenet_v3_small_os16"

Call = Callable[..., Any]


def test_fetch_verify_and_load_check_the_bundled_entry(zoo_call: Call, zoo_cache: Path) -> None:
    done = zoo_call("fetch", NAME)
    assert (done.returncode, done.stderr) == (0, "")
    name, _, prefix = done.stdout.strip().partition(": ")
    assert name == NAME
    assert Path(f"{prefix}.index").is_file()
    assert zoo_cache in Path(prefix).parents

    fetched = json.loads(zoo_call("fetch", NAME, "--json").stdout)
    declared = load_registry().resolve(NAME).checkpoint
    assert fetched == {
        "entry": NAME,
        "checkpoint": prefix,
        "sha256": declared.sha256,
        "bytes": declared.bytes,
        "url": declared.url,
    }

    done = zoo_call("verify", NAME)
    assert done.returncode == 0, done.stderr
    assert NAME in done.stdout
    report = json.loads(zoo_call("verify", NAME, "--json").stdout)
    assert declared.sha256 in json.dumps(report)

    done = zoo_call("load-check", NAME)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    receipt = json.loads(zoo_call("load-check", NAME, "--json").stdout)
    assert receipt["ok"] is True
    assert receipt["missing"] == receipt["different_shape"] == receipt["unused"] == []
    assert receipt["archive_sha256"] == declared.sha256

    # The same checkpoint by its path, and something that is none.
    assert zoo_call("load-check", NAME, "--checkpoint", prefix).returncode == 0
    done = zoo_call("load-check", NAME, "--checkpoint", f"{prefix}-not")
    assert done.returncode == 3
    assert done.stderr.startswith("zoo: error: ")


def test_cache_show_and_prune(zoo_call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cache = tmp_path / "cache of its own"
    monkeypatch.setenv("ZOO_CACHE", str(cache))
    empty = json.loads(zoo_call("cache", "show", "--json").stdout)
    assert (empty["root"], empty["bytes"]) == (str(cache), 0)
    assert zoo_call("fetch", NAME).returncode == 0

    filled = json.loads(zoo_call("cache", "show", "--json").stdout)
    assert filled["bytes"] > 9_000_000
    done = zoo_call("cache", "show")
    assert (done.returncode, done.stderr) == (0, "")
    assert str(cache) in done.stdout
    assert "checkpoints" in done.stdout

    dry = json.loads(zoo_call("cache", "prune", "--dry-run", "--json").stdout)
    assert (dry["dry_run"], dry["freed_bytes"]) == (True, filled["bytes"])
    assert json.loads(zoo_call("cache", "show", "--json").stdout) == filled
    none = json.loads(zoo_call("cache", "prune", "--older-than-days", 1, "--json").stdout)
    assert (none["removed"], none["freed_bytes"]) == ([], 0)
    done = zoo_call("cache", "prune", "checkpoints")
    assert done.returncode == 0
    assert "removed" in done.stdout
    assert not any(
        filled["kinds"]["checkpoints"]["entries"][0]["name"] in str(path) for path in cache.glob("c*/*")
    )
    refused = zoo_call("cache", "prune")
    assert refused.returncode == 2
    assert "expected --yes" in refused.stderr
    zoo_call("cache", "prune", "--yes")
    assert json.loads(zoo_call("cache", "show", "--json").stdout)["bytes"] == 0


@pytest.mark.parametrize(("answer", "left"), [("n\n", 1), ("y\n", 0)])
def test_prune_asks_on_a_terminal(
    zoo_call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str, left: int
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    (Cache(tmp_path).folder("downloads") / "file").write_bytes(b"1234")
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    done = zoo_call("cache", "prune")
    assert (done.returncode, "4 B?" in done.stderr) == (0, True)
    assert len(entries(Cache(tmp_path))) == left


@pytest.mark.parametrize("days", ["-3", "nan"])
def test_prune_refuses_an_age_that_is_none(
    zoo_call: Call, one_line: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, days: str
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    (Cache(tmp_path).folder("downloads") / "file").write_bytes(b"1234")
    assert "expected 0 or more" in one_line(zoo_call("cache", "prune", f"--older-than-days={days}"), 2)
    assert len(entries(Cache(tmp_path))) == 1


@pytest.fixture
def record(tmp_path: Path) -> Path:
    claims = [
        {
            "metric": "pq",
            "evaluator": "official",
            "published": 74.2,
            "decimals": 1,
            "tolerance": 0.2,
            "measured": 74.16493662953422,
            "difference": 74.16493662953422 - 74.2,
            "verdict": "match",
        }
    ]
    folder = tmp_path / "minicity__mobilenet_v3_small_os16"
    folder.mkdir()
    whole = {"schema": 1, "entry": NAME, "images": 30, "images_in_dataset": 30, "metrics": {}}
    (folder / "record.json").write_text(json.dumps({**whole, "claims": claims}))
    return folder


def test_report_diff_in_every_format(zoo_call: Call, record: Path) -> None:
    outputs = {}
    for form in ("terminal", "markdown", "csv", "json"):
        for path in (record, record / "record.json"):
            done = zoo_call("report", "diff", path, "--format", form)
            assert (done.returncode, done.stderr) == (0, "")
            outputs[form] = done.stdout
    assert outputs["markdown"].splitlines()[1].startswith("| ---")
    (row,) = csv.DictReader(io.StringIO(outputs["csv"]))
    (claim,) = json.loads(outputs["json"])
    assert float(row["measured"]) == claim["measured"] == 74.16493662953422
    assert (row["entry"], claim["entry"]) == (NAME, NAME)
    for form in ("terminal", "markdown"):
        assert "74.16" in outputs[form]
        assert "match" in outputs[form]
    assert zoo_call("report", "diff", record).stdout == outputs["terminal"]
    several = zoo_call("report", "diff", record, record, "--format", "json")
    assert len(json.loads(several.stdout)) == 2


def test_report_of_what_is_no_record(zoo_call: Call, one_line: Call, tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("{}")
    assert "not a run record" in one_line(zoo_call("report", "diff", tmp_path / "notes.json"), 3)
    for command in ("diff", "measured"):
        assert "no run record there" in one_line(zoo_call("report", command, tmp_path / "nowhere"), 3)

"""A night whose runs share the workers of one Ray."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.skipif(os.name != "posix", reason="process groups"),
]


ENTRIES = [f"{name}/mobilenet_v3_small_os16" for name in ("minicity", "minicoco")]


def test_two_runs_share_the_workers(zoo_command: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "nights"
    words = ["nightly", *ENTRIES, "--out", str(out), "--date", "2026-11-25", "--limit", "1", "--json"]
    run = zoo_command(*words, "--ray", "local", "--actors", "1", "--cpus-per-actor", "1")
    summary = json.loads(run.stdout)
    assert [row["result"] for row in summary["entries"]] == ["not judged"] * 2
    # Both begin before one has ended, and each on the one Ray, which has ended with the night.
    lines = run.stderr.splitlines()
    assert [line.split()[1] for line in lines[:2]] == ["1", "2"]
    for path in out.glob("2026-11-25/*/record.json"):
        assert json.loads(path.read_text())["workers"]["actors"] == 1
    left = [
        process for process in psutil.process_iter(["cmdline"]) if str(out) in str(process.info["cmdline"])
    ]
    assert left == []

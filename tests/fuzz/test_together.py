"""Several at once: processes on one cache, a prune during a run, a clock that jumps back."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from replies import RawServer, whole

NAME = "minicity/mobilenet_v3_small_os16"
PROCESSES = 8


def test_eight_processes_and_a_prune_on_one_cache(
    zoo_start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    archive = resources.files("zoo.assets").joinpath("minicity_mobilenet_v3_small_os16.tar.gz")
    server = RawServer()
    server.replies = whole(archive.read_bytes())
    own = tmp_path / "own.yaml"
    own.write_text(
        f"entries:\n  own/net: {{extends: {NAME}, dataset: minicity, title: Mine, "
        f"checkpoint: {server.url}/net.tar.gz}}\n"
    )
    cache = tmp_path / "cache"
    start = partial(zoo_start, environment={"ZOO_CACHE": str(cache), "NO_PROXY": "127.0.0.1"})
    fetch = ("--registry", own, "fetch", "own/net", "--json")

    processes = [start(*fetch) for _ in range(PROCESSES)]
    prune = start("cache", "prune", "--yes", "--json")
    prune_err = prune.communicate()[1]
    assert prune.returncode == 0, prune_err
    found = [process.communicate() for process in processes]
    for process, (out, err) in zip(processes, found, strict=True):
        assert process.returncode in (0, 3), err
        assert "Traceback" not in err
        assert "this is a defect" not in err
        if process.returncode == 3:
            # What a prune took away under its hands is said.
            assert err.splitlines()[-1].startswith("zoo: error: "), err
        else:
            assert json.loads(out)["sha256"] == json.loads(found[-1][0] or out)["sha256"]
    last = start(*fetch)
    out, err = last.communicate()
    assert last.returncode == 0, err
    prefix = Path(json.loads(out)["checkpoint"])
    assert prefix.with_name(f"{prefix.name}.index").is_file()
    assert not [path for path in cache.rglob("*") if path.suffix in (".part", ".unfinished")]
    server.close()


def test_a_prune_and_a_second_run_during_a_run_cost_one_line_at_most(
    zoo_call: Callable[..., Any],
    zoo_command: Callable[..., Any],
    one_line: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from zoo.files.cache import Cache
    from zoo.files.contents import prune
    from zoo.repro.records.run_folder import RunFolder

    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    words = ("reproduce", NAME, "--limit", 3, "--out", tmp_path / "runs", "--json")
    undisturbed = json.loads(zoo_call(*words).stdout)
    write, pruned, second = RunFolder.write_statistics, [], []

    def write_and_prune(self: RunFolder, image_id: str, arrays: Any) -> None:
        write(self, image_id, arrays)
        if not pruned:
            second.append(zoo_command(*words))
            pruned.append(prune(Cache()))

    monkeypatch.setattr(RunFolder, "write_statistics", write_and_prune)
    disturbed = zoo_call(*words)
    assert "another process is running there" in one_line(second[0], 3)
    assert pruned[0].removed
    assert disturbed.returncode in (0, 3), disturbed.stderr
    assert "this is a defect" not in disturbed.stderr
    if disturbed.returncode:
        assert disturbed.stderr.splitlines()[-1].startswith("zoo: error: ")
    again = zoo_call(*words)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["metrics"] == undisturbed["metrics"]


def test_a_clock_that_jumps_back_removes_nothing_that_is_new(
    zoo_call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    assert zoo_call("fetch", NAME).returncode == 0
    in_a_year = time.time() + 365 * 86400
    for path in (tmp_path / "cache").rglob("*"):
        os.utime(path, (in_a_year, in_a_year))
    pruned = json.loads(zoo_call("cache", "prune", "--older-than-days", 0, "--json").stdout)
    assert pruned["removed"] == []
    assert zoo_call("fetch", NAME).returncode == 0

"""A run that is interrupted, killed and damaged goes on, and ends as one that nothing disturbed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.repro.records.run_folder import RunFolder

NAME = "minicity/mobilenet_v3_small_os16"
FOLDER = "minicity__mobilenet_v3_small_os16"
IMAGES = 30

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Whole = Any  # Of conftest.py: an undisturbed run over all images.

# Beside the run that all of these files compare with.
pytestmark = pytest.mark.xdist_group("minicity")


def without_timings(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in ("timings", "efficiency")}


def stop(process: subprocess.Popen[str], images: Path, count: int, number: signal.Signals) -> str:
    """Waits until `count` records are there, sends the signal to all processes of the run, returns stderr."""
    while len(list(images.glob("*.npz"))) < count:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    os.killpg(process.pid, number)
    return process.communicate()[1]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_stopped_run_goes_on_and_ends_the_same(
    whole: Whole, zoo_start: Callable[..., Any], zoo_call: Run, tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / f"{FOLDER}.unfinished")

    # Control-C: what the numbers are so far, the error, and what was computed is kept.
    process = zoo_start("reproduce", NAME, "--out", tmp_path)
    stderr = stop(process, folder.images, 4, signal.SIGINT)
    kept = sorted(path.stem for path in folder.images.glob("*.npz"))
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1].startswith(f"zoo: error: {NAME}: interrupted with {len(kept)} of {IMAGES}")
    so_far = stderr.splitlines()[-2]
    assert so_far.startswith(f"zoo: {len(kept)} of {IMAGES} images so far: PQ ")
    assert ("95 % intervals" in so_far) == (len(kept) >= 5)
    assert 4 <= len(kept) < IMAGES
    assert not (folder.root / "record.json").exists()

    # Killed in the middle.
    before = {path.name: path.stat().st_mtime_ns for path in folder.images.glob("*.npz")}
    process = zoo_start("reproduce", NAME, "--out", tmp_path)
    stop(process, folder.images, max(8, len(kept) + 4), signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (folder.root / "record.json").exists()
    assert {name: (folder.images / name).stat().st_mtime_ns for name in before} == before
    kept = sorted(path.stem for path in folder.images.glob("*.npz"))
    assert 8 <= len(kept) < IMAGES

    # A record damaged by a power cut, and a prediction that is gone.
    damaged = folder.images / f"{kept[2]}.npz"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    (folder.predictions / "panoptic" / f"{kept[5]}.json").unlink()

    done = zoo_call("reproduce", NAME, "--out", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert f"resuming a run with {len(kept) - 2} image" in done.stderr
    assert record["timings"]["images_computed"] == IMAGES - len(kept) + 2
    assert without_timings(record) == whole.without_timings
    for path in sorted((whole.folder / "images").iterdir()):
        assert (tmp_path / FOLDER / "images" / path.name).read_bytes() == path.read_bytes()

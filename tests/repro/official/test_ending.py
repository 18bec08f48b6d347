"""Scripts end with the run: when it is closed, gives them up, or is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import EvaluationError
from zoo.repro.cityscapes.script_jobs import MAKE_PANOPTIC
from zoo.repro.official.jobs import Jobs


def job_without_end(tmp_path: Path) -> dict[str, Any]:
    """A job whose script waits for ground truth that never comes."""
    city = tmp_path / "truth/val/town"
    city.mkdir(parents=True)
    (tmp_path / "output").mkdir()
    os.mkfifo(city / "town_000000_000000_gtFine_instanceIds.png")
    paths = {"ground_truth": str(tmp_path / "truth"), "output": str(tmp_path / "output")}
    return {**MAKE_PANOPTIC, "split": "val", **paths}


def wait_for(condition: Callable[[], Any]) -> Any:
    while not (found := condition()):
        time.sleep(0.02)
    return found


def script_waits(tmp_path: Path) -> bool:
    log = tmp_path / "jobs/job/log.txt"
    return log.exists() and "Converting 1 annotation files" in log.read_text()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_closing_ends_scripts_that_run(tmp_path: Path) -> None:
    jobs, job = Jobs(tmp_path / "jobs"), job_without_end(tmp_path)
    errors: list[str] = []

    def run() -> None:
        try:
            jobs.run("job", job, patience_s=3600)
        except EvaluationError as error:
            errors.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    wait_for(lambda: script_waits(tmp_path))
    jobs.close()
    thread.join()
    assert len(errors) == 1
    assert "the run ended" in errors[0]
    with pytest.raises(EvaluationError, match="not started because the run ended"):
        jobs.run("job", job, patience_s=3600)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_script_that_hangs_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="createPanopticImgs: was ended after 1 s"):
        Jobs(tmp_path / "jobs").run("job", job_without_end(tmp_path), patience_s=1.0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_scripts_end_when_the_run_is_killed(tmp_path: Path) -> None:
    job = job_without_end(tmp_path)
    program = (
        "from pathlib import Path; from zoo.repro.official.jobs import Jobs; "
        f"Jobs(Path({str(tmp_path / 'jobs')!r})).run('job', {job!r}, patience_s=3600)"
    )
    run = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path)
    try:
        wait_for(lambda: script_waits(tmp_path))
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
        (script,) = map(int, children.read_text().split())
    finally:
        run.kill()
        run.wait()

    def is_gone() -> bool:
        status = Path(f"/proc/{script}/stat")
        try:
            return status.read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except FileNotFoundError:
            return True

    wait_for(is_gone)

"""A run whose images are dealt to workers gives what one process gives, whoever dies."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from zoo.files.processes import available_cores
from zoo.repro.predictions.predictions import PredictedImage, ScoredSegments
from zoo.repro.run.image_pass import LocalPass, Measured, WorkerPass
from zoo.repro.run.scores import InternalScores

pytestmark = pytest.mark.xdist_group("ray")

NAME = "minicity/mobilenet_v3_small_os16"
FOLDER = "minicity__mobilenet_v3_small_os16"
IMAGES = 30

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def without_timings(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in ("timings", "efficiency", "workers")}


def files_of(folder: Path) -> dict[str, bytes]:
    parts = ("images", "predictions", "pictures")
    paths = [path for part in parts for path in (folder / part).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


class Moved(LocalPass):
    """Predicts the ground truth, moved by some pixels, after a wait that a seed decides; one image kills."""

    def __init__(self, dataset: Any, folder: Any, poison: str = "") -> None:
        super().__init__(dataset, folder, InternalScores(dataset.info))
        self.poison = poison
        self.about = {
            "post_processing": {},
            "device": {"kind": "cpu", "replicas": 1, "names": []},
            "receipt": {},
        }

    def _measure(self, indices: Iterator[int]) -> Generator[Measured, None, None]:
        yield from map(self.evaluate, indices)

    def evaluate(self, index: int) -> Measured:
        sample = self._read(index)
        time.sleep(random.Random(sample.image_id).random() / 10)
        if sample.image_id == self.poison:
            os.kill(os.getpid(), signal.SIGKILL)
        move = 1 + index % 7
        panoptic, semantic = (np.roll(each, move, (0, 1)) for each in (sample.panoptic, sample.semantic))
        info = self._dataset.info
        labels = np.unique(panoptic)
        things = labels[np.isin(labels // info.label_divisor, info.thing_class_ids)]
        # Equal scores count in the order of the images.
        scored = ScoredSegments(things, np.full(len(things), 0.5, np.float32))
        return self._keep(sample, PredictedImage(sample.image_id, panoptic, semantic, scored, None))


@dataclass(frozen=True)
class MakeMoved:
    open_dataset: Callable[[], Any]
    poison: str = ""

    def __call__(self) -> WorkerPass:
        return WorkerPass(partial(Moved, self.open_dataset(), poison=self.poison))


@pytest.fixture
def by_value() -> Iterator[None]:
    """Sends the functions of this file to workers as they are, since they cannot import it."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def moved(by_value: None, zoo_call: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Returns a function that runs `zoo reproduce` with predictions of `Moved`."""

    def run(*arguments: object, entry: str = NAME, poison: str = "") -> Any:
        place = "zoo.repro.run.reproduce"
        monkeypatch.setattr(f"{place}.Pipeline", lambda entry, dataset, *_: Moved(dataset, _[-1]))
        monkeypatch.setattr(f"{place}.MakePipeline", lambda *of: MakeMoved(of[2], poison))
        return zoo_call("reproduce", entry, *arguments, "--json")

    return run


@pytest.mark.parametrize("entry", ["minicity", "minicoco"])
def test_the_record_is_that_of_one_process(
    three_nodes: Any, moved: Callable[..., Any], tmp_path: Path, entry: str
) -> None:
    name = f"{entry}/mobilenet_v3_small_os16"
    one = json.loads(moved("--out", tmp_path / "one", entry=name).stdout)
    files = files_of(tmp_path / "one" / f"{entry}__mobilenet_v3_small_os16")
    assert 5 < one["metrics"]["internal"]["pq"] < 95
    for actors in (1, 2, 3, 5) if entry == "minicity" else (3,):
        out = tmp_path / str(actors)
        options = ["--ray", three_nodes.address, "--actors", actors, "--cpus-per-actor", 1]
        done = moved("--out", out, *options, entry=name)
        record = json.loads(done.stdout)
        assert without_timings(record) == without_timings(one)
        assert files_of(out / f"{entry}__mobilenet_v3_small_os16") == files
        assert record["workers"]["actors"] == actors
        assert all(line.startswith("zoo: ") for line in done.stderr.splitlines()), done.stderr
        assert f"zoo: images: {record['images']} of {record['images']}" in done.stderr


def test_an_image_that_kills_its_process_is_named_or_left_out(
    three_nodes: Any, moved: Callable[..., Any], tmp_path: Path
) -> None:
    poison = "frankfurt_000007_000019"
    options = ["--ray", three_nodes.address, "--actors", 2, "--cpus-per-actor", 1, "--out", tmp_path]
    done = moved(*options, poison=poison)
    assert done.returncode == 3
    message = done.stderr.splitlines()[-1]
    assert message.startswith(f"zoo: error: {poison}: failed 3 times, last on ")
    assert message.endswith(": the process that worked on it died; --keep-going leaves such images out")
    # All others are there, and the next run goes on with them.
    kept = len(list((tmp_path / f"{FOLDER}.unfinished" / "images").glob("*.npz")))
    assert 0 < kept < IMAGES

    done = moved(*options, "--keep-going", poison=poison)
    record = json.loads(done.stdout)
    assert f"resuming a run with {kept} image" in done.stderr
    assert record["images"] == IMAGES - 1
    assert list(record["skipped"]) == [poison]
    assert record["timings"]["images_computed"] == IMAGES - 1 - kept
    assert {claim["verdict"] for claim in record["claims"]} == {"not judged"}


# ---- with the network itself ----


def worker_processes(cluster: Any) -> list[psutil.Process]:
    """Returns the processes of all workers of ours on a cluster."""
    found = []
    for node in cluster.list_all_nodes():
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        for process in raylet.children(recursive=True):
            # One may end while we look.
            with suppress(psutil.Error):
                found += [process] * any("ray::Worker" in word for word in process.cmdline()[:1])
    return found


def wait_until(holds: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    end = time.monotonic() + 900
    while not holds():
        assert time.monotonic() < end
        assert process is None or process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_run_goes_on_after_its_workers_and_itself_were_killed(
    three_nodes: Any, zoo_start: Callable[..., Any], zoo_call: Run, tmp_path: Path
) -> None:
    threads = int(os.environ.get("TF_NUM_INTRAOP_THREADS", available_cores()))
    words = ["reproduce", NAME, "--out", tmp_path]
    words += ["--ray", three_nodes.address, "--actors", 2, "--cpus-per-actor", threads]
    images = tmp_path / f"{FOLDER}.unfinished" / "images"

    def done() -> int:
        return len(list(images.glob("*.npz")))

    # A worker is killed, then Control-C.
    process = zoo_start(*words)
    wait_until(lambda: done() >= 2, process)
    random.Random(0).choice(worker_processes(three_nodes)).kill()
    wait_until(lambda: done() >= 8, process)
    os.killpg(process.pid, signal.SIGINT)
    stderr = process.communicate()[1]
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert "zoo: a worker on " in stderr
    assert stderr.splitlines()[-1].startswith(f"zoo: error: {NAME}: interrupted with {done()} of {IMAGES}")
    wait_until(lambda: not worker_processes(three_nodes))

    # The run's own process is killed: the workers end by themselves.
    before = done()
    process = zoo_start(*words)
    wait_until(lambda: done() >= before + 4, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    wait_until(lambda: not worker_processes(three_nodes))

    kept = done()
    assert before + 4 <= kept < IMAGES
    finished = zoo_call("reproduce", NAME, "--out", tmp_path, "--json")
    assert finished.returncode == 0, finished.stderr
    record = json.loads(finished.stdout)
    assert record["timings"]["images_computed"] == IMAGES - kept

    whole = json.loads(zoo_call("reproduce", NAME, "--out", tmp_path / "whole", "--json").stdout)
    assert without_timings(record) == without_timings(whole)
    assert files_of(tmp_path / FOLDER) == files_of(tmp_path / "whole" / FOLDER)

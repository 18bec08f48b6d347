"""Checks at length what runs on workers of Ray promise, on this machine's loopback.

    python bench/workers.py records            # both bundled entries with 1, 2, 3 and 5 workers, three nodes
    python bench/workers.py kills --count 20   # a worker, a node or the run itself is killed, 20 times
    python bench/workers.py memory             # what the run's process holds over 5,000 images

Each prints what it found, and ends with an error where a record, a file or a process is not as it should be.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
from zoo.repro.cluster.connection import import_ray

ENTRIES = ("minicity/mobilenet_v3_small_os16", "minicoco/mobilenet_v3_small_os16")
# One thread for each network.
ENVIRONMENT = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


def three_nodes() -> Any:
    """Starts a cluster of three nodes with two CPUs each."""
    import_ray()
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    for _ in range(3):
        add_node(cluster)
    return cluster


def add_node(cluster: Any) -> Any:
    return cluster.add_node(num_cpus=2, node_ip_address="127.0.0.1", include_dashboard=False)


def start(entry: str, out: Path, *options: object) -> subprocess.Popen[str]:
    words = ["reproduce", entry, "--out", out, "--json", *options]
    return subprocess.Popen(
        [sys.executable, "-m", "zoo", *map(str, words)],
        env=ENVIRONMENT,
        cwd=tempfile.gettempdir(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate()
    assert process.returncode == 0, err
    record = json.loads(out)
    return {key: value for key, value in record.items() if key not in ("timings", "efficiency", "workers")}


def files_of(folder: Path) -> dict[str, bytes]:
    parts = ("images", "predictions", "pictures")
    paths = [path for part in parts for path in (folder / part).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def workers_of(cluster: Any) -> list[psutil.Process]:
    raylets = [
        psutil.Process(node.all_processes["raylet"][0].process.pid) for node in cluster.list_all_nodes()
    ]
    found = []
    for process in (child for raylet in raylets for child in raylet.children(recursive=True)):
        # It may end meanwhile.
        with suppress(psutil.Error):
            if "ray::Worker" in "".join(process.cmdline()[:1]):
                found.append(process)
    return found


def wait_until(holds: Callable[[], object], limit_s: float = 300) -> float:
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < limit_s, "waited too long"
        time.sleep(0.01)
    return time.monotonic() - began


def check_records(options: argparse.Namespace) -> None:
    cluster = three_nodes()
    for entry in ENTRIES:
        with tempfile.TemporaryDirectory() as folder:
            name = entry.replace("/", "__")
            one = finish(start(entry, Path(folder) / "one"))
            files = files_of(Path(folder) / "one" / name)
            for actors in (1, 2, 3, 5):
                out, began = Path(folder) / str(actors), time.monotonic()
                asked = ["--ray", cluster.address, "--actors", actors, "--cpus-per-actor", 1]
                assert finish(start(entry, out, *asked)) == one, (entry, actors)
                assert files_of(out / name) == files, (entry, actors)
                print(f"{entry}, {actors} workers: equal, {time.monotonic() - began:.0f} s", flush=True)
    cluster.shutdown()


def check_kills(options: argparse.Namespace) -> None:
    cluster, choose = three_nodes(), random.Random(options.seed)
    entry, folder = ENTRIES[0], Path(tempfile.mkdtemp())
    name = entry.replace("/", "__")
    one = finish(start(entry, folder / "one"))
    files = files_of(folder / "one" / name)
    out, images = folder / "killed", folder / "killed" / f"{name}.unfinished" / "images"
    asked = ["--ray", cluster.address, "--actors", 3, "--cpus-per-actor", 1]
    killed, process = 0, start(entry, out, *asked)
    while killed < options.count:
        at = len(list(images.glob("*.npz"))) + choose.randint(1, 12)
        wait_until(
            lambda at=at, process=process: process.poll() is not None or len(list(images.glob("*.npz"))) >= at
        )
        if process.poll() is None:
            what = choose.choice(["worker", "worker", "node", "run"])
            print(f"kill {killed + 1}: a {what} at {at} images", flush=True)
            killed += 1
            if what == "worker" and (workers := workers_of(cluster)):
                choose.choice(workers).kill()
            elif what == "node":
                cluster.remove_node(choose.choice(sorted(cluster.worker_nodes, key=id)), allow_graceful=False)
                add_node(cluster)
            elif what == "run":
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
                print(
                    f"  its workers ended after {wait_until(lambda: not workers_of(cluster)):.1f} s",
                    flush=True,
                )
                process = start(entry, out, *asked)
            continue
        assert finish(process) == one
        assert files_of(out / name) == files
        print("  a run is complete, and equal", flush=True)
        process = start(entry, out, "--restart", *asked)
    assert finish(process) == one
    assert files_of(out / name) == files
    wait_until(lambda: not workers_of(cluster))
    children = psutil.Process().children(recursive=True)
    cluster.shutdown()
    psutil.wait_procs(children, timeout=60)
    assert not [child for child in children if child.is_running()]
    print(f"{killed} kills: the record and all files are equal, and no process is left")


class Statistics:
    """Returns the files of a real image under every name."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files

    def __call__(self, image_id: str) -> Any:
        from zoo.repro.run.image_pass import Evaluated

        files = {name.replace("IMAGE", image_id): content for name, content in self.files.items()}
        return Evaluated(files, {}, [])


def check_memory(options: argparse.Namespace) -> None:
    from ray import cloudpickle

    from zoo.repro.cityscapes.classes import CITYSCAPES
    from zoo.repro.cluster.crew import Crew
    from zoo.repro.cluster.workers import Workers
    from zoo.repro.records.run_folder import RunFolder
    from zoo.repro.run.image_pass import CrewPass
    from zoo.repro.run.scores import InternalScores

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    folder = Path(tempfile.mkdtemp())
    finish(start(ENTRIES[0], folder, "--limit", 1))
    (run,) = folder.glob("minicity*")
    (image,) = (path.stem for path in (run / "images").glob("*.npz"))
    files = {
        name.replace(image, "IMAGE"): content for name, content in files_of(run).items() if image in name
    }

    class Named:
        info = CITYSCAPES
        image_ids = tuple(f"image_{number:06d}" for number in range(options.images))

        def __len__(self) -> int:
            return len(self.image_ids)

    crew = Crew(partial(Statistics, files), Workers("local", actors=2, cpus_per_actor=1), at_once=3)
    target = RunFolder(folder / "many")
    images = CrewPass(Named(), target, InternalScores(CITYSCAPES), crew, keep_going=False)  # type: ignore[arg-type]
    measured = images._measure(iter(range(options.images)))
    began, process = time.monotonic(), psutil.Process()
    for number, _ in enumerate(measured, 1):
        if number in (1, 100) or number % (options.images // 5) == 0:
            size = process.memory_info().rss / 2**20
            print(f"{number:6,} images: {size:,.0f} MiB, {time.monotonic() - began:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["records", "kills", "memory"])
    parser.add_argument("--count", type=int, default=20, help="how often something is killed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=5000)
    options = parser.parse_args()
    {"records": check_records, "kills": check_kills, "memory": check_memory}[options.what](options)


if __name__ == "__main__":
    main()

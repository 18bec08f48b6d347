"""Measures the figures of bench/cluster_model.py: all that a run does besides its network.

    python bench/cluster_figures.py

Writes bench/cluster_figures.json. Draws scenes at the data sets' sizes, reproduces the bundled networks on
them, and runs the official scripts on one core, on one image and on many. Needs an idle machine.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import reproduce
import reproduce_coco
from cluster_model import FIGURES
from draw_coco import draw_coco
from draw_scenes import draw_dataset

from zoo.network.devices import describe_processor
from zoo.registry import load_registry
from zoo.repro.cluster.connection import connected
from zoo.repro.cluster.crew import Crew
from zoo.repro.cluster.workers import LOCAL, Workers
from zoo.repro.datasets.opening import open_dataset
from zoo.repro.datasets.predictions import prediction_files
from zoo.repro.official.scripts import start_official
from zoo.repro.records.run_folder import RunFolder
from zoo.repro.run.image_pass import CrewPass, Evaluated
from zoo.repro.run.images import choose_images
from zoo.repro.run.pipeline import MakePipeline, find_weights
from zoo.repro.run.reproduce import reproduce_entry
from zoo.repro.run.scores import InternalScores
from zoo.repro.run.settings import RunSettings

# Data set: entry, its registry, how it is drawn, how many images of how many.
CASES: dict[str, tuple[str, str, Any, int, int]] = {
    "cityscapes": (
        "drawn/bundled",
        reproduce.REGISTRY,
        partial(draw_dataset, height=1024, width=2048),
        8,
        500,
    ),
    "coco": ("drawn/coco", reproduce_coco.REGISTRY, partial(draw_coco, height=480, width=640), 60, 5000),
}
WORK = ("read_s", "post_processing_s", "statistics_s", "write_s")
# Ethernet at one gigabit; what a cluster has, not what was measured.
LINK_BYTES_PER_S = 1.25e8


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Returns the figures of a data set."""
    entry_name, declared, draw, count, images = CASES[name]
    data, path = folder / name, folder / f"{name}.yaml"
    draw(data, count=count, seed=1)
    path.write_text(declared.format(count=count), encoding="utf-8")
    registry = load_registry([path])
    entry, settings = registry.resolve(entry_name), RunSettings()
    start = time.perf_counter()
    dataset = open_dataset(registry.dataset("drawn"), data)
    choose_images(name, dataset, limit=None, keep_going=False)
    dataset.fingerprint()
    prepare_s = time.perf_counter() - start
    record = reproduce_entry(entry, registry=registry, data=data, out=folder / "runs", settings=settings)
    run, timings = folder / "runs" / settings.folder_name(entry.name), record["timings"]
    ids = dataset.image_ids
    alone: dict[int, float] = {}
    joined: dict[int, float] = {}
    for few in (1, count):
        times, work = [time.perf_counter()], folder / f"{name}{few}"
        with start_official(dataset, ids[:few], run / "predictions", work, 1) as official:
            found = official.finish_part()
        times.append(time.perf_counter())
        with start_official(dataset, ids[:few], run / "predictions", work, 1) as official:
            official.take_part(0, found)
            official.finish()
        times.append(time.perf_counter())
        joined[few] = times[2] - times[1]
        # A part ends with adding up too.
        alone[few] = times[1] - times[0]
    merge_s = max(0.0, joined[count] - joined[1]) / (count - 1)
    # The scripts run beside each other, on as many cores as there are.
    scripts = min(os.cpu_count() or 1, len(found))
    official_s = scripts * (alone[count] - alone[1]) / (count - 1)
    files = [path for image_id in ids for path in prediction_files(run / "predictions", image_id)]
    files += (run / "images").glob("*")
    return {
        "images": images,
        "image_work_s": sum(timings[stage] for stage in WORK) / count,
        "prepare_s": prepare_s / count * images,
        "official_s": official_s,
        "official_start_s": scripts * alone[1] - official_s,
        "merge_s": merge_s,
        "tail_s": joined[1] + timings["pictures_s"] + timings["internal_s"] / count * images,
        "bytes_in": sum(path.stat().st_size for path in data.rglob("*") if path.is_file()) // count,
        "bytes_out": sum(path.stat().st_size for path in files) // count,
        "official_bytes": sum(map(len, found.values())) // count,
    }


def measure_start() -> tuple[float, float, float]:
    """Returns seconds: until Ray has started, until a worker has, and of the driver for each image."""
    registry = load_registry()
    entry = registry.resolve("minicity/mobilenet_v3_small_os16")
    open_bundled = partial(open_dataset, registry.dataset("minicity"), None)
    dataset, settings = open_bundled(), RunSettings()
    from zoo.fetch.fetcher import Fetcher

    weights, _ = find_weights(entry, settings, Fetcher())
    make = MakePipeline(entry, settings, open_bundled, weights.sha256)
    start = time.perf_counter()
    with connected(Workers(LOCAL)), tempfile.TemporaryDirectory() as name:
        ray_s = time.perf_counter() - start
        start = time.perf_counter()
        crew = Crew[str, Evaluated](make, Workers(LOCAL, actors=1), at_once=3)
        worker_s = time.perf_counter() - start
        scores = InternalScores(dataset.info)
        taken = CrewPass(dataset, RunFolder(Path(name)), scores, crew, keep_going=False)
        cpu_s = time.process_time()
        taken.run(dataset.image_ids)
        driver_s = (time.process_time() - cpu_s) / len(dataset)
    return ray_s, worker_s, driver_s


def main() -> None:
    ray_s, worker_s, driver_s = measure_start()
    with tempfile.TemporaryDirectory(prefix="zoo-figures-") as name:
        datasets = {case: measure(case, Path(name)) for case in CASES}
    figures = {
        "machine": ", ".join(describe_processor()["names"]),
        "cores_of_a_worker": os.cpu_count(),
        "ray_start_s": ray_s,
        "worker_start_s": worker_s,
        "driver_s": driver_s,
        "link_bytes_per_s": LINK_BYTES_PER_S,
        "datasets": datasets,
    }
    rounded = json.loads(json.dumps(figures), parse_float=lambda text: float(f"{float(text):.3g}"))
    FIGURES.write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")
    print(FIGURES.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

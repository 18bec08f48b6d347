"""Times passes on a cluster with a wait in the place of the network, and checks bench/cluster_model.py so.

    python bench/cluster.py                # overhead of Ray, and the driver's memory
    python bench/cluster.py --check        # wall times of 1, 2, 3 and 4 workers, against the model's

Small drawn scenes, the bundled network's first maps for each of them, and everything else as in any run: so a
machine with few cores can have more workers than cores. Needs an idle machine. Ends with 1 where a figure is
out of its bounds.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from cluster_model import Pass, simulate
from draw_scenes import draw_dataset

import zoo.repro.run.pipeline as pipeline
import zoo.repro.run.reproduce as reproduce
from zoo.fetch.fetcher import Fetcher
from zoo.registry import load_registry
from zoo.repro.cluster.connection import connected
from zoo.repro.cluster.crew import Crew, Dealt
from zoo.repro.cluster.workers import LOCAL, Workers
from zoo.repro.datasets.opening import open_dataset
from zoo.repro.records.run_folder import RunFolder
from zoo.repro.run.image_pass import CrewPass, Evaluated, WorkerPass
from zoo.repro.run.scores import InternalScores
from zoo.repro.run.settings import RunSettings

ENTRY = "drawn/waiting"
REGISTRY = """\
version: 1
datasets:
  drawn: {{title: drawn scenes, format: cityscapes, split: val, images: {count}}}
entries:
  drawn/waiting: {{extends: minicity/mobilenet_v3_small_os16, dataset: drawn}}
"""
WAIT_S = 0.5
FASTER_BY, DEARER_BY, OFF_BY = 3.6, 1.15, 0.15
STATISTICS_IMAGES = 5000


class Waiting(pipeline.Pipeline):
    """Computes the maps of the first image; all others get the same after a wait."""

    _kept: Any = None

    def _maps(self, samples: Sequence[Any]) -> list[Any]:
        if self._kept is None:
            self._kept = super()._maps(samples[:1])
        time.sleep(WAIT_S * len(samples))
        return [*self._kept] * len(samples)


class MakeWaiting(pipeline.MakePipeline):
    """Makes a worker that waits."""

    def __call__(self) -> WorkerPass:
        pipeline.Pipeline = Waiting  # type: ignore[misc]
        return super().__call__()


class Bench:
    """The drawn data set, and runs over it."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.data, self.count = folder, folder / "data", count
        draw_dataset(self.data, count=count, height=256, width=512, seed=1)
        path = folder / "registry.yaml"
        path.write_text(REGISTRY.format(count=count), encoding="utf-8")
        self.registry = load_registry([path])
        self.entry = self.registry.resolve(ENTRY)
        self.open = partial(open_dataset, self.registry.dataset("drawn"), self.data)
        self.dataset = self.open(Fetcher())
        self.weights = Fetcher().checkpoint(self.entry)

    def make_worker(self) -> MakeWaiting:
        """Returns what makes workers that wait."""
        return MakeWaiting(self.entry, RunSettings(), self.open, self.weights.sha256)

    def workers(self, actors: int) -> Workers:
        """Returns as many workers as asked for, however few cores there are."""
        return Workers(LOCAL, actors, cpus_per_actor=min(1.0, (os.cpu_count() or 1) / actors))

    def run(self, actors: int) -> dict[str, float]:
        """Makes a whole run, on workers if there are any, and returns its timings."""
        settings = RunSettings(restart=True, workers=self.workers(actors) if actors else None)
        out = self.folder / f"run{actors}"
        record = reproduce.reproduce_entry(
            self.entry, registry=self.registry, data=self.data, out=out, settings=settings
        )
        timings: dict[str, float] = record["timings"]
        return timings

    def new_folder(self, name: str) -> RunFolder:
        """Returns a folder for the files of a pass."""
        return RunFolder(self.folder / name)


def processor_s() -> float:
    """Returns the processor time of this process and of those that it has started."""
    total = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


class Timed:
    """Seconds for each image, by the clock and of the processor, from the time when all workers are warm."""

    def __init__(self, images: int, ready: Callable[[], bool], warm: int) -> None:
        self._images, self._ready, self._warm = images, ready, warm
        self._done, self._begun = 0, (0, 0.0, 0.0)
        self.clock_s = self.processor_s = math.nan

    def note(self) -> None:
        """Notes that another image is done."""
        self._done += 1
        if self._warm:
            self._warm -= self._ready()
            if not self._warm:
                self._begun = self._done, time.perf_counter(), processor_s()
        elif self._done == self._images:
            count, clock, processor = self._begun
            self.clock_s = (time.perf_counter() - clock) / (self._images - count)
            self.processor_s = (processor_s() - processor) / (self._images - count)


def overhead(bench: Bench, actors: int) -> bool:
    """Compares a pass on workers with one here; returns whether both bounds hold."""
    ids = bench.dataset.image_ids
    alone = Waiting(bench.entry, bench.dataset, bench.weights, RunSettings(), bench.new_folder("alone"))
    here = Timed(len(ids), lambda: True, warm=4)
    note(alone.scores, here)
    alone.run(ids)
    start = time.perf_counter()
    crew = Crew[str, Evaluated](bench.make_worker(), bench.workers(actors), at_once=3)
    start_s = time.perf_counter() - start
    scores = InternalScores(bench.dataset.info)
    shared = CrewPass(bench.dataset, bench.new_folder("shared"), scores, crew, keep_going=False)
    there = Timed(len(ids), lambda: crew.ready == actors, warm=4 * actors)
    note(scores, there)
    shared.run(ids)
    faster, dearer = here.clock_s / there.clock_s, there.processor_s / here.processor_s
    print(f"{len(ids)} images of 256 x 512, {WAIT_S:g} s of waiting each; seconds for each image")
    print(f"  one process      {here.clock_s:.3f}, of the processor {here.processor_s:.3f}")
    print(f"  {actors} workers        {there.clock_s:.3f}, of the processor {there.processor_s:.3f}")
    print(f"  {faster:.2f} times as fast (at least {FASTER_BY})")
    print(f"  {dearer:.3f} of the processor time (at most {DEARER_BY})")
    print(f"  start of Ray and of the first worker, left out: {start_s:.1f} s")
    return faster >= FASTER_BY and dearer <= DEARER_BY


def note(scores: InternalScores, timed: Timed) -> None:
    """Lets `timed` know of each image that is added to scores."""
    add = scores.add

    def add_and_note(*measured: Any) -> None:
        add(*measured)
        timed.note()

    scores.add = add_and_note  # type: ignore[method-assign]


class _Replayed:
    """A crew that hands over the files of one image under many names."""

    def __init__(self, evaluated: Evaluated, image_id: str) -> None:
        self.about: dict[str, Any] = {}
        self._evaluated, self._image_id = evaluated, image_id

    def deal(self, items: Sequence[str]) -> Iterator[Dealt[str, Evaluated]]:
        for item in items:
            files = {
                name.replace(self._image_id, item): content for name, content in self._evaluated.files.items()
            }
            yield Dealt(item, self._evaluated._replace(files=files))

    def recorded(self) -> dict[str, Any]:
        return {}

    def __enter__(self) -> _Replayed:
        return self

    def __exit__(self, *error: object) -> None:
        pass


class _Many:
    """The data set with so many images."""

    def __init__(self, dataset: Any, count: int) -> None:
        self.info = dataset.info
        self.image_ids = [f"town_{number:06d}_000000" for number in range(count)]


def memory(bench: Bench) -> bool:
    """Lets the driver take the statistics of many images; returns whether its memory stays the same."""
    image_id = bench.dataset.image_ids[0]
    evaluated = bench.make_worker()()(image_id)
    many = _Many(bench.dataset, STATISTICS_IMAGES)
    taken = CrewPass(
        many,  # type: ignore[arg-type]
        bench.new_folder("many"),
        InternalScores(many.info),
        _Replayed(evaluated, image_id),  # type: ignore[arg-type]
        keep_going=False,
    )
    process, held = psutil.Process(), []
    start = time.perf_counter()
    for first in range(0, STATISTICS_IMAGES, 500):
        taken.run(many.image_ids[first : first + 500])
        held.append(process.memory_info().rss / 2**20)
    each = (time.perf_counter() - start) / STATISTICS_IMAGES
    sent = sum(map(len, evaluated.files.values()))
    print(f"driver: {STATISTICS_IMAGES} images of {sent:,} bytes, {each * 1000:.1f} ms each")
    print("  MiB after each 500: " + " ".join(f"{value:.0f}" for value in held))
    return held[-1] - held[0] < 100


def check(bench: Bench) -> bool:
    """Compares whole runs on 1 to 4 workers with the model; returns whether all are near enough."""
    reproduce.Pipeline, reproduce.MakePipeline = Waiting, MakeWaiting  # type: ignore[misc]
    alone, starts = bench.run(0), []
    start = time.perf_counter()
    with connected(Workers(LOCAL)):
        starts.append(time.perf_counter() - start)
        start = time.perf_counter()
        with Crew[str, Evaluated](bench.make_worker(), bench.workers(1)) as crew:
            list(crew.deal(bench.dataset.image_ids[:1]))
            starts.append(time.perf_counter() - start - WAIT_S)
    ends = ("official_s", "internal_s", "pictures_s", "intervals_s")
    cores, good = os.cpu_count() or 1, True
    print(f"{bench.count} images; start of Ray {starts[0]:.1f} s, of a worker {starts[1]:.1f} s")
    for actors in (1, 2, 3, 4):
        run = Pass(
            ENTRY,
            bench.count,
            image_s=WAIT_S + 0.01,
            prepare_s=alone["prepare_s"],
            part_s=[],
            tail_s=sum(alone[name] for name in ends),
            driver_s=0.005,
        )
        stretch = max(1.0, actors / cores)
        expected = simulate([run], actors, ray_start_s=starts[0], worker_start_s=starts[1] * stretch).wall_s
        found = bench.run(actors)["total_s"]
        off = expected / found - 1
        good &= abs(off) <= OFF_BY
        print(f"  {actors} workers: {found:6.1f} s, the model says {expected:6.1f} s ({off:+.1%})")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=160, help="number of images")
    parser.add_argument("--check", action="store_true", help="compare the model with real runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zoo-bench-") as name:
        bench = Bench(Path(name), options.count)
        results = [check(bench)] if options.check else [overhead(bench, 4), memory(bench)]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Times the intervals of a partial run on drawn statistics of many images: seconds, and peak memory.

Two kinds of images: Cityscapes-like (19 classes, 8 of them things, about 30 segments of things in an
image, 2975 images in the data set) and COCO-like (133 classes, 80 of them things, about 8 segments, 5000
images). The statistics are written before the clock starts, as the files of a run's folder; reading them is
timed too.

Run: python bench/bootstrap.py [--images 500] [--resamples 2000]
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from zoo.metrics.mask_ap import MaskAP
from zoo.metrics.mean_iou import MeanIoU
from zoo.metrics.overlap import label_overlaps
from zoo.metrics.panoptic_quality import PanopticQuality
from zoo.metrics.segments import ImageSegments, OfficialTruth
from zoo.repro.records.run_folder import RunFolder
from zoo.repro.run.intervals import intervals_for


@dataclass(frozen=True)
class Kind:
    """What images of a data set hold."""

    name: str
    num_classes: int
    thing_class_ids: range
    label_divisor: int
    stuff_per_image: int
    things_per_image: int
    images_in_dataset: int


KINDS = (
    Kind("Cityscapes-like", 19, range(11, 19), 1000, 9, 30, 2975),
    Kind("COCO-like", 133, range(80), 256, 4, 8, 5000),
)
IGNORE_LABEL = 255
HEIGHT, WIDTH = 96, 192


def draw_statistics(kind: Kind, seed: int) -> dict[str, np.ndarray]:
    """Returns one image's statistics: bands of stuff, rectangles of things, found with errors."""
    generator = np.random.default_rng(seed)
    divisor = kind.label_divisor
    stuff = [c for c in range(kind.num_classes) if c not in kind.thing_class_ids]
    bands = generator.choice(stuff, kind.stuff_per_image, replace=False)
    truth = np.repeat(bands, -(-HEIGHT // bands.size))[:HEIGHT, None] * divisor + np.zeros(WIDTH, np.int64)
    prediction = np.roll(truth, generator.integers(-4, 5), 0)
    crowd = np.zeros(truth.shape, np.bool_)
    for number in range(1, generator.poisson(kind.things_per_image) + 1):
        height, width = generator.integers(4, 24), generator.integers(4, 24)
        top, left = generator.integers(0, HEIGHT - height), generator.integers(0, WIDTH - width)
        class_id = int(generator.choice(list(kind.thing_class_ids)))
        region = np.s_[top : top + height, left : left + width]
        truth[region] = class_id * divisor + number
        crowd[region] = generator.random() < 0.03
        moved = generator.integers(-2, 3, 2)
        found = np.s_[max(0, top + moved[0]) : top + height, max(0, left + moved[1]) : left + width]
        if generator.random() < 0.8:
            prediction[found] = class_id * divisor + number
    truth[:4] = IGNORE_LABEL * divisor
    return statistics_of(kind, truth.astype(np.int32), prediction.astype(np.int32), crowd, generator)


def statistics_of(
    kind: Kind,
    truth: np.ndarray,
    prediction: np.ndarray,
    crowd: np.ndarray,
    generator: np.random.Generator,
) -> dict[str, np.ndarray]:
    divisor, num_classes = kind.label_divisor, kind.num_classes
    internal = np.where(crowd, IGNORE_LABEL * divisor, truth).astype(np.int32)
    overlaps = label_overlaps(internal, prediction)
    pq = PanopticQuality(num_classes, IGNORE_LABEL, divisor)
    pq.update(overlaps)
    ap = MaskAP(num_classes, IGNORE_LABEL, divisor, kind.thing_class_ids)
    labels = np.unique(prediction)
    ap.update(overlaps, labels, generator.random(labels.size))
    miou, official_miou = MeanIoU(num_classes, IGNORE_LABEL), MeanIoU(num_classes, IGNORE_LABEL)
    miou.update(internal // divisor, prediction // divisor)
    official_miou.update(truth // divisor, prediction // divisor)
    ids = np.unique(truth[truth != IGNORE_LABEL * divisor])
    position = np.where(truth == IGNORE_LABEL * divisor, -1, np.searchsorted(ids, truth))
    official = OfficialTruth(
        segment_map=position.astype(np.int32),
        segment_ids=ids.astype(np.int32),
        class_ids=(ids // divisor).astype(np.int32),
        is_crowd=np.array([bool(crowd[truth == label].all()) for label in ids]),
    )
    segments = ImageSegments.measure(official, prediction, label_divisor=divisor, ignore_label=IGNORE_LABEL)
    parts = {"pq": pq, "miou": miou, "ap": ap, "official_miou": official_miou}
    arrays = {name: metric.to_arrays() for name, metric in parts.items()} | {"segments": segments.to_arrays()}
    return {f"{name}/{key}": array for name, part in arrays.items() for key, array in part.items()}


class PeakMemory:
    """The growth of this process's resident memory while a block runs, sampled every few milliseconds."""

    def __enter__(self) -> PeakMemory:
        self._process = psutil.Process()
        self._start = self._peak = self._process.memory_info().rss
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self._peak = max(self._peak, self._process.memory_info().rss)

    @property
    def growth_mib(self) -> float:
        return (self._peak - self._start) / 2**20

    @property
    def peak_mib(self) -> float:
        return self._peak / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=2000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            measure(kind, RunFolder(Path(folder) / kind.name), arguments.images, arguments.resamples)


def measure(kind: Kind, folder: RunFolder, num_images: int, resamples: int) -> None:
    everything = {name: {"pq": 50.0, "miou": 50.0, "ap": 50.0} for name in ("internal", "official")}
    folder.images.mkdir(parents=True)
    names = [f"image_{number:06d}" for number in range(num_images)]
    for number, name in enumerate(names):
        folder.write_statistics(name, draw_statistics(kind, number))
    # Compiled code comes from Numba's cache in every run but the first.
    intervals_for(folder.read_statistics(names[:5]), everything, images_in_dataset=10, resamples=5)
    with PeakMemory() as memory:
        start = time.perf_counter()
        found = intervals_for(
            folder.read_statistics(names),
            everything,
            images_in_dataset=kind.images_in_dataset,
            resamples=resamples,
        )
        seconds = time.perf_counter() - start
    print(
        f"{kind.name}: {num_images} images, {resamples} resamples: {seconds:.1f} s with reading the files, "
        f"{memory.growth_mib:.0f} MiB more than before, {memory.peak_mib:.0f} MiB in all"
    )
    for evaluator, intervals in found.items():
        widths = ", ".join(f"{name} {high - low:.2f}" for name, (low, high) in intervals.items())
        print(f"  {evaluator}: widths in points: {widths}")


if __name__ == "__main__":
    main()

"""Writes label maps, and what `zoo` says torchmetrics would make of them, for `torchmetrics_peer.py`.

Runs with the Python that `zoo` is installed in. The maps are those of finished runs of bundled entries, from
their predictions on disk, with the numbers that `zoo explain` computes from their per-image statistics; and
drawn cases, which hold what those runs do not.

    python export_maps.py OUT [RUN ...]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.fetch.fetcher import Fetcher
from zoo.metrics.pq_rules import (
    TORCHMETRICS,
    count_image,
    mean_in_order,
    quotients_in_single_precision,
    sum_exactly,
)
from zoo.metrics.segments import ImageSegments, OfficialTruth
from zoo.registry.lookup import load_registry
from zoo.reports.explain.steps import explain
from zoo.repro.datasets.opening import open_dataset
from zoo.repro.records.run_folder import open_run_folder
from zoo.repro.records.statistics import part_of

VOID_CLASS = 9999  # one that torchmetrics is not told of
DRAWN_CASES = 60


def expected(
    images: Sequence[ImageSegments], num_classes: int, things: Sequence[int]
) -> dict[str, np.ndarray]:
    """Returns PQ, SQ and RQ per class, [3, C]: as PyTorch divides by default, and in double precision."""
    counted = {
        precision: sum_exactly(
            [
                count_image(
                    image,
                    replace(TORCHMETRICS, precision=precision),
                    num_classes=num_classes,
                    thing_class_ids=things,
                )
                for image in images
            ]
        )
        for precision in (np.float32, np.float64)
    }
    double = counted[np.float64]
    sq = np.divide(double.iou, double.tp, out=np.zeros(num_classes), where=double.tp > 0)
    with np.errstate(invalid="ignore"):
        rq = double.tp / (double.tp + 0.5 * double.fp + 0.5 * double.fn)
    return {
        "single": np.stack(quotients_in_single_precision(counted[np.float32])),
        "double": np.stack([sq * rq, np.where(np.isnan(rq), np.nan, sq), rq]),
    }


def pairs_of_truth(truth: OfficialTruth) -> np.ndarray:
    """Returns class and segment id of each pixel, [H, W, 2] int32."""
    classes, ids = np.append(truth.class_ids, VOID_CLASS), np.append(truth.segment_ids, 0)
    return np.stack([classes[truth.segment_map], ids[truth.segment_map]], -1).astype(np.int32)


def export_run(run: Path, out: Path) -> None:
    """Writes the maps of a finished run, and the numbers that `zoo explain` gives for it."""
    record = json.loads((run / "record.json").read_text(encoding="utf-8"))
    fetcher, registry = Fetcher(), load_registry()
    dataset = open_dataset(registry.dataset(record["dataset"]["name"]), None, fetcher)
    info = dataset.info
    annotations = json.loads((run / "predictions" / "panoptic.json").read_text(encoding="utf-8"))[
        "annotations"
    ]
    by_name = {Path(annotation["file_name"]).stem: annotation for annotation in annotations}
    class_of = {category: class_id for class_id, category in enumerate(info.original_ids)}
    arrays: dict[str, np.ndarray] = {}
    for number, image_id in enumerate(dataset.image_ids):
        annotation = by_name[image_id]
        rgb = np.asarray(Image.open(run / "predictions" / "panoptic" / annotation["file_name"])).astype(
            np.int32
        )
        ids = rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]
        classes = np.full(ids.shape, VOID_CLASS, np.int32)
        for segment in annotation["segments_info"]:
            classes[ids == segment["id"]] = class_of[segment["category_id"]]
        arrays[f"prediction_{number}"] = np.stack([classes, ids], -1)
        truth = dataset.load(number, picture=False).official
        assert truth is not None
        arrays[f"truth_{number}"] = pairs_of_truth(truth)

    folder = open_run_folder(run)
    images = [
        ImageSegments.from_arrays(part_of(statistics, "segments"))
        for statistics in folder.read_statistics(dataset.image_ids)
    ]
    arrays |= expected(images, info.num_classes, info.thing_class_ids)
    explained = explain(run).to_json()["pq"]["torchmetrics"]
    if explained["value"] != 100 * mean_in_order(arrays["single"][0]):
        sys.exit(f"{run}: zoo explain says {explained['value']}, and its rules give another number")
    scored = [class_id for class_id in range(info.num_classes) if class_id != info.ignore_label]
    things = list(info.thing_class_ids)
    stuff = [class_id for class_id in scored if class_id not in things]
    np.savez_compressed(out / f"{record['dataset']['name']}.npz", things=things, stuff=stuff, **arrays)


def draw(generator: np.random.Generator, images: int) -> tuple[dict[str, np.ndarray], list[ImageSegments]]:
    """Draws images with stuff in pieces, crowds, void in both maps, and segments about half void."""
    num_classes, divisor, ignore, segments = 6, 1000, 255, 14
    arrays: dict[str, np.ndarray] = {}
    counted = []
    for number in range(images):
        coarse = generator.integers(-1, segments, generator.integers(1, 7, 2)).astype(np.int32)
        segment_map = np.kron(coarse, np.ones((4, 4), np.int32)).astype(np.int32)
        classes = generator.integers(0, num_classes, segments).astype(np.int32)
        truth = OfficialTruth(
            segment_map=segment_map,
            segment_ids=np.sort(generator.choice(90000, segments, replace=False) + 1).astype(np.int32),
            class_ids=classes,
            is_crowd=generator.random(segments) < 0.25,
        )
        guessed = np.where(
            generator.random(segments) < 0.75, classes, generator.integers(0, num_classes, segments)
        )
        labels = (guessed * divisor + generator.integers(0, 3, segments)).astype(np.int32)
        labels = np.append(labels, np.int32(generator.choice([0, 3001, ignore * divisor])))
        prediction = np.roll(labels[segment_map], generator.integers(-1, 2, 2), (0, 1))
        # About half of some segments: void in the prediction, where half and one pixel more are told apart.
        left_out = generator.random(prediction.shape) < generator.choice([0.0, 0.2, 0.5, 0.6])
        prediction[left_out] = ignore * divisor
        counted.append(ImageSegments.measure(truth, prediction, label_divisor=divisor, ignore_label=ignore))
        classes_of_pixels = np.where(prediction == ignore * divisor, VOID_CLASS, prediction // divisor)
        arrays[f"prediction_{number}"] = np.stack([classes_of_pixels, prediction % divisor], -1)
        arrays[f"truth_{number}"] = pairs_of_truth(truth)
    return arrays, counted


def main() -> None:
    """Writes one file for each run, and one for each drawn case."""
    out = Path(sys.argv[1])
    for run in sys.argv[2:]:
        export_run(Path(run), out)
    for seed in range(DRAWN_CASES):
        arrays, counted = draw(np.random.default_rng(seed), images=1 + seed % 5)
        things, stuff = [3, 4, 5], [0, 1, 2]
        arrays |= expected(counted, len(things) + len(stuff), things)
        np.savez_compressed(out / f"drawn_{seed:02}.npz", things=things, stuff=stuff, **arrays)


if __name__ == "__main__":
    main()

"""A run made by code: a few tiny images, their statistics, predictions and pictures, and the record."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from zoo.repro.cityscapes.classes import CITYSCAPES
from zoo.repro.datasets.dataset import Dataset, Sample
from zoo.repro.datasets.predictions import write_predictions
from zoo.repro.records.record import SCHEMA_VERSION, finite
from zoo.repro.records.run_folder import RunFolder
from zoo.repro.records.statistics import image_quality
from zoo.repro.run.pictures import read_panoptic, write_pictures
from zoo.repro.run.scores import InternalScores

ROAD, SKY, PERSON, CAR = 0, 10, 11, 13
HEIGHT, WIDTH = 40, 96


class DrawnScenes(Dataset):
    """A data set of drawn scenes: road, sky, two cars, and a person in every second image."""

    info = CITYSCAPES

    def __init__(self, count: int) -> None:
        self.image_ids = tuple(f"scene_{number:03d}" for number in range(count))
        self.skipped, self.expected_images = {}, count

    def load(self, index: int, *, picture: bool = True) -> Sample:
        panoptic = np.full((HEIGHT, WIDTH), SKY * 1000, np.int32)
        panoptic[HEIGHT // 2 :] = ROAD * 1000
        panoptic[14:30, 8:28] = CAR * 1000 + 1
        panoptic[16:28, 40:60] = CAR * 1000 + 2
        if index % 2:
            panoptic[12:34, 70:78] = PERSON * 1000 + 1
        panoptic[36:, :20] = CITYSCAPES.void_label
        image = np.stack([panoptic % 251, panoptic % 241, panoptic % 239], -1).astype(np.uint8)
        semantic = (panoptic // 1000).astype(np.uint8)
        return Sample(self.image_ids[index], image, panoptic, semantic, np.zeros(0, np.int32))

    def fingerprint(self) -> str:
        return "f" * 64


def _predict(sample: Sample, shift: int) -> np.ndarray:
    """The ground truth, things moved to the right by `shift` pixels over what is behind them."""
    semantic = np.full((HEIGHT, WIDTH), SKY * 1000, np.int32)
    semantic[HEIGHT // 2 :] = ROAD * 1000
    is_thing = (sample.panoptic % 1000 > 0) & (sample.panoptic != CITYSCAPES.void_label)
    moved = np.roll(np.where(is_thing, sample.panoptic, 0), shift, axis=1)
    return np.where(moved > 0, moved, semantic)


def make_run(
    root: Path,
    name: str = "run",
    *,
    entry: str = "minicity/drawn",
    images: int = 4,
    shifts: dict[int, int] | None = None,
    started: str = "2026-11-20T02:11:09+00:00",
    change: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Writes a run in which things of image i are `shifts[i]`, else i % 3, pixels beside the truth."""
    folder = RunFolder(root / name)
    folder.images.mkdir(parents=True)
    dataset = DrawnScenes(images)
    scores, qualities = InternalScores(CITYSCAPES), {}
    for index, image_id in enumerate(dataset.image_ids):
        sample = dataset.load(index)
        panoptic = _predict(sample, (shifts or {}).get(index, index % 3))
        semantic = (panoptic // 1000).astype(np.uint8)
        labels = np.unique(panoptic[panoptic % 1000 > 0])
        instances = SimpleNamespace(labels=labels, score=np.full(labels.size, 0.9))
        arrays = scores.measure(sample, panoptic, semantic, instances)
        folder.write_statistics(image_id, arrays)
        scores.add(arrays)
        qualities[image_id] = image_quality(arrays)
        write_predictions(
            folder.predictions,
            image_id,
            panoptic=panoptic,
            semantic=semantic,
            instances=instances,
            info=CITYSCAPES,
        )
    result = scores.compute()
    metrics = finite(result.metrics)
    things = {name: 40.0 + i for i, name in enumerate(CITYSCAPES.class_names[11:])}
    record: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "entry": entry,
        "images": images,
        "images_in_dataset": images,
        "metrics": {"official": {**metrics, "ap50": None}, "internal": metrics},
        "per_class": {
            "official": {**{k: result.per_class[k] for k in ("pq", "iou")}, "ap": things},
            "internal": result.per_class,
        },
        "pictures": write_pictures(
            dataset, qualities, folder, lambda each: read_panoptic(folder.predictions, each, CITYSCAPES)
        ),
        "post_processing": {"thing_class_ids": list(CITYSCAPES.thing_class_ids)},
        "device": {"kind": "cpu"},
        "checkpoint": {"sha256": "c" * 64},
        "dataset": {"name": "minicity", "fingerprint": dataset.fingerprint()},
        "entry_digest": "e" * 64,
        "settings": {"precision": "float32", "scales": [1.0], "flip": False, "limit": None},
        "versions": {"python": "3.11.7", "numpy": "2.3.5"},
        "code": "a" * 64,
        "timings": {"started": started, "images_s": 2.0, "images_computed": images},
    }
    record["claims"] = [
        {
            "metric": metric,
            "evaluator": evaluator,
            "published": round(value, 1),
            "decimals": 1,
            "tolerance": 0.1,
            "measured": value,
            "difference": value - round(value, 1),
            "verdict": "match",
        }
        for evaluator in ("official", "internal")
        for metric in ("pq", "miou", "ap")
        if (value := record["metrics"][evaluator][metric]) is not None
    ]
    if change is not None:
        change(record)
    (folder.root / "record.json").write_text(json.dumps(record), encoding="utf-8")
    return folder.root

"""Predictions on disk in the forms that the official scripts read: semantic, panoptic, instances.

One folder for each form, because the pixel-level script refuses an image for which it finds two PNG files:

    semantic/<image>.png             original label ids of the semantic head's map
    panoptic/<image>.png             segment ids as red + 256 * green + 65536 * blue; 0 is void
    panoptic/<image>.json            the image's entry of the COCO panoptic format
    panoptic.json                    all entries, made at the end
    instance/<image>.txt             Cityscapes: one line for each thing: mask, original label id, score
    instance/masks/<image>/*.png     the masks
    instance/<image>.json            COCO: the image's entries of the results format, masks run-length encoded
    instance.json                    all entries, made at the end

Segment ids are original label id * 1000 + instance for things, and the label id for stuff; where label ids
are not all in 1 to 999, train id + 1 takes their place. Label ids above 255 make the semantic PNG files 16
bits deep.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from zoo.files.atomic import write_atomically
from zoo.files.machine_code import compiled
from zoo.metrics.overlap import index_labels
from zoo.repro.datasets.image_files import GREY, RGB, encode_png
from zoo.repro.datasets.predicted_instances import WRITERS, PredictedThing

if TYPE_CHECKING:
    from zoo.registry.dataset_info import DatasetInfo

SEMANTIC = "semantic"
PANOPTIC = "panoptic"
INSTANCE = "instance"

_SEGMENT_DIVISOR = 1000


class ScoredInstances(Protocol):
    """Predicted things: `labels` [K] panoptic labels, each once, and `score` [K] in 0 to 1."""

    @property
    def labels(self) -> np.ndarray: ...  # noqa: D102

    @property
    def score(self) -> np.ndarray: ...  # noqa: D102


def write_predictions(
    folder: Path,
    image_id: str,
    *,
    panoptic: np.ndarray,
    semantic: np.ndarray,
    instances: ScoredInstances,
    info: DatasetInfo,
) -> None:
    """Writes one image's predictions; each file is there whole or not at all, the panoptic entry last.

    Args:
      folder: the run's folder of predictions; made where it is not there.
      image_id: must not hold blanks.
      panoptic: [H, W] int32, the predicted panoptic map.
      semantic: [H, W] integer, the semantic head's class of each pixel (train ids).
      instances: a score for every thing in `panoptic`.
      info: the classes and their encoding.

    Raises:
      ValueError: the two maps differ in size, hold values that are not labels, or a thing has no score.
    """
    if panoptic.shape != semantic.shape or panoptic.ndim != 2:
        raise ValueError(
            f"{image_id}: expected two maps of one size, found {panoptic.shape}, {semantic.shape}"
        )
    labels, index = index_labels(panoptic.ravel())
    index = index.reshape(panoptic.shape)
    segments = _segments(labels, info, image_id)
    scores = dict(zip(instances.labels.tolist(), instances.score.tolist(), strict=True))
    divisor, things = info.label_divisor, set(info.thing_class_ids)
    predicted: dict[int, PredictedThing] = {}
    for label, (segment_id, category_id) in segments.items():
        if label % divisor and label // divisor in things:
            if label not in scores:
                raise ValueError(f"{image_id}: no score for panoptic label {label}")
            predicted[label] = PredictedThing(segment_id, category_id, scores[label])
    semantic_rows = _semantic_rows(semantic, info, image_id)

    for part in (SEMANTIC, PANOPTIC, INSTANCE):
        (folder / part).mkdir(parents=True, exist_ok=True)
    place = {label: position for position, label in enumerate(predicted)}
    thing_of = np.array([place.get(label, -1) for label in labels.tolist()], np.int32)
    write_things = WRITERS[info.instance_results]
    write_things(folder / INSTANCE, image_id, list(predicted.values()), index, thing_of)

    width = panoptic.shape[1]
    semantic_png = encode_png(semantic_rows, width, bits=_semantic_bits(info), colour_type=GREY)
    write_atomically(folder / SEMANTIC / f"{image_id}.png", semantic_png, durable=False)
    segment_ids = np.array([segments.get(label, (0, 0))[0] for label in labels.tolist()], np.int32)
    rows = _segment_rows(index, segment_ids)
    panoptic_png = encode_png(rows, width, bits=8, colour_type=RGB)
    write_atomically(folder / PANOPTIC / f"{image_id}.png", panoptic_png, durable=False)
    listed = [{"id": segment_id, "category_id": category_id} for segment_id, category_id in segments.values()]
    annotation = {"image_id": image_id, "file_name": f"{image_id}.png", "segments_info": listed}
    write_atomically(folder / PANOPTIC / f"{image_id}.json", json.dumps(annotation), durable=False)


def missing_predictions(folder: Path, image_ids: Iterable[str]) -> list[str]:
    """Returns those of `image_ids` whose predictions are not there."""
    return [image_id for image_id in image_ids if not (folder / PANOPTIC / f"{image_id}.json").exists()]


def assemble_panoptic_json(
    folder: Path, image_ids: Iterable[str], official_ids: Mapping[str, int] | None = None
) -> Path:
    """Writes and returns `panoptic.json` with the entries of `image_ids`.

    `official_ids` is by what number the ground truth calls each image; None where by its name.
    """
    annotations = []
    for image_id in image_ids:
        annotation = json.loads((folder / PANOPTIC / f"{image_id}.json").read_text(encoding="utf-8"))
        annotations.append({**annotation, "image_id": official_ids[image_id] if official_ids else image_id})
    path = folder / "panoptic.json"
    write_atomically(path, json.dumps({"annotations": annotations}), durable=False)
    return path


def _segments(labels: np.ndarray, info: DatasetInfo, image_id: str) -> dict[int, tuple[int, int]]:
    """Returns segment id and original class of each label that is not void, in the order of the labels."""
    end = (max(info.ignore_label, info.num_classes) + 1) * info.label_divisor
    if labels.min() < 0 or labels.max() >= end:
        raise ValueError(f"{image_id}: the panoptic map holds a value that is not a label")
    segments: dict[int, tuple[int, int]] = {}
    are_plain = all(0 < category < _SEGMENT_DIVISOR for category in info.train_ids)
    for label in sorted(labels.tolist()):
        class_id, instance = divmod(label, info.label_divisor)
        if class_id < info.num_classes and class_id != info.ignore_label:
            category = info.original_ids[class_id]
            number = category if are_plain else class_id + 1
            segments[label] = (number * _SEGMENT_DIVISOR + instance if instance else number, category)
    return segments


def _semantic_rows(semantic: np.ndarray, info: DatasetInfo, image_id: str) -> np.ndarray:
    """Returns PNG rows of the original class ids, [H, 1 + W] uint8, or [H, 1 + 2 W] for ids above 255."""
    if semantic.min() < 0 or semantic.max() > 255:
        raise ValueError(f"{image_id}: the semantic map holds a value that is not a class")
    width_bytes = _semantic_bits(info) // 8
    original_of = np.full(256, info.void_ids[0], f">u{width_bytes}")
    original_of[: info.num_classes] = info.original_ids
    rows = np.zeros((semantic.shape[0], 1 + width_bytes * semantic.shape[1]), np.uint8)
    rows[:, 1:] = original_of[semantic].view(np.uint8)
    return rows


def _semantic_bits(info: DatasetInfo) -> int:
    return 8 if max(info.original_ids) < 256 else 16


@compiled
def _segment_rows(index, segment_ids):  # type: ignore[no-untyped-def]
    """Returns PNG rows of the segment ids, [H, 1 + 3 W] uint8."""
    height, width = index.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)
    for y in range(height):
        for x in range(width):
            segment = segment_ids[index[y, x]]
            rows[y, 1 + 3 * x] = segment & 255
            rows[y, 2 + 3 * x] = (segment >> 8) & 255
            rows[y, 3 + 3 * x] = segment >> 16
    return rows

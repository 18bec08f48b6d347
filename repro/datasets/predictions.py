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
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from zoo.files.atomic import write_atomically
from zoo.files.machine_code import compiled
from zoo.model.postprocess.result import ThingMap
from zoo.repro.datasets.image_files import GREY, RGB, encode_png
from zoo.repro.datasets.label_shapes import LabelShapes, measure_labels
from zoo.repro.datasets.predicted_instances import (
    WRITERS,
    PredictedThing,
    ScoredMask,
    mask_folder,
    write_scored_masks,
)

if TYPE_CHECKING:
    from zoo.registry.dataset_info import DatasetInfo

SEMANTIC = "semantic"
PANOPTIC = "panoptic"
INSTANCE = "instance"

EVERYTHING = frozenset({"panoptic", "semantic", "instances"})
"""What predictions can hold."""

_SEGMENT_DIVISOR = 1000
_SUFFIXES = (".png", ".json", ".txt")


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
    panoptic: np.ndarray | None,
    semantic: np.ndarray | None,
    instances: ScoredInstances | ThingMap | Sequence[ScoredMask] | None,
    info: DatasetInfo,
    things_as: str | None = None,
) -> None:
    """Writes one image's predictions; each file is there whole or not at all, the panoptic entry last.

    Args:
      folder: the run's folder of predictions; made where it is not there.
      image_id: the image's name; may be a path below `folder`.
      panoptic: [H, W] int32, the predicted panoptic map; None, as the others, where there is none.
      semantic: [H, W] integer, the semantic head's class of each pixel (train ids).
      instances: a score for every thing in `panoptic`, or instances with a map or masks of their own.
      info: the classes and their encoding.
      things_as: "masks" or "rle" to write instances so, "" not to; None for what the data set's script reads.

    Raises:
      ValueError: the two maps differ in size, hold values that are not labels, or a thing has no score.
    """
    sizes = [found.shape for found in (panoptic, semantic) if found is not None]
    if len(set(sizes)) > 1 or any(len(size) != 2 for size in sizes):
        raise ValueError(f"{image_id}: expected two maps of one size, found {sizes[0]}, {sizes[-1]}")
    form = info.instance_results if things_as is None else things_as
    masks = instances if isinstance(instances, Sequence) else None
    things = instances if isinstance(instances, ThingMap) else None
    scores = None
    if instances is not None and not isinstance(instances, Sequence):
        scores = dict(zip(instances.labels.tolist(), instances.score.tolist(), strict=True))
    shapes = None if panoptic is None else measure_labels(panoptic)
    own_scores = None if things is not None else scores
    segments = {} if shapes is None else _segments(shapes, own_scores, info, image_id)
    semantic_png = None if semantic is None else _semantic_png(semantic, info, image_id)

    if things is not None and form:
        own = measure_labels(things.label_map)
        _write_things(folder / INSTANCE, image_id, own, _segments(own, scores, info, image_id), form)
    elif masks is not None and form:
        write_scored_masks(folder / INSTANCE, image_id, masks, info, form)
    elif shapes is not None and scores is not None and form:
        _write_things(folder / INSTANCE, image_id, shapes, segments, form)
    if semantic_png is not None:
        write_atomically(folder / SEMANTIC / f"{image_id}.png", semantic_png, durable=False)
    if shapes is not None:
        segment_ids = [segments[label]["id"] if label in segments else 0 for label in shapes.labels.tolist()]
        rows = _segment_rows(shapes.index, np.array(segment_ids, np.int32))
        panoptic_png = encode_png(rows, shapes.index.shape[1], bits=8, colour_type=RGB)
        write_atomically(folder / PANOPTIC / f"{image_id}.png", panoptic_png, durable=False)
        listed = list(segments.values())
        annotation = {"image_id": image_id, "file_name": f"{image_id}.png", "segments_info": listed}
        write_atomically(folder / PANOPTIC / f"{image_id}.json", json.dumps(annotation), durable=False)


def _write_things(
    folder: Path, image_id: str, shapes: LabelShapes, segments: Mapping[int, dict[str, Any]], form: str
) -> None:
    things = {label: segment for label, segment in segments.items() if "score" in segment}
    place = {label: position for position, label in enumerate(things)}
    thing_of = np.array([place.get(label, -1) for label in shapes.labels.tolist()], np.int32)
    predicted = [PredictedThing(each["id"], each["category_id"], each["score"]) for each in things.values()]
    WRITERS[form](folder, image_id, predicted, shapes, thing_of)


def missing_predictions(
    folder: Path, image_ids: Iterable[str], holds: Collection[str] = EVERYTHING
) -> list[str]:
    """Returns those of `image_ids` whose predictions are not there; `holds` says what there should be."""
    names = [f"{INSTANCE}/{{}}.txt", f"{INSTANCE}/{{}}.json"]
    # What is written last.
    if "panoptic" in holds:
        names = [f"{PANOPTIC}/{{}}.json"]
    elif "semantic" in holds:
        names = [f"{SEMANTIC}/{{}}.png"]
    return [
        image_id
        for image_id in image_ids
        if not any((folder / name.format(image_id)).exists() for name in names)
    ]


def prediction_files(folder: Path, image_id: str) -> list[Path]:
    """Returns the files of one image's predictions that are there."""
    names = [f"{form}/{image_id}{suffix}" for form in (SEMANTIC, PANOPTIC, INSTANCE) for suffix in _SUFFIXES]
    files = [folder / name for name in names]
    masks = sorted((folder / INSTANCE / mask_folder(image_id)[0]).glob("*.png"))
    return [*(path for path in files if path.exists()), *masks]


def assemble_panoptic_json(
    folder: Path,
    image_ids: Iterable[str],
    official_ids: Mapping[str, int | str] | None = None,
    **more: Any,
) -> Path:
    """Writes and returns `panoptic.json` with the entries of `image_ids`, and `more` beside them.

    `official_ids` is by what number the ground truth calls an image; it goes by its name where there is none.
    """
    numbers = official_ids or {}
    annotations = []
    for image_id in image_ids:
        annotation = json.loads((folder / PANOPTIC / f"{image_id}.json").read_text(encoding="utf-8"))
        annotations.append({**annotation, "image_id": numbers.get(image_id, image_id)})
    path = folder / f"{PANOPTIC}.json"
    write_atomically(path, json.dumps({**more, "annotations": annotations}), durable=False)
    return path


def _segments(
    shapes: LabelShapes, scores: Mapping[int, float] | None, info: DatasetInfo, image_id: str
) -> dict[int, dict[str, Any]]:
    """Returns the entry of each label that is not void, in the order of the labels."""
    labels, areas, boxes = (values.tolist() for values in (shapes.labels, shapes.areas, shapes.boxes))
    end = (max(info.ignore_label, info.num_classes) + 1) * info.label_divisor
    if min(labels) < 0 or max(labels) >= end:
        raise ValueError(f"{image_id}: the panoptic map holds a value that is not a label")
    things = set(info.thing_class_ids)
    # Segment ids stay apart, and off void's 0, only with such category ids.
    are_plain = all(0 < category < _SEGMENT_DIVISOR for category in info.train_ids)
    segments: dict[int, dict[str, Any]] = {}
    for label, area, (x0, y0, x1, y1) in sorted(zip(labels, areas, boxes, strict=True)):
        class_id, instance = divmod(label, info.label_divisor)
        if class_id >= info.num_classes or class_id == info.ignore_label:
            continue
        category = info.original_ids[class_id]
        number = category if are_plain else class_id + 1
        segments[label] = {
            "id": number * _SEGMENT_DIVISOR + instance if instance else number,
            "category_id": category,
            "area": area,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "iscrowd": 0,
        }
        if instance and class_id in things and scores is not None:
            if label not in scores:
                raise ValueError(f"{image_id}: no score for panoptic label {label}")
            segments[label]["score"] = scores[label]
    return segments


def _semantic_png(semantic: np.ndarray, info: DatasetInfo, image_id: str) -> bytes:
    """Returns a PNG of the original class ids, of 8 bits, or of 16 for ids above 255."""
    bits = 8 if max(info.original_ids) < 256 else 16
    original_of = np.full(256, info.void_ids[0], f">u{bits // 8}")
    original_of[: info.num_classes] = info.original_ids
    rows = _semantic_rows(semantic, original_of.view(np.uint8).reshape(256, -1))
    if not len(rows):
        raise ValueError(f"{image_id}: the semantic map holds a value that is not a class")
    return encode_png(rows, semantic.shape[1], bits=bits, colour_type=GREY)


@compiled
def _semantic_rows(semantic, original_of):  # type: ignore[no-untyped-def]
    """Returns PNG rows of the original class ids, [H, 1 + B W] uint8; none if a value is not in 0 to 255.

    `original_of` is [256, B] uint8, the bytes of each class's id.
    """
    height, width = semantic.shape
    size = original_of.shape[1]
    rows = np.zeros((height, 1 + size * width), np.uint8)
    for y in range(height):
        for x in range(width):
            class_id = semantic[y, x]
            if class_id < 0 or class_id > 255:
                return rows[:0]
            for byte in range(size):
                rows[y, 1 + size * x + byte] = original_of[class_id, byte]
    return rows


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

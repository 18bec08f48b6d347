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

Segment ids are original label id * 1000 + instance for things, and the label id for stuff.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from zoo.files.atomic import write_atomically
from zoo.files.machine_code import compiled
from zoo.repro.datasets.predicted_instances import InstanceResult, write_masks, write_run_lengths

if TYPE_CHECKING:
    from zoo.registry.dataset_info import DatasetInfo

SEMANTIC = "semantic"
PANOPTIC = "panoptic"
INSTANCE = "instance"

_SEGMENT_DIVISOR = 1000
_GREY, _RGB = 0, 2
# Label maps are runs of equal bytes: the fastest level already makes them small, and no filter helps.
_COMPRESSION_LEVEL = 1


class ScoredInstances(Protocol):
    """Predicted things: `labels` [K] panoptic labels, and `score` [K] in 0 to 1, the combined scores."""

    @property
    def labels(self) -> np.ndarray:
        """[K] integer: labels of the panoptic map, each once."""
        ...

    @property
    def score(self) -> np.ndarray:
        """[K] float: how sure the network is of each."""
        ...


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
      image_id: name of the image; must not hold blanks.
      panoptic: [H, W] int32, the predicted panoptic map.
      semantic: [H, W] integer, the semantic head's class of each pixel (train ids).
      instances: a score for every thing in `panoptic`.
      info: the classes and their encoding.

    Raises:
      ValueError: the two maps differ in size, hold what is no label, or a thing has no score.
    """
    if panoptic.shape != semantic.shape or panoptic.ndim != 2:
        raise ValueError(
            f"{image_id}: expected two maps of one size, found {panoptic.shape}, {semantic.shape}"
        )
    labels = _labels_of(panoptic, info, image_id)
    things = [label for label in labels if _is_instance(label, info)]
    scores = dict(zip(instances.labels.tolist(), instances.score.tolist(), strict=True))
    unscored = [label for label in things if label not in scores]
    if unscored:
        raise ValueError(f"{image_id}: no score for panoptic label {unscored[0]}")

    segment_of = np.zeros(_num_labels(info), np.int32)
    mask_of = np.full(_num_labels(info), -1, np.int32)
    for label in labels:
        segment_of[label] = _segment_id(label, info)
    mask_of[things] = np.arange(len(things), dtype=np.int32)
    has_masks = info.instance_results == "masks"
    rgb_rows, mask_rows = _encode_panoptic(panoptic, segment_of, mask_of, len(things) if has_masks else 0)

    width = panoptic.shape[1]
    for part in (SEMANTIC, PANOPTIC, INSTANCE):
        (folder / part).mkdir(parents=True, exist_ok=True)
    results = [
        InstanceResult(
            name=str(segment_of[label]),
            category_id=info.original_ids[label // info.label_divisor],
            score=scores[label],
        )
        for label in things
    ]
    if has_masks:
        masks = [_png(rows, width, bits=1, colour_type=_GREY) for rows in mask_rows]
        write_masks(folder / INSTANCE, image_id, results, masks)
    else:
        write_run_lengths(folder / INSTANCE, image_id, results, mask_of[panoptic])

    original_of = np.zeros(256, np.uint8)
    original_of[: info.num_classes] = info.original_ids
    semantic_rows = _encode_semantic(semantic, original_of)
    if semantic_rows is None:
        raise ValueError(f"{image_id}: the semantic map holds a value that is not a class")
    semantic_png = _png(semantic_rows, width, bits=8, colour_type=_GREY)
    write_atomically(folder / SEMANTIC / f"{image_id}.png", semantic_png, durable=False)
    panoptic_png = _png(rgb_rows, width, bits=8, colour_type=_RGB)
    write_atomically(folder / PANOPTIC / f"{image_id}.png", panoptic_png, durable=False)
    annotation = {
        "image_id": image_id,
        "file_name": f"{image_id}.png",
        "segments_info": [
            {
                "id": int(segment_of[label]),
                "category_id": info.original_ids[label // info.label_divisor],
            }
            for label in labels
        ],
    }
    write_atomically(folder / PANOPTIC / f"{image_id}.json", json.dumps(annotation), durable=False)


def missing_predictions(folder: Path, image_ids: Iterable[str]) -> list[str]:
    """Returns those of `image_ids` whose predictions are not there."""
    return [image_id for image_id in image_ids if not (folder / PANOPTIC / f"{image_id}.json").exists()]


def assemble_panoptic_json(
    folder: Path, image_ids: Iterable[str], official_ids: Mapping[str, int] | None = None
) -> Path:
    """Writes and returns `panoptic.json` with the entries of `image_ids`.

    Args:
      folder: the run's folder of predictions.
      image_ids: the images of the run.
      official_ids: by what number the ground truth calls each image; None where by its name.
    """
    annotations = []
    for image_id in image_ids:
        annotation = json.loads((folder / PANOPTIC / f"{image_id}.json").read_text(encoding="utf-8"))
        annotations.append({**annotation, "image_id": official_ids[image_id] if official_ids else image_id})
    path = folder / "panoptic.json"
    write_atomically(path, json.dumps({"annotations": annotations}), durable=False)
    return path


def _num_labels(info: DatasetInfo) -> int:
    return (max(info.ignore_label, info.num_classes) + 1) * info.label_divisor


def _labels_of(panoptic: np.ndarray, info: DatasetInfo, image_id: str) -> list[int]:
    present = np.zeros(_num_labels(info), np.bool_)
    if not _mark_present(panoptic, present):
        raise ValueError(f"{image_id}: the panoptic map holds a value that is not a label")
    labels: list[int] = np.flatnonzero(present).tolist()
    classes = [label // info.label_divisor for label in labels]
    return [
        label
        for label, class_id in zip(labels, classes, strict=True)
        if class_id < info.num_classes and class_id != info.ignore_label
    ]


def _is_instance(label: int, info: DatasetInfo) -> bool:
    return label % info.label_divisor > 0 and label // info.label_divisor in info.thing_class_ids


def _segment_id(label: int, info: DatasetInfo) -> int:
    original_id = info.original_ids[label // info.label_divisor]
    instance = label % info.label_divisor
    return original_id * _SEGMENT_DIVISOR + instance if instance else original_id


def _png(rows: np.ndarray, width: int, *, bits: int, colour_type: int) -> bytes:
    """Returns a PNG file of rows that begin with their filter byte."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, rows.shape[0], bits, colour_type, 0, 0, 0)
    pixels = zlib.compress(rows.data, _COMPRESSION_LEVEL)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@compiled
def _mark_present(panoptic, present):  # type: ignore[no-untyped-def]
    for y in range(panoptic.shape[0]):
        for x in range(panoptic.shape[1]):
            label = panoptic[y, x]
            if label < 0 or label >= present.size:
                return False
            present[label] = True
    return True


@compiled
def _encode_panoptic(panoptic, segment_of, mask_of, num_masks):  # type: ignore[no-untyped-def]
    """Returns PNG rows of the segment ids [H, 1 + 3 W] and of each mask [K, H, 1 + ceil(W / 8)]."""
    height, width = panoptic.shape
    rgb = np.zeros((height, 1 + 3 * width), np.uint8)
    masks = np.zeros((num_masks, height, 1 + (width + 7) // 8), np.uint8)
    for y in range(height):
        for x in range(width):
            label = panoptic[y, x]
            segment = segment_of[label]
            rgb[y, 1 + 3 * x] = segment & 255
            rgb[y, 2 + 3 * x] = (segment >> 8) & 255
            rgb[y, 3 + 3 * x] = segment >> 16
            mask = mask_of[label]
            if 0 <= mask < num_masks:
                masks[mask, y, 1 + (x >> 3)] |= 128 >> (x & 7)
    return rgb, masks


@compiled
def _fill_semantic_rows(semantic, original_of, rows):  # type: ignore[no-untyped-def]
    for y in range(semantic.shape[0]):
        for x in range(semantic.shape[1]):
            train_id = semantic[y, x]
            if train_id < 0 or train_id >= original_of.size:
                return False
            rows[y, 1 + x] = original_of[train_id]
    return True


def _encode_semantic(semantic: np.ndarray, original_of: np.ndarray) -> Any:
    rows = np.zeros((semantic.shape[0], 1 + semantic.shape[1]), np.uint8)
    return rows if _fill_semantic_rows(semantic, original_of, rows) else None

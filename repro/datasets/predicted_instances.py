"""Predicted things on disk: a PNG mask for each and a list (Cityscapes), or run lengths in JSON (COCO)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from zoo.files.atomic import write_atomically, writing
from zoo.files.machine_code import compiled
from zoo.metrics.mask_overlaps import mask_pixels
from zoo.repro.datasets.image_files import GREY, encode_png
from zoo.repro.datasets.label_shapes import LabelShapes

if TYPE_CHECKING:
    from zoo.registry.dataset_info import DatasetInfo


class PredictedThing(NamedTuple):
    """One predicted thing: its segment id, its class in the original annotations, and its score."""

    segment_id: int
    category_id: int
    score: float


ScoredMask: TypeAlias = tuple[int, float, Any]
"""A predicted instance with a mask of its own: train id of its class, score, and mask.

The mask is [H, W], 0 outside, or run lengths as COCO's results hold them.
"""


def write_masks(
    folder: Path, image_id: str, things: Sequence[PredictedThing], shapes: LabelShapes, thing_of: np.ndarray
) -> None:
    """Writes one image's things as the Cityscapes instance-level script reads them.

    Args:
      folder: the folder of instance predictions.
      image_id, things: name of the image, and its things.
      shapes: the labels of the map.
      thing_of: [L] int32, each label's position in `things`, -1 where it is not a thing.
    """
    masks, up = mask_folder(image_id)
    width = shapes.index.shape[1]
    lines = [""] * len(things)
    with writing(folder / masks):
        (folder / masks).mkdir(parents=True, exist_ok=True)
        for label in np.flatnonzero(thing_of >= 0).tolist():
            thing = things[thing_of[label]]
            name = f"{masks}/{thing.segment_id}.png"
            rows = _mask_rows(shapes.index, label, *shapes.boxes[label].tolist())
            # Not atomic one by one: no mask counts before the list below names it.
            (folder / name).write_bytes(encode_png(rows, width, bits=1, colour_type=GREY))
            lines[thing_of[label]] = f"{up}{name} {thing.category_id} {thing.score!r}\n"
    write_atomically(folder / f"{image_id}.txt", "".join(lines), durable=False)


def write_run_lengths(
    folder: Path, image_id: str, things: Sequence[PredictedThing], shapes: LabelShapes, thing_of: np.ndarray
) -> None:
    """Does as `write_masks`, in entries of COCO's results format, without the image's number."""
    from pycocotools import mask as run_lengths

    columns = np.ascontiguousarray(thing_of[shapes.index].T)
    entries = []
    for position, thing in enumerate(things):
        encoded = run_lengths.encode((columns == position).view(np.uint8).T)
        entries.append(
            {
                "category_id": thing.category_id,
                "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")},
                "score": thing.score,
            }
        )
    write_atomically(folder / f"{image_id}.json", json.dumps(entries), durable=False)


def write_scored_masks(
    folder: Path, image_id: str, masks: Sequence[ScoredMask], info: DatasetInfo, form: str
) -> None:
    """Writes instances whose masks need not be segments of one map, as `write_masks` or `write_run_lengths`.

    Args:
      folder: the folder of instance predictions.
      image_id, masks: name of the image, and its instances.
      info: the classes.
      form: "masks" or "rle".
    """
    lines, entries = [], []
    folder_of_masks, up = mask_folder(image_id)
    for number, (class_id, score, mask) in enumerate(masks):
        category_id = info.original_ids[class_id]
        if form == "rle":
            packed = _packed(mask)
            segmentation = {"size": list(packed["size"]), "counts": packed["counts"].decode("ascii")}
            entry = {"category_id": category_id, "segmentation": segmentation, "score": float(score)}
            entries.append(entry)
            continue
        size = tuple(mask["size"]) if isinstance(mask, Mapping) else np.asarray(mask).shape
        pixels = mask_pixels(mask, (int(size[0]), int(size[1])))
        rows = np.pad(np.packbits(pixels, axis=1), ((0, 0), (1, 0)))
        name = f"{folder_of_masks}/{number}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(encode_png(rows, pixels.shape[1], bits=1, colour_type=GREY))
        lines.append(f"{up}{name} {category_id} {float(score)!r}\n")
    if form == "rle":
        write_atomically(folder / f"{image_id}.json", json.dumps(entries), durable=False)
    else:
        write_atomically(folder / f"{image_id}.txt", "".join(lines), durable=False)


def mask_folder(image_id: str) -> tuple[str, str]:
    """Returns the folder of an image's masks, and the way up to its parent from where the list lies."""
    # The script splits a line at its blanks, and reads names relative to the list.
    return "masks/" + re.sub(r"\s", "%20", image_id), "../" * image_id.count("/")


def _packed(mask: Any) -> dict[str, Any]:
    """Returns a mask as compressed run lengths."""
    from pycocotools import mask as run_lengths

    if not isinstance(mask, Mapping):
        return dict(run_lengths.encode(np.asfortranarray(np.asarray(mask) != 0, np.uint8)))
    counts = mask["counts"]
    if isinstance(counts, list):
        return dict(run_lengths.frPyObjects(dict(mask), *mask["size"]))
    return {**mask, "counts": counts.encode("ascii") if isinstance(counts, str) else counts}


WRITERS = {"masks": write_masks, "rle": write_run_lengths}
"""What writes things, by `DatasetInfo.instance_results`."""


def assemble_run_lengths(folder: Path, official_ids: Mapping[str, int | str], path: Path) -> None:
    """Writes the things of the images in `official_ids` (name -> id) to `path`, as COCO's results."""
    entries: list[dict[str, Any]] = []
    for image_id, official_id in official_ids.items():
        found = json.loads((folder / f"{image_id}.json").read_text(encoding="utf-8"))
        entries += [{"image_id": official_id, **entry} for entry in found]
    write_atomically(path, json.dumps(entries), durable=False)


@compiled
def _mask_rows(index, label, left, top, right, bottom):  # type: ignore[no-untyped-def]
    """Returns PNG rows of one label's mask, [H, 1 + ceil(W / 8)] uint8; it lies in a box of the map."""
    height, width = index.shape
    rows = np.zeros((height, 1 + (width + 7) // 8), np.uint8)
    for y in range(top, bottom):
        for x in range(left, right):
            if index[y, x] == label:
                rows[y, 1 + (x >> 3)] |= 128 >> (x & 7)
    return rows

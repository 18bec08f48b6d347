"""Predicted things on disk: a PNG mask for each and a list (Cityscapes), or run lengths in JSON (COCO)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.files.atomic import write_atomically


@dataclass(frozen=True)
class InstanceResult:
    """One predicted thing.

    Attributes:
      name: its segment id, unique in its image.
      category_id: its class in the original annotations.
      score: how sure the network is of it.
    """

    name: str
    category_id: int
    score: float


def write_masks(
    folder: Path, image_id: str, results: Sequence[InstanceResult], masks: Sequence[bytes]
) -> None:
    """Writes one image's things as the Cityscapes instance-level script reads them.

    Args:
      folder: the folder of instance predictions.
      image_id: name of the image.
      results: the things.
      masks: a PNG file for each.
    """
    mask_folder = folder / "masks" / image_id
    mask_folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for result, mask in zip(results, masks, strict=True):
        # Not atomic one by one: no mask counts before the list below names it.
        (mask_folder / f"{result.name}.png").write_bytes(mask)
        lines.append(f"masks/{image_id}/{result.name}.png {result.category_id} {result.score!r}\n")
    write_atomically(folder / f"{image_id}.txt", "".join(lines), durable=False)


def write_run_lengths(
    folder: Path, image_id: str, results: Sequence[InstanceResult], positions: np.ndarray
) -> None:
    """Writes one image's things as entries of COCO's results format, without the image's number.

    Args:
      folder: the folder of instance predictions.
      image_id: name of the image.
      results: the things.
      positions: [H, W] integer, each pixel's position in `results`, -1 where there is none.
    """
    from pycocotools import mask as run_lengths

    columns = np.ascontiguousarray(positions.T)
    entries = []
    for position, result in enumerate(results):
        encoded = run_lengths.encode((columns == position).view(np.uint8).T)
        entries.append(
            {
                "category_id": result.category_id,
                "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")},
                "score": result.score,
            }
        )
    write_atomically(folder / f"{image_id}.json", json.dumps(entries), durable=False)


def assemble_run_lengths(folder: Path, official_ids: Mapping[str, int], path: Path) -> None:
    """Writes the things of the given images to `path`, in COCO's results format.

    Args:
      folder: the folder of instance predictions.
      official_ids: by what number the ground truth calls each image.
      path: the file to write.
    """
    entries: list[dict[str, Any]] = []
    for image_id, official_id in official_ids.items():
        found = json.loads((folder / f"{image_id}.json").read_text(encoding="utf-8"))
        entries += [{"image_id": official_id, **entry} for entry in found]
    write_atomically(path, json.dumps(entries), durable=False)

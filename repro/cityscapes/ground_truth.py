"""Panoptic ground truth for the official script: the user's own, or made once.

The official package makes it for the classes of Cityscapes. For others, which its program does not know, it
is made here by the same rule.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo.errors import DataError
from zoo.repro.cityscapes.instance_ids import official_truth_from_instance_ids
from zoo.repro.cityscapes.script_jobs import MAKE_PANOPTIC
from zoo.repro.datasets.dataset import cache_at
from zoo.repro.datasets.digests import digest_of_files
from zoo.repro.datasets.image_files import RGB, decode_id_png, encode_png, read_bytes, read_png_header
from zoo.repro.official.jobs import Jobs, mirror_files, provenance
from zoo.repro.official.scripts import categories_of

if TYPE_CHECKING:
    from zoo.registry.dataset_info import DatasetInfo
    from zoo.repro.cityscapes.dataset import CityscapesDataset

# Where it came from, if it did not come with the data, in this run or an earlier one.
MADE = "made by createPanopticImgs"
MADE_OWN = "made by zoo, as createPanopticImgs knows the classes of Cityscapes alone"

# Below this many images the start of a process costs more than it brings.
_IMAGES_PER_PROCESS = 4


class PanopticGroundTruth(NamedTuple):
    """Panoptic ground truth in the COCO format."""

    json: Path  # the file of annotations; may name more images than are evaluated
    folder: Path  # the PNG files
    source: str  # where it came from
    seconds: float  # how long it took to find or make


def panoptic_ground_truth(
    dataset: CityscapesDataset,
    image_ids: Sequence[str],
    jobs: Jobs,
    *,
    processes: int = 1,
    patience_s: float = 3600.0,
) -> PanopticGroundTruth:
    """Returns panoptic ground truth for `image_ids`; makes it in the cache where the data have none.

    For the classes of Cityscapes it is made by the official `createPanopticImgs` on links to the files, in up
    to `processes` processes at once; the script is given up after `patience_s` seconds. It lands in the cache
    whole. Its name there is a digest of what it was made from.

    Raises:
      EvaluationError: the script failed.
    """
    start = time.perf_counter()
    name = f"cityscapes_panoptic_{dataset.split}"
    cache = cache_at(dataset.cache)
    root = cache.folder("panoptic_ground_truth")
    key = _key(dataset, image_ids)
    own = root / key
    made = MADE_OWN if dataset.has_own_classes else MADE

    def found(folder: Path, source: str) -> PanopticGroundTruth:
        seconds = time.perf_counter() - start
        return PanopticGroundTruth(folder / f"{name}.json", folder / name, source, seconds)

    for folder in (dataset.root / "gtFine", root / _key(dataset, dataset.image_ids), own):
        if _is_complete(folder, name, set(image_ids), dataset.info):
            if folder.parent != dataset.root:
                return found(folder, made)
            files = _annotated_files(folder / f"{name}.json")
            names = (f"{name}.json", *(f"{name}/{files[image_id]}" for image_id in image_ids))
            return found(dataset.local_copy(f"gtFine/{each}" for each in names) / "gtFine", "data folder")
    with cache.holding("panoptic_ground_truth", key, f"{own}: another process is making it"):
        if not _is_complete(own, name, set(image_ids), dataset.info):
            temporary = root / f".{key}.{os.getpid()}"
            try:
                if dataset.has_own_classes:
                    _make_own(dataset, image_ids, temporary / "made", name)
                else:
                    _make(dataset, image_ids, temporary, name, jobs, processes, patience_s)
                shutil.rmtree(own, ignore_errors=True)
                os.replace(temporary / "made", own)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return found(own, made)


def _key(dataset: CityscapesDataset, image_ids: Sequence[str]) -> str:
    names = [dataset.ground_truth_name(image_id, "instanceIds") for image_id in image_ids]
    digests = {name: dataset.digests[name] for name in names}
    if dataset.has_own_classes:
        return digest_of_files(digests, about=f"panoptic {dataset.split} {dataset.info}")
    script = provenance([MAKE_PANOPTIC])["scripts"]["createPanopticImgs"]["sha256"]
    return digest_of_files(digests, about=f"panoptic {dataset.split} {script}")


def _is_complete(folder: Path, name: str, image_ids: set[str], info: DatasetInfo) -> bool:
    """Says whether a folder has panoptic ground truth with original label ids for all images."""
    try:
        content = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        files = {element["image_id"]: element["file_name"] for element in content["annotations"]}
        categories = {element["id"] for element in content["categories"]}
        present = {path.name for path in (folder / name).iterdir()}
    except (OSError, ValueError, KeyError, TypeError, DataError):
        return False
    return (
        categories == set(info.original_ids)
        and image_ids <= files.keys()
        and {element["id"] for element in content.get("images", [])} >= image_ids
        and {files[image_id] for image_id in image_ids} <= present
        and all(_is_rgb(folder / name / files[image_id]) for image_id in image_ids)
    )


def _annotated_files(annotations: Path) -> dict[str, str]:
    content = json.loads(annotations.read_text(encoding="utf-8"))
    return {element["image_id"]: element["file_name"] for element in content["annotations"]}


def _is_rgb(path: Path) -> bool:
    try:
        header = read_png_header(path)
    except DataError:
        return False
    return (header.bits, header.colour_type) == (8, RGB)


def _make(
    dataset: CityscapesDataset,
    image_ids: Sequence[str],
    temporary: Path,
    name: str,
    jobs: Jobs,
    processes: int,
    patience_s: float,
) -> None:
    # The script takes its files in the order of their paths; parts in that order join to the same result.
    files = sorted(dataset.ground_truth_name(image_id, "instanceIds") for image_id in image_ids)
    parts = max(1, min(processes, len(files) // _IMAGES_PER_PROCESS))
    bounds = [len(files) * part // parts for part in range(parts + 1)]
    shutil.rmtree(temporary, ignore_errors=True)
    root = dataset.local_copy(files)

    def make_part(part: int) -> Path:
        own = files[bounds[part] : bounds[part + 1]]
        folder, output = temporary / f"links{part}", temporary / f"part{part}"
        mirror_files({file: root / file for file in own}, folder)
        output.mkdir(parents=True)
        job = {
            **MAKE_PANOPTIC,
            "ground_truth": str((folder / "gtFine").resolve()),
            "output": str(output.resolve()),
            "split": dataset.split,
            # It runs beside the network, which goes first.
            "nice": 10,
        }
        jobs.run(f"make_panoptic{part}", job, patience_s=patience_s)
        return output

    with ThreadPoolExecutor(parts) as threads:
        outputs = list(threads.map(make_part, range(parts)))
    made = temporary / "made"
    (made / name).mkdir(parents=True)
    joined: dict[str, Any] = {}
    for output in outputs:
        content = json.loads((output / f"{name}.json").read_text(encoding="utf-8"))
        for key in ("images", "annotations"):
            joined.setdefault(key, []).extend(content[key])
        joined["categories"] = content["categories"]
        for path in (output / name).iterdir():
            os.replace(path, made / name / path.name)
    (made / f"{name}.json").write_text(json.dumps(joined, sort_keys=True, indent=4), encoding="utf-8")


def _make_own(dataset: CityscapesDataset, image_ids: Sequence[str], folder: Path, name: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / name).mkdir(parents=True)

    def make_image(image_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
        path = dataset.root / dataset.ground_truth_name(image_id, "instanceIds")
        truth = official_truth_from_instance_ids(decode_id_png(read_bytes(path), str(path)), dataset.info)
        # Void is -1 in the map, and 0 in the PNG.
        height, width = truth.segment_map.shape
        rows = np.zeros((height, 1 + 3 * width), np.uint8)
        rows[:, 1::3], rows[:, 2::3] = (truth.segment_map + 1) & 255, (truth.segment_map + 1) >> 8
        file_name = f"{image_id}_gtFine_panoptic.png"
        (folder / name / file_name).write_bytes(encode_png(rows, width, bits=8, colour_type=RGB))
        areas = np.bincount(truth.segment_map.ravel() + 1, minlength=1 + truth.class_ids.size)[1:]
        segments = [
            {
                "id": i + 1,
                "category_id": dataset.info.original_ids[class_id],
                "area": area,
                "iscrowd": int(crowd),
            }
            for i, (class_id, area, crowd) in enumerate(
                zip(truth.class_ids.tolist(), areas.tolist(), truth.is_crowd.tolist(), strict=True)
            )
        ]
        size = {"id": image_id, "width": width, "height": height, "file_name": f"{image_id}.png"}
        return size, {"image_id": image_id, "file_name": file_name, "segments_info": segments}

    with ThreadPoolExecutor(4) as threads:
        images, annotations = zip(*threads.map(make_image, image_ids), strict=True)
    content = {"images": images, "annotations": annotations, "categories": categories_of(dataset.info)}
    (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")

"""Pictures of a run's best, median and worst image: input, ground truth, prediction, and their difference."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import EvaluationError
from zoo.files.atomic import write_atomically, writing
from zoo.files.processes import available_cores
from zoo.metrics.overlap import index_labels, label_overlaps
from zoo.repro.datasets.colours import class_colours, label_colours
from zoo.repro.datasets.dataset import Sample
from zoo.repro.datasets.image_files import read_bytes
from zoo.repro.datasets.label_shapes import shrink_labels
from zoo.repro.datasets.predictions import PANOPTIC

if TYPE_CHECKING:
    from zoo.registry.dataset_info import DatasetInfo
    from zoo.repro.datasets.dataset import Dataset
    from zoo.repro.records.run_folder import RunFolder

PICTURES = "pictures"
RANKS = ("best", "median", "worst")

_MAX_WIDTH_PX = 640
_JPEG_QUALITY = 85
# Smaller classes would only crowd the legend.
_LEAST_LEGEND_SHARE = 0.001
_OUTLINE = (255, 255, 255)
# The difference picture: vermilion and blue of Okabe and Ito, which differ for colour-blind readers too.
_WRONG_CLASS = (213, 94, 0)
_WRONG_SEGMENT = (0, 114, 178)
_NOT_SCORED = (150, 150, 150)
# The input shines through where the prediction is right: this many greys, from here to white.
_NUM_GREYS = 24
_DARKEST_GREY = 190


def choose_images(qualities: Mapping[str, float]) -> dict[str, str]:
    """Returns rank -> image of the best, the median and the worst image; each image once.

    `qualities` is PQ by image; images of NaN are left out. Among equal ones the name decides.
    """
    ranked = sorted((quality, name) for name, quality in qualities.items() if math.isfinite(quality))
    if not ranked:
        return {}
    positions = {"best": len(ranked) - 1, "median": (len(ranked) - 1) // 2, "worst": 0}
    chosen: dict[str, str] = {}
    for rank in ("best", "worst", "median"):
        name = ranked[positions[rank]][1]
        if name not in chosen.values():
            chosen[rank] = name
    return {rank: chosen[rank] for rank in RANKS if rank in chosen}


def write_pictures(
    dataset: Dataset,
    qualities: Mapping[str, float],
    folder: RunFolder,
    predicted_map: Callable[[str], np.ndarray],
    *,
    has_segments: bool = True,
) -> list[dict[str, Any]]:
    """Writes `pictures/` of a run and returns their part of the run record.

    Args:
      dataset, folder: the ground truth of the images, and the run's folder.
      qualities: PQ of each image of the run, in percent, or what else ranks them.
      predicted_map: returns the predicted panoptic map of an image, [H, W] int32.
      has_segments: False where the maps hold classes alone.

    Returns:
      one object for each image: `image_id`, `rank`, `pq`, `size` (height and width of the original,
      pixels), `files` (kind -> path in the run folder), `wrong_class` and `wrong_segment` (percent of the
      scored pixels), and `classes` (name -> colour as `#rrggbb`, of the classes of at least 0.1 % of the
      pixels in either map).

    Raises:
      DataError: a file of the data set cannot be read.
      EvaluationError: a prediction is gone.
      ZooError: a picture cannot be written.
    """
    position = {image_id: i for i, image_id in enumerate(dataset.image_ids)}
    target = folder.root / PICTURES
    with writing(target):
        target.mkdir(parents=True, exist_ok=True)
        for old in target.iterdir():
            old.unlink()

    def draw(rank: str, image_id: str) -> dict[str, Any]:
        sample = dataset.load_for_display(position[image_id])
        if not has_segments:
            sample = _without_instances(sample, dataset.info)
        predicted = predicted_map(image_id)
        if predicted.shape != sample.panoptic.shape:
            raise EvaluationError(
                f"{folder.predictions}: the prediction for {image_id} has another size than the image; "
                "run again with --restart"
            )
        prefix = folder.root / PICTURES / rank
        found = _draw_image(sample, predicted, dataset.info, prefix, has_segments=has_segments)
        pq = float(qualities[image_id]) if has_segments else None
        return {"image_id": image_id, "rank": rank, "pq": pq, **found}

    chosen = choose_images(qualities)
    with ThreadPoolExecutor(available_cores()) as threads:
        return list(threads.map(draw, chosen.keys(), chosen.values()))


def _draw_image(
    sample: Sample, predicted: np.ndarray, info: DatasetInfo, prefix: Path, *, has_segments: bool
) -> dict[str, Any]:
    """Writes the pictures of one image, whose paths begin so, and returns what the record says of them."""
    wrong, match = compare_maps(sample, predicted, info)
    if not has_segments:
        wrong[wrong == 2] = 0
    predicted = _number_like(predicted, match, info.label_divisor)
    files = {}
    for kind, data in _draw(sample, predicted, wrong, info).items():
        name = f"{prefix.name}_{kind}.{'jpg' if kind == 'input' else 'png'}"
        write_atomically(prefix.with_name(name), data, durable=False)
        files[kind] = f"{PICTURES}/{name}"
    scored = max(int(np.count_nonzero(wrong >= 0)), 1)
    return {
        "size": list(sample.panoptic.shape),
        "files": files,
        "wrong_class": 100 * np.count_nonzero(wrong == 1) / scored,
        "wrong_segment": 100 * np.count_nonzero(wrong == 2) / scored if has_segments else None,
        "classes": _legend(sample.panoptic, predicted, info),
    }


def _without_instances(sample: Sample, info: DatasetInfo) -> Sample:
    """Returns a sample whose panoptic map holds classes alone."""
    panoptic = sample.semantic.astype(np.int32) * info.label_divisor
    return Sample(sample.image_id, sample.image, panoptic, sample.semantic)


def read_panoptic(predictions: Path, image_id: str, info: DatasetInfo) -> np.ndarray:
    """Returns a written prediction as [H, W] int32 panoptic labels; things are numbered from 1 in each class.

    Raises:
      DataError: the file is missing.
      EvaluationError: the files are not a prediction for this data set.
    """
    from PIL import Image, UnidentifiedImageError

    png, entry = (predictions / PANOPTIC / f"{image_id}.{end}" for end in ("png", "json"))
    try:
        with Image.open(io.BytesIO(read_bytes(png))) as image:
            rgb = np.asarray(image.convert("RGB")).astype(np.int32)
        segments = json.loads(read_bytes(entry))["segments_info"]
        class_of = {int(s["id"]): info.train_ids[s["category_id"]] for s in segments}
    except (UnidentifiedImageError, OSError, ValueError, KeyError, TypeError):
        raise EvaluationError(
            f"{png}: is not a prediction for {info.name}; run again with --restart"
        ) from None
    ids, inverse = index_labels((rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]).ravel())
    labels = np.full(ids.size, info.void_label, np.int32)
    count: dict[int, int] = {}
    # By rising id, so that numbers do not depend on where segments lie.
    for i in np.argsort(ids).tolist():
        segment_id = int(ids[i])
        if segment_id in class_of:
            train_id = class_of[segment_id]
            count[train_id] = count.get(train_id, 0) + 1
            is_thing = train_id in info.thing_class_ids
            labels[i] = train_id * info.label_divisor + (count[train_id] if is_thing else 0)
    return labels[inverse].reshape(rgb.shape[:2])


def compare_maps(
    sample: Sample, predicted: np.ndarray, info: DatasetInfo
) -> tuple[np.ndarray, dict[int, int]]:
    """Returns what is wrong at each pixel of a panoptic map, and which segment of it matches which true one.

    Returns:
      [H, W] int8: 0 where the prediction is right; 1 where the class is another one; 2 where the class is
      right but the segment has no match (an IoU above 0.5) or is matched with another; -1 where nothing is
      scored; and predicted label -> its match's label.
    """
    found = label_overlaps(sample.panoptic, predicted)
    gt, pred = found.gt_labels[found.gt_index], found.pred_labels[found.pred_index]
    on_void = gt == info.void_label
    void_areas = np.bincount(found.pred_index[on_void], found.area[on_void], found.pred_labels.size)
    union = (
        found.gt_areas[found.gt_index]
        + found.pred_areas[found.pred_index]
        - found.area
        - void_areas[found.pred_index]
    )
    same_class = ~on_void & (gt // info.label_divisor == pred // info.label_divisor)
    is_match = same_class & (found.area > 0.5 * union)
    # A crowd region is many things at once: a predicted one in it cannot be told right from wrong.
    is_crowd = np.isin(gt, sample.crowd_labels)
    verdict = np.where(same_class, np.where(is_match | is_crowd, 0, 2), 1)
    verdict[on_void] = -1
    table = np.zeros((found.gt_labels.size, found.pred_labels.size), np.int8)
    table[found.gt_index, found.pred_index] = verdict
    wrong = table[_positions(sample.panoptic, found.gt_labels), _positions(predicted, found.pred_labels)]
    return wrong, dict(zip(pred[is_match].tolist(), gt[is_match].tolist(), strict=True))


def _number_like(predicted: np.ndarray, match: Mapping[int, int], divisor: int) -> np.ndarray:
    """Returns the labels with each match's number, so that both maps show it in one shade."""
    labels, inverse = index_labels(predicted.ravel())
    order = np.argsort(labels)
    taken = set(match.values())
    renumbered = np.zeros(labels.size, np.int32)
    for i, label in zip(order.tolist(), labels[order].tolist(), strict=True):
        free = match.get(label, label)
        # A spurious segment must not look like a match; there are far more numbers than segments.
        while label not in match and label % divisor and free in taken:
            free = free + 1 if (free + 1) % divisor else free + 1 - divisor + 1
        taken.add(free)
        renumbered[i] = free
    return renumbered[inverse].reshape(predicted.shape)


def _positions(labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    order = np.argsort(known, kind="stable")
    distinct, index = index_labels(labels.ravel())
    positions: np.ndarray = order[np.searchsorted(known[order], distinct)]
    return positions[index].reshape(labels.shape)


def _draw(sample: Sample, predicted: np.ndarray, wrong: np.ndarray, info: DatasetInfo) -> dict[str, bytes]:
    from PIL import Image

    height, width = predicted.shape
    scale = min(1.0, _MAX_WIDTH_PX / width)
    size = (max(round(height * scale), 1), round(width * scale))
    photograph = Image.fromarray(sample.image).resize(size[::-1], Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    photograph.save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    greys = np.asarray(photograph.convert("L")).astype(np.int32) * (_NUM_GREYS - 1) // 255
    return {
        "input": buffer.getvalue(),
        "ground_truth": _label_png(shrink_labels(sample.panoptic, size), info),
        "prediction": _label_png(shrink_labels(predicted, size), info),
        "difference": _difference_png(shrink_labels(wrong, size), greys),
    }


def _label_png(labels: np.ndarray, info: DatasetInfo) -> bytes:
    """Returns a label map in the classes' colours, things outlined; void is black."""
    present, inverse = np.unique(labels, return_inverse=True)
    indices = inverse.reshape(labels.shape)
    colours, is_thing = label_colours(present, info)
    outline = _borders(indices, is_thing[indices])
    colours = np.concatenate([colours, [_OUTLINE]]).astype(np.uint8)
    return _palette_png(np.where(outline, present.size, indices), colours)


def _borders(labels: np.ndarray, is_thing: np.ndarray) -> np.ndarray:
    """Returns the pixels of a thing, or next to one, whose right or lower neighbour has another label."""
    border = np.zeros(labels.shape, np.bool_)
    border[:, :-1] |= (labels[:, :-1] != labels[:, 1:]) & (is_thing[:, :-1] | is_thing[:, 1:])
    border[:-1] |= (labels[:-1] != labels[1:]) & (is_thing[:-1] | is_thing[1:])
    return border


def _difference_png(wrong: np.ndarray, greys: np.ndarray) -> bytes:
    ramp = np.linspace(_DARKEST_GREY, 255, _NUM_GREYS).round().astype(np.uint8)
    colours = np.concatenate([np.repeat(ramp[:, None], 3, 1), [_WRONG_CLASS, _WRONG_SEGMENT, _NOT_SCORED]])
    indices = greys.copy()
    for index, value in enumerate((1, 2, -1), _NUM_GREYS):
        indices[wrong == value] = index
    return _palette_png(indices, colours)


def _palette_png(indices: np.ndarray, colours: np.ndarray) -> bytes:
    from PIL import Image

    unique, position = np.unique(colours, axis=0, return_inverse=True)
    buffer = io.BytesIO()
    if len(unique) <= 256:
        image = Image.fromarray(position.reshape(-1)[indices].astype(np.uint8), "P")
        image.putpalette(unique.astype(np.uint8).tobytes())
    else:
        image = Image.fromarray(colours.astype(np.uint8)[indices])
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _legend(truth: np.ndarray, predicted: np.ndarray, info: DatasetInfo) -> dict[str, str]:
    base = class_colours(info)
    num = info.num_classes
    classes = ((label_map // info.label_divisor).ravel() for label_map in (truth, predicted))
    area_of = sum(np.bincount(each, minlength=num)[:num] for each in classes)
    shown = np.flatnonzero(area_of >= _LEAST_LEGEND_SHARE * truth.size).tolist()
    return {info.class_names[i]: "#" + bytes(base[i].tolist()).hex() for i in shown if i != info.ignore_label}

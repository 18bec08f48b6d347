"""Times the per-image statistics against what they replace, on one drawn pair of 1024 x 2048 label maps.

Panoptic quality: `label_overlaps` and `PanopticQuality.update` against the official Cityscapes script's
per-image function, and against the same function with its PNG files already decoded. Mask AP: the overlaps
and `MaskAP.update` against encoding each mask by itself with pycocotools; and `MaskAP.update_masks` of run
lengths. Boundary quality against all other statistics of an image together.

Run: python bench/metrics.py [--instances 62] [--repeats 7]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from cityscapesscripts.evaluation import evalPanopticSemanticLabeling as official
from PIL import Image
from pycocotools import mask as coco_mask

from zoo.metrics.boundary import BoundaryQuality, dilation_ratio
from zoo.metrics.mask_ap import MaskAP
from zoo.metrics.mean_iou import MeanIoU
from zoo.metrics.overlap import label_overlaps
from zoo.metrics.panoptic_quality import PanopticQuality
from zoo.metrics.segments import ImageSegments, OfficialTruth

HEIGHT, WIDTH = 1024, 2048
NUM_CLASSES, IGNORE_LABEL, LABEL_DIVISOR = 19, 255, 1000
THING_CLASS_IDS = range(11, 19)
VOID = IGNORE_LABEL * LABEL_DIVISOR


def draw_pair(num_instances: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Stuff in bands, things as ellipses and rectangles; the prediction has moved and ragged borders."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    waves = rows + 40 * np.sin(columns / 170)
    ground_truth = (np.clip(waves // 110, 0, 10).astype(np.int32)) * LABEL_DIVISOR
    ground_truth[-60:] = VOID
    for instance in range(num_instances):
        height, width = generator.integers(24, 260), generator.integers(24, 300)
        top, left = generator.integers(200, HEIGHT - 100), generator.integers(0, WIDTH - 60)
        region = np.s_[top : top + height, left : left + width]
        label = generator.choice(THING_CLASS_IDS) * LABEL_DIVISOR + instance + 1
        radius = ((rows[region] - top) / height * 2 - 1) ** 2 + (
            (columns[region] - left) / width * 2 - 1
        ) ** 2
        ground_truth[region][radius < (1 if instance % 2 else 9)] = label
    # Each pixel of the prediction is copied from a few pixels away: only borders become noisy.
    shift = generator.integers(-4, 5, (2, HEIGHT, WIDTH))
    prediction = ground_truth[
        np.clip(rows + shift[0] + 3, 0, HEIGHT - 1), np.clip(columns + shift[1] - 2, 0, WIDTH - 1)
    ]
    return ground_truth, np.ascontiguousarray(prediction)


def median_s(measure: Callable[[], object], repeats: int) -> float:
    measure()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        measure()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def write_official(folder: Path, name: str, panoptic: np.ndarray) -> dict:
    """Writes the PNG of the Cityscapes panoptic format and returns its annotation."""
    ids = np.where(panoptic == VOID, 0, panoptic + 1)  # the script's void is 0
    png = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(png).save(folder / name)
    segments = []
    for segment_id, area in zip(
        *(array.tolist() for array in np.unique(ids, return_counts=True)), strict=True
    ):
        if segment_id:
            category = (segment_id - 1) // LABEL_DIVISOR
            segments.append({"id": segment_id, "category_id": category, "area": area, "iscrowd": 0})
    return {"image_id": "image", "file_name": name, "segments_info": segments}


@contextlib.contextmanager
def decoded_already(folder: Path) -> Iterator[None]:
    """Lets the official script find the pixels of its PNG files in memory."""
    pixels = {str(path): np.array(Image.open(path)) for path in folder.rglob("*.png")}
    original = official.Image
    official.Image = SimpleNamespace(open=pixels.__getitem__)
    try:
        yield
    finally:
        official.Image = original


def encode_each_mask(ground_truth: np.ndarray, prediction: np.ndarray) -> list:
    """Intersection over union per class from one run-length mask per thing segment."""

    def masks_by_class(label_map: np.ndarray, labels: np.ndarray) -> dict[int, list]:
        masks: dict[int, list] = {}
        for label in labels:
            if label // LABEL_DIVISOR in THING_CLASS_IDS:
                rle = coco_mask.encode(np.asfortranarray(label_map == label))
                masks.setdefault(int(label) // LABEL_DIVISOR, []).append(rle)
        return masks

    truth, predicted = (masks_by_class(m, np.unique(m)) for m in (ground_truth, prediction))
    return [coco_mask.iou(predicted[c], truth[c], [0] * len(truth[c])) for c in truth if c in predicted]


def measures_of(ground_truth: np.ndarray, prediction: np.ndarray) -> dict[str, Callable[[], object]]:
    """Returns what is timed, by name, except for the official script."""
    pred_labels = np.unique(prediction)
    scores = np.random.default_rng(1).random(pred_labels.size)
    gt_semantic, pred_semantic = ground_truth // LABEL_DIVISOR, prediction // LABEL_DIVISOR
    pred_semantic[pred_semantic == IGNORE_LABEL] = 0

    panoptic_quality = PanopticQuality(NUM_CLASSES, IGNORE_LABEL, LABEL_DIVISOR)
    mean_iou = MeanIoU(NUM_CLASSES, IGNORE_LABEL)
    mask_ap = MaskAP(NUM_CLASSES, IGNORE_LABEL, LABEL_DIVISOR, THING_CLASS_IDS)
    encoding = {"label_divisor": LABEL_DIVISOR, "ignore_label": IGNORE_LABEL}
    truth = OfficialTruth.of_panoptic(ground_truth, **encoding)
    boundary = BoundaryQuality(NUM_CLASSES, IGNORE_LABEL, LABEL_DIVISOR, dilation_ratio("cityscapes"))
    segments = ImageSegments.measure(truth, prediction, **encoding)
    things = pred_labels[np.isin(pred_labels // LABEL_DIVISOR, THING_CLASS_IDS)]
    masks = [coco_mask.encode(np.asfortranarray(prediction == label)) for label in things]

    def all_statistics() -> None:
        overlaps = label_overlaps(ground_truth, prediction)
        panoptic_quality.update(overlaps)
        mask_ap.update(overlaps, pred_labels, scores)
        mean_iou.update(gt_semantic, pred_semantic)
        ImageSegments.measure(truth, prediction, **encoding)
        mean_iou.update(truth.semantic(IGNORE_LABEL), pred_semantic)

    return {
        "label_overlaps": lambda: label_overlaps(ground_truth, prediction),
        "pq": lambda: panoptic_quality.update(label_overlaps(ground_truth, prediction)),
        "ap": lambda: mask_ap.update(label_overlaps(ground_truth, prediction), pred_labels, scores),
        "miou": lambda: mean_iou.update(gt_semantic, pred_semantic),
        "ap_of_masks": lambda: mask_ap.update_masks(
            ground_truth, masks, things // LABEL_DIVISOR, scores[: things.size]
        ),
        "all_statistics": all_statistics,
        "boundary": lambda: boundary.update(truth, prediction, pred_semantic, segments=segments),
        "each_mask_encoded": lambda: encode_each_mask(ground_truth, prediction),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--instances", type=int, default=62)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    # Cropped views of larger maps, as the evaluation gives them.
    ground_truth, prediction = (
        np.pad(label_map, ((0, 1), (0, 1)))[:HEIGHT, :WIDTH] for label_map in draw_pair(arguments.instances)
    )
    measures = measures_of(ground_truth, prediction)
    categories = {class_id: {"isthing": class_id in THING_CLASS_IDS} for class_id in range(NUM_CLASSES)}

    with tempfile.TemporaryDirectory() as name:
        gt_folder, pred_folder = Path(name, "gt"), Path(name, "pred")
        gt_folder.mkdir()
        pred_folder.mkdir()
        annotations = [
            (
                write_official(gt_folder, "gt.png", ground_truth),
                write_official(pred_folder, "pred.png", prediction),
            )
        ]

        def official_image() -> object:
            with contextlib.redirect_stdout(io.StringIO()):
                return official.pq_compute_single_core(
                    0, annotations, str(gt_folder), str(pred_folder), categories
                )

        check_equal(official_image(), ground_truth, prediction)
        seconds = {key: median_s(measure, arguments.repeats) for key, measure in measures.items()}
        seconds["official_pq"] = median_s(official_image, arguments.repeats)
        with decoded_already(Path(name)):
            seconds["official_pq_decoded"] = median_s(official_image, arguments.repeats)

    overlaps = label_overlaps(ground_truth, prediction)
    instances = [
        int(np.isin(labels // LABEL_DIVISOR, THING_CLASS_IDS).sum())
        for labels in (overlaps.gt_labels, overlaps.pred_labels)
    ]
    runs = np.count_nonzero(np.diff(ground_truth) | np.diff(prediction)) + HEIGHT
    print(f"{HEIGHT} x {WIDTH}, {instances[0]} true and {instances[1]} predicted instances, {runs} runs")
    print(f"median of {arguments.repeats}, ms per image:")
    for key, value in seconds.items():
        print(f"  {key:20} {1000 * value:9.2f}")
    for text, slow, fast in (
        ("PQ: official script / here", "official_pq", "pq"),
        ("PQ: official script without PNG decoding / here", "official_pq_decoded", "pq"),
        ("AP: each mask encoded / here", "each_mask_encoded", "ap"),
    ):
        print(f"{text}: {seconds[slow] / seconds[fast]:.1f}x")
    added = seconds["boundary"] / seconds["all_statistics"]
    print(f"boundary quality adds to all other statistics of an image: {100 * added:.0f} %")


def check_equal(official_statistics: object, ground_truth: np.ndarray, prediction: np.ndarray) -> None:
    """Both sides must count the same, or the comparison of times means nothing."""
    metric = PanopticQuality(NUM_CLASSES, IGNORE_LABEL, LABEL_DIVISOR)
    metric.update(label_overlaps(ground_truth, prediction))
    for name in ("tp", "fp", "fn"):
        theirs = [getattr(official_statistics[c], name) for c in range(NUM_CLASSES)]  # type: ignore[index]
        if getattr(metric, name).tolist() != theirs:
            sys.exit(f"{name} differs: official {theirs}, here {getattr(metric, name).tolist()}")


if __name__ == "__main__":
    main()

"""Draws street scenes in the COCO panoptic folder layout, of any size and number.

    python bench/draw_coco.py OUT --count 30 --height 480 --width 640 --seed 1

The scenes are those of `draw_scenes.py`; a traffic light or sign is one thing per image.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from draw_scenes import draw_scene
from pycocotools import mask as run_lengths

from zoo.repro.coco.classes import COCO

# Cityscapes label id: COCO category id. What is not here is void.
CATEGORIES = {7: 149, 8: 191, 11: 197, 12: 199, 13: 185, 19: 10, 20: 13, 21: 184, 22: 193, 23: 187}
CATEGORIES |= {24: 1, 25: 1, 26: 3, 27: 8, 28: 6, 31: 7, 32: 4, 33: 2}


def draw_coco(
    out: Path, *, count: int, height: int, width: int, seed: int = 0, things: tuple[int, int] = (5, 16)
) -> None:
    """Draws `count` scenes into `out`."""
    is_thing = {category: i in COCO.thing_class_ids for i, category in enumerate(COCO.original_ids)}
    categories = [
        {"id": category, "name": name, "isthing": int(is_thing[category]), "supercategory": name}
        for category, name in zip(COCO.original_ids[1:], COCO.class_names[1:], strict=True)
    ]
    images, annotations, instances = [], [], []
    (out / "val2017").mkdir(parents=True, exist_ok=True)
    (out / "annotations/panoptic_val2017").mkdir(parents=True, exist_ok=True)
    for index in range(count):
        image, _, instance_ids = draw_scene(height, width, np.random.default_rng([seed, index]), things)
        name = f"{index + 1:012d}"
        cv2.imwrite(str(out / f"val2017/{name}.jpg"), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        images.append({"id": index + 1, "file_name": f"{name}.jpg", "height": height, "width": width})
        colours, segments = np.zeros((height, width, 3), np.uint8), []
        for instance_id in np.unique(instance_ids).tolist():
            label_id = instance_id // 1000 if instance_id >= 1000 else instance_id
            if label_id not in CATEGORIES:
                continue
            category, mask = CATEGORIES[label_id], instance_ids == instance_id
            segment_id = 1 + len(segments) * 7919
            colours[mask] = (segment_id % 256, segment_id // 256 % 256, segment_id // 65536)
            crowd = int(label_id >= 24 and instance_id < 1000)
            area = int(mask.sum())
            segments.append({"id": segment_id, "category_id": category, "area": area, "iscrowd": crowd})
            if is_thing[category]:
                encoded = run_lengths.encode(np.asfortranarray(mask, np.uint8))
                instances.append(
                    {
                        "id": len(instances) + 1,
                        "image_id": index + 1,
                        "category_id": category,
                        "area": area,
                        "iscrowd": crowd,
                        "bbox": run_lengths.toBbox(encoded).tolist(),
                        "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()},
                    }
                )
        cv2.imwrite(str(out / f"annotations/panoptic_val2017/{name}.png"), colours[..., ::-1])
        annotations.append({"image_id": index + 1, "file_name": f"{name}.png", "segments_info": segments})
    for kind, found, kept in (
        ("panoptic", annotations, categories),
        ("instances", instances, [category for category in categories if category["isthing"]]),
    ):
        content = {"images": images, "annotations": found, "categories": kept}
        (out / f"annotations/{kind}_val2017.json").write_text(json.dumps(content), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--seed", type=int, default=0)
    draw_coco(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()

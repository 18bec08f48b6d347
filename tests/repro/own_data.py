"""Makes data sets with five classes of their own and seven images, from the bundled ones."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as run_lengths

IMAGES = 7

# Not in the order of their ids; 0 and 1200 are ids that COCO and Cityscapes never give.
CATEGORIES = [
    {"id": 7, "name": "pedestrian", "isthing": 1, "color": [255, 0, 0]},
    {"id": 1200, "name": "house", "isthing": 0},
    {"id": 3, "name": "auto", "isthing": 1, "supercategory": "vehicle"},
    {"id": 0, "name": "street", "isthing": 0},
    {"id": 40, "name": "heaven", "isthing": 0, "color": [0, 0, 255]},
]
_OWN_CATEGORY = {1: 7, 197: 1200, 3: 3, 149: 0, 187: 40}

CLASSES = [
    {"id": 4, "name": "pedestrian", "isthing": 1, "color": [255, 0, 0]},
    {"id": 64, "name": "auto", "isthing": 1},
    {"id": 0, "name": "street", "isthing": 0},
    {"id": 200, "name": "house", "isthing": 0},
    {"id": 3, "name": "heaven", "isthing": 0},
]
_OWN_LABEL = {7: 0, 11: 200, 23: 3, 24: 4, 26: 64}


def make_own_coco(root: Path, minicoco: Path, *, instances: bool = False) -> Path:
    """Writes a data set in the COCO format with the split `val`; other segments of its images become void."""
    source = json.loads((minicoco / "annotations/panoptic_val2017.json").read_text())
    (root / "val").mkdir(parents=True)
    (root / "annotations/panoptic_val").mkdir(parents=True)
    masks: list[dict[str, Any]] = []
    images, annotations = source["images"][:IMAGES], source["annotations"][:IMAGES]
    for image, annotation in zip(images, annotations, strict=True):
        picture = minicoco / "val2017" / image["file_name"]
        (root / "val" / image["file_name"]).write_bytes(picture.read_bytes())
        with Image.open(minicoco / "annotations/panoptic_val2017" / annotation["file_name"]) as file:
            colours = np.array(file)
        ids = colours.astype(np.int64) @ [1, 256, 65536]
        kept = [part for part in annotation["segments_info"] if part["category_id"] in _OWN_CATEGORY]
        for part in kept:
            part["category_id"] = _OWN_CATEGORY[part["category_id"]]
            if part["category_id"] in (3, 7):
                encoded = run_lengths.encode(np.asfortranarray(ids == part["id"], np.uint8))
                counts = {"size": encoded["size"], "counts": encoded["counts"].decode()}
                thing = {key: part[key] for key in ("category_id", "area", "bbox", "iscrowd")}
                masks.append({**thing, "id": len(masks) + 1, "image_id": image["id"], "segmentation": counts})
        colours[~np.isin(ids, [part["id"] for part in kept])] = 0
        annotation["segments_info"] = kept
        Image.fromarray(colours).save(root / "annotations/panoptic_val" / annotation["file_name"])
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    (root / "annotations/panoptic_val.json").write_text(json.dumps(content))
    if instances:
        things = [row for row in CATEGORIES if row["isthing"]]
        content = {"images": images, "annotations": masks, "categories": things}
        (root / "annotations/instances_val.json").write_text(json.dumps(content))
    return root


def make_own_city(root: Path, minicity: Path) -> Path:
    """Writes a data set in the Cityscapes layout, with free file names; other classes become label id 255."""
    for number, picture in enumerate(sorted(minicity.glob("leftImg8bit/val/*/*.png"))[:IMAGES]):
        target = root / f"leftImg8bit/val/town/scene {number}_leftImg8bit.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(picture.read_bytes())
        stem = picture.name.removesuffix("_leftImg8bit.png")
        name = f"gtFine/val/{picture.parent.name}/{stem}_gtFine_instanceIds.png"
        with Image.open(minicity / name) as file:
            ids = np.array(file).astype(np.int64)
        label = np.where(ids >= 1000, ids // 1000, ids)
        own = np.full(256, 255)
        own[list(_OWN_LABEL)] = list(_OWN_LABEL.values())
        labels = own[label]
        instance_ids = np.where((ids >= 1000) & (labels != 255), labels * 1000 + ids % 1000, labels)
        folder = root / "gtFine/val/town"
        folder.mkdir(parents=True, exist_ok=True)
        for kind, pixels in (
            ("labelIds", labels.astype(np.uint8)),
            ("instanceIds", instance_ids.astype(np.uint16)),
        ):
            Image.fromarray(pixels).save(folder / f"scene {number}_gtFine_{kind}.png")
    return root


def cut_checkpoint(archive: Path, entry: str, train_ids: Sequence[int]) -> Path:
    """Writes the checkpoint of a bundled entry with the semantic outputs `train_ids` alone, in this order."""
    import tensorflow as tf

    from zoo.fetch.fetcher import Fetcher
    from zoo.registry import load_registry

    prefix = str(Fetcher().checkpoint(load_registry().resolve(entry)).path)
    reader, tensors = tf.train.load_checkpoint(prefix), {}
    for key in reader.get_variable_to_shape_map():
        if not key.startswith("_CHECKPOINTABLE"):
            value = reader.get_tensor(key)
            tensors[key] = value[..., train_ids] if key.startswith("semantic_last_layer/") else value
    folder = archive.with_name("cut")
    folder.mkdir()
    tf.raw_ops.SaveV2(
        prefix=str(folder / "ckpt-1"),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(folder, "cut")
    return archive

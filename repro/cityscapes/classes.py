"""The classes of Cityscapes, and label ids to and from train ids."""

from __future__ import annotations

import numpy as np

from zoo.registry.dataset_info import DatasetInfo

# (name, label id, colour) by train id, as in the official `helpers/labels.py`.
_CLASSES = (
    ("road", 7, "804080"),
    ("sidewalk", 8, "f423e8"),
    ("building", 11, "464646"),
    ("wall", 12, "66669c"),
    ("fence", 13, "be9999"),
    ("pole", 17, "999999"),
    ("traffic light", 19, "faaa1e"),
    ("traffic sign", 20, "dcdc00"),
    ("vegetation", 21, "6b8e23"),
    ("terrain", 22, "98fb98"),
    ("sky", 23, "4682b4"),
    ("person", 24, "dc143c"),
    ("rider", 25, "ff0000"),
    ("car", 26, "00008e"),
    ("truck", 27, "000046"),
    ("bus", 28, "003c64"),
    ("train", 31, "005064"),
    ("motorcycle", 32, "0000e6"),
    ("bicycle", 33, "770b20"),
)
NUM_LABEL_IDS = 34
LABEL_IDS_WITH_INSTANCES = range(24, NUM_LABEL_IDS)
"""Label ids whose instances are told apart; caravan (29) and trailer (30) are void in every score."""

CITYSCAPES = DatasetInfo(
    name="cityscapes",
    num_classes=len(_CLASSES),
    class_names=tuple(name for name, _, _ in _CLASSES),
    thing_class_ids=tuple(i for i, row in enumerate(_CLASSES) if row[1] in LABEL_IDS_WITH_INSTANCES),
    label_divisor=1000,
    ignore_label=255,
    original_ids=tuple(label_id for _, label_id, _ in _CLASSES),
    upstream_name="cityscapes_panoptic",
    colours=tuple(colour for _, _, colour in _CLASSES),
)

TRAIN_ID_TO_LABEL_ID = np.zeros(256, np.uint8)
"""[256] uint8: label id of each train id; 0 (unlabeled) for everything that is not a train id."""
TRAIN_ID_TO_LABEL_ID[: CITYSCAPES.num_classes] = CITYSCAPES.original_ids

LABEL_ID_TO_TRAIN_ID = np.full(256, CITYSCAPES.ignore_label, np.uint8)
"""[256] uint8: train id of each label id; 255 for label ids that are not scored."""
LABEL_ID_TO_TRAIN_ID[list(CITYSCAPES.original_ids)] = np.arange(CITYSCAPES.num_classes, dtype=np.uint8)

for _table in (TRAIN_ID_TO_LABEL_ID, LABEL_ID_TO_TRAIN_ID):
    _table.flags.writeable = False

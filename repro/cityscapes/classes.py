"""The classes of Cityscapes, and label ids to train ids for any data set in its layout."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from zoo.registry.dataset_info import DatasetInfo

if TYPE_CHECKING:
    from zoo.registry.schema import DatasetDeclaration

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
    void_ids=tuple(i for i in range(NUM_LABEL_IDS) if i not in {label_id for _, label_id, _ in _CLASSES}),
)


def classes_of_table(declared: DatasetDeclaration) -> DatasetInfo:
    """Returns the classes of a table in the registry: train ids are their places in it, and 255 is void.

    A table that repeats that of Cityscapes gives `CITYSCAPES`.
    """
    rows = declared.classes or ()
    ids = tuple(row.id for row in rows)
    info = replace(
        CITYSCAPES,
        num_classes=len(rows),
        class_names=tuple(row.name for row in rows),
        thing_class_ids=tuple(i for i, row in enumerate(rows) if row.isthing),
        original_ids=ids,
        colours=tuple("" if row.colour is None else bytes(row.colour).hex() for row in rows),
        void_ids=tuple(void_id for void_id in declared.void_ids if void_id not in ids) or (255,),
        upstream_name="",
    )
    the_same = replace(CITYSCAPES, colours=info.colours, void_ids=info.void_ids, upstream_name="")
    return CITYSCAPES if info == the_same else info


@cache
def train_id_of_label_id(info: DatasetInfo) -> np.ndarray:
    """Returns the train id of each label id, [256] uint8; void for those that are not scored."""
    train_ids = np.full(256, info.ignore_label, np.uint8)
    train_ids[list(info.train_ids)] = list(info.train_ids.values())
    train_ids.flags.writeable = False
    return train_ids


@cache
def label_ids_with_instances(info: DatasetInfo) -> frozenset[int]:
    """Returns the label ids whose instances may be told apart; elsewhere than in Cityscapes also void's."""
    if info == CITYSCAPES:
        return frozenset(LABEL_IDS_WITH_INSTANCES)
    return frozenset(info.original_ids[i] for i in info.thing_class_ids) | set(info.void_ids)

"""Panoptic maps and segments from Cityscapes' instance ids."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import DataError
from zoo.files.machine_code import compiled
from zoo.metrics.segments import OfficialTruth
from zoo.repro.cityscapes.classes import label_ids_with_instances, train_id_of_label_id

if TYPE_CHECKING:
    from zoo.registry.dataset_info import DatasetInfo

# An instance id is a label id, or label id * 1000 + instance: fixed by the file format.
_INSTANCE_DIVISOR = 1000


def label_ids_in(instance_ids: Iterable[int]) -> tuple[set[int], set[int]]:
    """Returns the label ids with instances, and those that stand alone."""
    ids = set(instance_ids)
    with_instances = {instance_id for instance_id in ids if instance_id >= _INSTANCE_DIVISOR}
    return {instance_id // _INSTANCE_DIVISOR for instance_id in with_instances}, ids - with_instances


def panoptic_from_instance_ids(
    instance_ids: np.ndarray, info: DatasetInfo, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the panoptic map that the reference trains and scores with, and its semantic map.

    Equal to the official `createPanopticImgs` with train ids followed by DeepLab2's
    `build_cityscapes_data.py` with crowd as void: instances are numbered from 1 in each class by rising
    instance id; crowds and classes that are not scored are void.

    Args:
      instance_ids: [H, W] uint8 or uint16, as stored in `*_instanceIds.png`.
      info: the classes of the data set.
      name: name of the file for error messages.

    Returns:
      panoptic: [H, W] int32, train id * 1000 + instance.
      semantic: [H, W] uint8, train ids; 255 is void.

    Raises:
      DataError: an id is not one of the data set's, or a class has too many instances.
    """
    present = np.flatnonzero(_present_ids(instance_ids))
    with_instances = label_ids_with_instances(info)
    kept = {}
    for instance_id in present.tolist():
        is_instance = instance_id >= _INSTANCE_DIVISOR
        label_id = instance_id // _INSTANCE_DIVISOR if is_instance else instance_id
        if label_id not in (with_instances if is_instance else info.every_id):
            raise DataError(f"{name}: {_explain_id(instance_id, info)}")
        train_id = info.train_ids.get(label_id, info.ignore_label)
        if train_id != info.ignore_label and (is_instance or train_id not in info.thing_class_ids):
            kept[instance_id] = train_id
    panoptic_label = np.full(int(present[-1]) + 1, info.void_label, np.int32)
    panoptic_label[list(kept)] = info.number_segments(kept.values(), name)
    semantic_label = (panoptic_label // info.label_divisor).astype(np.uint8)
    panoptic = np.empty(instance_ids.shape, np.int32)
    semantic = np.empty(instance_ids.shape, np.uint8)
    _look_up(instance_ids, panoptic_label, semantic_label, panoptic, semantic)
    return panoptic, semantic


def official_truth_from_instance_ids(instance_ids: np.ndarray, info: DatasetInfo) -> OfficialTruth:
    """Returns the segments that the official `createPanopticImgs` makes, crowd regions included.

    `instance_ids` and `info` are as for `panoptic_from_instance_ids`, which has checked them.
    """
    present = np.flatnonzero(_present_ids(instance_ids))
    has_instance = present >= _INSTANCE_DIVISOR
    class_ids = train_id_of_label_id(info)[np.where(has_instance, present // _INSTANCE_DIVISOR, present)]
    is_scored = class_ids != info.ignore_label
    segment_ids, class_ids = present[is_scored], class_ids[is_scored]
    position = np.full(int(present[-1]) + 1, -1, np.int32)
    position[segment_ids] = np.arange(segment_ids.size)
    return OfficialTruth(
        segment_map=position[instance_ids],
        segment_ids=segment_ids.astype(np.int32),
        class_ids=class_ids.astype(np.int32),
        is_crowd=~has_instance[is_scored] & np.isin(class_ids, info.thing_class_ids),
    )


def _explain_id(instance_id: int, info: DatasetInfo) -> str:
    label_id = instance_id // _INSTANCE_DIVISOR
    if not info.upstream_name:
        return (
            f"holds id {instance_id}, neither a label id that is declared nor a thing's label id * 1000 + "
            "instance; add the class to `classes:`, or its label id to `void_ids:`, of the registry file"
        )
    if instance_id == info.ignore_label or label_id in info.thing_class_ids:
        return (
            f"holds train ids (found {instance_id}); expected the original label ids as in "
            "*_gtFine_instanceIds.png of the download, not *_instanceTrainIds.png"
        )
    return f"holds id {instance_id}, neither a label id (0 to 33) nor a thing's label id * 1000 + instance"


@compiled
def _present_ids(ids):  # type: ignore[no-untyped-def]
    present = np.zeros(65536, np.bool_)
    for y in range(ids.shape[0]):
        for x in range(ids.shape[1]):
            present[ids[y, x]] = True
    return present


@compiled
def _look_up(ids, panoptic_label, semantic_label, panoptic, semantic):  # type: ignore[no-untyped-def]
    for y in range(ids.shape[0]):
        for x in range(ids.shape[1]):
            panoptic[y, x] = panoptic_label[ids[y, x]]
            semantic[y, x] = semantic_label[ids[y, x]]

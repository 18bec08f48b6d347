"""One image's segments as the official scripts count them, kept so that any rule can be applied later.

The internal metrics score a ground truth in which crowd regions are void. The official scripts keep these as
segments of their own. The counts of both kinds of segments and of their intersections are a few hundred bytes
per image; every variant of panoptic quality follows from them without the pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np

from zoo.errors import DataError
from zoo.files.machine_code import compiled
from zoo.metrics.metric import stored_array
from zoo.metrics.overlap import LabelOverlaps, index_labels, label_overlaps


@compiled
def look_up(table: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Returns `table[index]` of a map, -1 the last, in a fraction of the time."""
    found = np.empty(index.shape, table.dtype)
    for row in range(index.shape[0]):
        for column in range(index.shape[1]):
            found[row, column] = table[index[row, column]]
    return found


@dataclass(frozen=True, eq=False)
class OfficialTruth:
    """One image's ground truth with its crowd regions, as the official scripts read it."""

    # [H, W] int32, position of each pixel's segment in the arrays below, -1 for void.
    segment_map: np.ndarray = field(repr=False)
    segment_ids: np.ndarray  # [S] int32, ids in the official files, rising
    class_ids: np.ndarray  # [S] int32, train ids
    is_crowd: np.ndarray  # [S] bool

    @classmethod
    def of_panoptic(cls, panoptic: np.ndarray, *, label_divisor: int, ignore_label: int) -> OfficialTruth:
        """Returns the truth of a panoptic map, [H, W] int32: each label is a segment, and none a crowd.

        Labels of the class `ignore_label` are void.
        """
        labels, index = index_labels(panoptic.reshape(-1))
        segments = np.sort(labels[labels // label_divisor != ignore_label])
        position = np.searchsorted(segments, labels).astype(np.int32)
        position[labels // label_divisor == ignore_label] = -1
        return cls(
            segment_map=position[index].reshape(panoptic.shape),
            segment_ids=segments,
            class_ids=segments // label_divisor,
            is_crowd=np.zeros(segments.size, np.bool_),
        )

    def semantic(self, ignore_label: int) -> np.ndarray:
        """Returns the class of each pixel, [H, W] int32, crowd regions included; `ignore_label` for void."""
        # The last element is what -1 finds.
        return look_up(np.append(self.class_ids, ignore_label).astype(np.int32), self.segment_map)


# Counts are arrays over all classes.
_MOST_CLASSES = 1 << 16
_FIRST_OF = {"gt": "gt_id", "pred": "pred_label", "overlap": "overlap_gt"}


@dataclass(frozen=True, eq=False)
class ImageSegments:
    """Segments of one image's official ground truth and of its prediction, and their intersections.

    Void is not among the segments: its overlap with each predicted segment is `pred_void_area`, and the
    pixels that are void in the prediction are in no predicted segment. Areas are in pixels.
    """

    gt_id: np.ndarray  # [G] int32, ids in the official files, rising; none without a pixel
    gt_class: np.ndarray  # [G] int32, train ids
    gt_is_crowd: np.ndarray  # [G] bool
    gt_area: np.ndarray  # [G] int64
    pred_label: np.ndarray  # [P] int32, class * label_divisor + instance, rising
    pred_class: np.ndarray  # [P] int32, train ids
    pred_area: np.ndarray  # [P] int64, with the pixels on void
    pred_void_area: np.ndarray  # [P] int64, pixels whose ground truth is void
    overlap_gt: np.ndarray  # [N] int32, position among the G segments; sorted by it, then by `overlap_pred`
    overlap_pred: np.ndarray  # [N] int32, position among the P segments
    overlap_area: np.ndarray  # [N] int64, at least 1

    @classmethod
    def measure(
        cls, truth: OfficialTruth, panoptic: np.ndarray, *, label_divisor: int, ignore_label: int
    ) -> ImageSegments:
        """Counts one image; `panoptic` is the predicted map, [H, W] int32 of the size of the truth.

        Its labels of the class `ignore_label` are void.
        """
        overlaps = label_overlaps(truth.segment_map, panoptic)
        return cls.of_overlaps(truth, overlaps, label_divisor=label_divisor, ignore_label=ignore_label)

    @classmethod
    def of_overlaps(
        cls, truth: OfficialTruth, found: LabelOverlaps, *, label_divisor: int, ignore_label: int
    ) -> ImageSegments:
        """Returns the segments from the overlaps of the truth's segment map with a predicted map."""
        is_segment = found.gt_labels >= 0
        is_predicted = found.pred_labels // label_divisor != ignore_label
        gt_order = np.argsort(found.gt_labels, kind="stable")[np.count_nonzero(~is_segment) :]
        pred_order = np.argsort(found.pred_labels, kind="stable")
        pred_order = pred_order[is_predicted[pred_order]]
        gt_position = np.full(found.gt_labels.size, -1, np.int32)
        gt_position[gt_order] = np.arange(gt_order.size)
        pred_position = np.full(found.pred_labels.size, -1, np.int32)
        pred_position[pred_order] = np.arange(pred_order.size)

        overlap_gt, overlap_pred = gt_position[found.gt_index], pred_position[found.pred_index]
        void_area = np.zeros(pred_order.size, np.int64)
        on_void = (overlap_gt < 0) & (overlap_pred >= 0)
        void_area[overlap_pred[on_void]] = found.area[on_void]
        kept = np.flatnonzero((overlap_gt >= 0) & (overlap_pred >= 0))
        kept = kept[np.lexsort((overlap_pred[kept], overlap_gt[kept]))]
        segments, labels = found.gt_labels[gt_order], found.pred_labels[pred_order]
        return cls(
            gt_id=truth.segment_ids[segments].astype(np.int32),
            gt_class=truth.class_ids[segments].astype(np.int32),
            gt_is_crowd=truth.is_crowd[segments].astype(np.bool_),
            gt_area=found.gt_areas[gt_order],
            pred_label=labels,
            pred_class=(labels // label_divisor).astype(np.int32),
            pred_area=found.pred_areas[pred_order],
            pred_void_area=void_area,
            overlap_gt=overlap_gt[kept],
            overlap_pred=overlap_pred[kept],
            overlap_area=found.area[kept],
        )

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns the arrays by name, ready for `np.savez`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> ImageSegments:
        """Returns what `to_arrays` described, among other names.

        Raises:
            DataError: an array is missing, or does not fit the others.
        """
        found = {field.name: stored_array(arrays, field.name, "segments") for field in fields(cls)}
        for name, array in found.items():
            first = found[_FIRST_OF[name.partition("_")[0]]]
            if array.shape != (first.size,):
                raise DataError(
                    f"segments record, array {name!r}: expected shape {(first.size,)}, found {array.shape}; "
                    "delete the record and evaluate again"
                )
        counts = {"overlap_gt": found["gt_id"].size, "overlap_pred": found["pred_label"].size}
        for name, count in {**counts, "gt_class": _MOST_CLASSES, "pred_class": _MOST_CLASSES}.items():
            if found[name].size and not 0 <= found[name].min() <= found[name].max() < count:
                raise DataError(
                    f"segments record, array {name!r}: expected values of 0 to {count - 1}, found "
                    f"{found[name].min()} to {found[name].max()}; delete the record and evaluate again"
                )
        return cls(**found)

"""Mean intersection over union of semantic maps, equal to `tf.keras.metrics.MeanIoU` with ignored pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from typing_extensions import Self

from zoo.errors import DataError
from zoo.files.machine_code import compiled
from zoo.metrics.metric import Metric, stored_array
from zoo.metrics.overlap import LabelOverlaps, check_maps


@dataclass(frozen=True, eq=False)
class MeanIoUResult:
    """Mean IoU in percent, unrounded, and its parts."""

    miou: float  # mean over the classes that occur in ground truth or prediction; NaN where none does
    iou_per_class: np.ndarray  # [C] float64, percent; NaN for a class that does not occur
    confusion: np.ndarray = field(repr=False)  # [C, C] int64 pixels, ground truth by row
    unions: np.ndarray = field(repr=False)  # [C] int64 pixels, of ground truth or prediction


@compiled
def _add_pixels(
    ground_truth: np.ndarray,
    prediction: np.ndarray,
    ignore_label: int,
    confusion: np.ndarray,
    unlabelled: np.ndarray,
) -> tuple[int, int]:
    """Adds the pixels; returns the position of the first pixel out of range, or (-1, -1)."""
    num_classes = confusion.shape[0]
    height, width = ground_truth.shape
    for row in range(height):
        gt_row, pred_row = ground_truth[row], prediction[row]
        start = 0
        for end in range(1, width + 1 if width else 0):
            if end < width and gt_row[end] == gt_row[end - 1] and pred_row[end] == pred_row[end - 1]:
                continue
            gt_class, pred_class = gt_row[start], pred_row[start]
            if gt_class != ignore_label:
                if not 0 <= gt_class < num_classes:
                    return row, start
                if 0 <= pred_class < num_classes:
                    confusion[gt_class, pred_class] += end - start
                elif pred_class == ignore_label:
                    unlabelled[gt_class] += end - start
                else:
                    return row, start
            start = end
    return -1, -1


class MeanIoU(Metric):
    """Mean IoU of the semantic prediction over all pixels whose ground truth is not ignored.

    State: the confusion matrix, [C, C] int64, and each class's pixels for which no class is predicted, [C]
    int64, which are missed and no other class's mistake; sums are exact, in any order.

    Args:
        num_classes: number of classes, C.
        ignore_label: class of the ground truth whose pixels are left out; may lie outside 0..C-1.

    >>> import numpy as np
    >>> metric = MeanIoU(num_classes=3, ignore_label=255)
    >>> metric.update(np.array([[0, 0, 1, 255]], np.uint8), np.array([[0, 1, 1, 2]], np.uint8))
    >>> result = metric.compute()
    >>> result.miou, result.iou_per_class.tolist()
    (50.0, [50.0, 50.0, nan])
    """

    setting_names = ("num_classes", "ignore_label")

    def __init__(self, num_classes: int, ignore_label: int) -> None:
        super().__init__(num_classes, ignore_label)
        self._confusion = np.zeros((self.num_classes, self.num_classes), np.int64)
        self._unlabelled = np.zeros(self.num_classes, np.int64)

    @property
    def confusion(self) -> np.ndarray:
        """Pixels by ground truth (row) and prediction (column), [C, C] int64."""
        return self._confusion.copy()

    def update(self, gt_semantic: np.ndarray, pred_semantic: np.ndarray) -> None:
        """Adds one image.

        Args:
            gt_semantic: [H, W], any integer dtype: classes, or `ignore_label`; crowd pixels with their class.
            pred_semantic: [H, W], any integer dtype: the semantic head's most probable class; `ignore_label`
                for none.

        Raises:
            ValueError: a map is not 2-D and integer, or the two shapes differ.
            DataError: a scored pixel's class is not in 0..C-1; the state is unchanged.
        """
        check_maps("semantic", np.integer, gt_semantic=gt_semantic, pred_semantic=pred_semantic)
        image_confusion, unlabelled = np.zeros_like(self._confusion), np.zeros_like(self._unlabelled)
        row, column = _add_pixels(gt_semantic, pred_semantic, self.ignore_label, image_confusion, unlabelled)
        if row >= 0:
            raise DataError(
                f"semantic maps, row {row}, column {column}: "
                f"expected classes of 0..{self.num_classes - 1} or {self.ignore_label}, "
                f"found ground truth {gt_semantic[row, column]} and prediction {pred_semantic[row, column]}; "
                "convert the labels to train ids"
            )
        self._confusion += image_confusion
        self._unlabelled += unlabelled

    def update_overlaps(self, overlaps: LabelOverlaps, gt_classes: np.ndarray, label_divisor: int) -> None:
        """Adds one image whose pixels are counted already, with the classes of the predicted labels.

        Args:
            overlaps: of any labels of the ground truth with predicted panoptic labels.
            gt_classes: [G] integer, the class of each label of the ground truth.
            label_divisor: factor between class and instance in a predicted label.

        Raises:
            DataError: a scored pixel's class is not in 0..C-1; the state is unchanged.
        """
        gt = gt_classes[overlaps.gt_index]
        is_scored = gt != self.ignore_label
        gt, area = gt[is_scored], overlaps.area[is_scored]
        pred = (overlaps.pred_labels // label_divisor)[overlaps.pred_index[is_scored]]
        has_class = (pred >= 0) & (pred < self.num_classes)
        is_known = (gt >= 0) & (gt < self.num_classes) & (has_class | (pred == self.ignore_label))
        if not is_known.all():
            raise DataError(
                f"panoptic labels: expected classes of 0..{self.num_classes - 1} or {self.ignore_label}, "
                f"found ground truth {gt[~is_known][0]} and prediction {pred[~is_known][0]}; "
                "convert the labels to train ids"
            )
        np.add.at(self._confusion, (gt[has_class], pred[has_class]), area[has_class])
        np.add.at(self._unlabelled, gt[~has_class], area[~has_class])

    def compute(self) -> MeanIoUResult:
        """Returns mean and per-class IoU in percent; classes in neither map are left out of the mean."""
        intersections = np.diagonal(self._confusion)
        unions = self._confusion.sum(axis=0) + self._confusion.sum(axis=1) - intersections + self._unlabelled
        occurs = unions > 0
        iou = 100 * np.divide(intersections, unions, out=np.full(unions.size, np.nan), where=occurs)
        miou = float(iou[occurs].mean()) if occurs.any() else float("nan")
        return MeanIoUResult(miou, iou, self.confusion, unions)

    def _state(self) -> dict[str, np.ndarray]:
        return {"confusion": self._confusion, "unlabelled": self._unlabelled}

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Returns what `Metric.to_arrays` does, without `unlabelled` where every pixel has a class."""
        arrays = super().to_arrays()
        if not self._unlabelled.any():
            del arrays["unlabelled"]
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Returns what `Metric.from_arrays` does; without `unlabelled` every pixel has a class."""
        classes = stored_array(arrays, "confusion", cls.__name__).shape[:1]
        return super().from_arrays({"unlabelled": np.zeros(classes, np.int64), **arrays})

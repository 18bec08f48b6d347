"""Boundary PQ and boundary IoU: how well the outlines of segments are found.

Source: "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation" (Cheng et al., CVPR 2021) and
its boundary-iou-api. The boundary region of a mask is made of its pixels within `distance` of its edge, in
chess-board distance; what lies outside of the image is outside of every mask.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from zoo.files.machine_code import compiled
from zoo.metrics.metric import check_segment_classes
from zoo.metrics.overlap import check_maps, count_row, no_pairs, overlaps_of, with_room
from zoo.metrics.panoptic_quality import PanopticQualityResult, QualitySums
from zoo.metrics.pq_rules import OFFICIAL, count_matches, overlap_ious
from zoo.metrics.segments import ImageSegments, OfficialTruth

_DEFAULT_RATIO = 0.02
_RATIOS = {"cityscapes": 0.005}


def dilation_ratio(format_name: str) -> float:
    """Returns the share of the image diagonal that the distance is, as boundary-iou-api has it for a format.

    About 16 pixels of a COCO image, and 11 of a Cityscapes image, whose edges are annotated more finely.
    """
    return _RATIOS.get(format_name, _DEFAULT_RATIO)


def boundary_distance_px(shape: tuple[int, ...], ratio: float) -> int:
    """Returns the distance for images of `shape` (height, width): a share of the diagonal, at least 1."""
    return max(1, round(ratio * float(np.sqrt(shape[0] ** 2 + shape[1] ** 2))))


@compiled
def _add_row(line: np.ndarray, above: np.ndarray, distance: int, rows: np.ndarray) -> None:
    """Counts in `rows`, for each column, the rows in succession that are of one label around it.

    Those are the rows up to this one that have the label of `line` in the column and for `distance` pixels to
    each side.
    """
    start = 0
    for end in range(1, line.size + 1):
        if end < line.size and line[end] == line[end - 1]:
            continue
        first = min(start + distance, end)
        last = max(end - distance, first)
        rows[start:first] = 0
        rows[last:end] = 0
        label, here, before = line[start], rows[first:last], above[first:last]
        for column in range(here.size):
            here[column] = here[column] * (before[column] == label) + np.int32(1)
        start = end


@compiled
def _draw_outlines(line: np.ndarray, is_inner: np.ndarray, inner: int, void: int, drawn: np.ndarray) -> None:
    """Copies a row into `drawn`, with `inner` where a label other than `void` is inner."""
    for column in range(line.size):
        drawn[column] = inner if is_inner[column] & (line[column] != void) else line[column]


@compiled
def _count_outline_pairs(
    ground_truth: np.ndarray,
    prediction: np.ndarray,
    distance: int,
    inner: tuple[int, int],
    void: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the pairs of labels of two maps of outlines: both labels and the pixel count of each.

    `inner`, one of each map, are the labels of pixels that are no outline: the square around such a pixel, of
    `distance` pixels to each side, is in the image and of one label. That is so where each of its rows is,
    and all have the same label in the middle. Pixels of the labels `void` stay.
    """
    height, width = ground_truth.shape
    pairs, count = no_pairs(), 0
    gt_rows, pred_rows = np.zeros(width, np.int32), np.zeros(width, np.int32)
    gt_line, pred_line = np.empty(width, np.int32), np.empty(width, np.int32)
    for row in range(height + distance if width else 0):
        if row < height:
            _add_row(ground_truth[row], ground_truth[max(0, row - 1)], distance, gt_rows)
            _add_row(prediction[row], prediction[max(0, row - 1)], distance, pred_rows)
        elif row == height:
            gt_rows[:], pred_rows[:] = 0, 0
        middle = row - distance
        if 0 <= middle < height:
            _draw_outlines(ground_truth[middle], gt_rows > 2 * distance, inner[0], void[0], gt_line)
            _draw_outlines(prediction[middle], pred_rows > 2 * distance, inner[1], void[1], pred_line)
            pairs = with_room(pairs, count + width)
            count = count_row(gt_line, pred_line, pairs, count)
    return pairs[2][:count].copy(), pairs[3][:count].copy(), pairs[4][:count].copy()


@dataclass(frozen=True, eq=False)
class BoundaryResult:
    """Boundary quality of a set of images, in percent, unrounded."""

    quality: PanopticQualityResult
    """PQ, SQ and RQ with the lower of mask IoU and boundary IoU in place of the mask IoU."""
    miou: float
    """Mean boundary IoU over the classes that occur; NaN where none does."""
    iou_per_class: np.ndarray
    """[C] float64, percent; NaN for a class that does not occur, and for the ignored one."""


class BoundaryQuality(QualitySums):
    """Boundary PQ of panoptic maps and boundary IoU of semantic maps.

    Boundary PQ follows boundary-iou-api: the rules of the official panoptic script, void and crowd regions
    included, where the IoU of two segments is the lower of that of their masks and that of their boundary
    regions. Predicted boundary pixels on void do not count in a union.

    The boundary IoU of a class is, as in mean IoU, a quotient of sums over images: the pixels in the boundary
    regions of both maps, by those in either; pixels that are void in the ground truth do not count.

    State: the sums of `QualitySums`, and per class the pixels of boundary regions; all exact, in any order.

    Args:
        num_classes: number of classes, C.
        ignore_label: class that is not scored; may lie outside 0..C-1.
        label_divisor: factor between class and instance in a label.
        dilation_ratio: the distance as a share of the image diagonal.

    >>> truth, prediction = np.full((2, 9, 9), 1001, np.int32)
    >>> prediction[:, 7:] = 0
    >>> truth = OfficialTruth.of_panoptic(truth, label_divisor=1000, ignore_label=255)
    >>> metric = BoundaryQuality(2, ignore_label=255, label_divisor=1000, dilation_ratio=0.1)
    >>> metric.update(truth, prediction, prediction // 1000)
    >>> result = metric.compute()
    >>> bool(result.quality.iou[1] == 21 / 39), round(result.miou, 2)
    (True, 26.92)
    """

    setting_names = (*QualitySums.setting_names, "dilation_ratio")

    def __init__(
        self, num_classes: int, ignore_label: int, label_divisor: int, dilation_ratio: float
    ) -> None:
        super().__init__(num_classes, ignore_label, label_divisor)
        if not 0 < dilation_ratio < 1:
            raise ValueError(f"dilation_ratio must be between 0 and 1, found {dilation_ratio}")
        self.dilation_ratio = float(dilation_ratio)
        # Rows: pixels in the boundary regions of both maps, of the ground truth, of the prediction.
        self._boundary_areas = np.zeros((3, self.num_classes), np.int64)

    def update(
        self,
        truth: OfficialTruth,
        panoptic: np.ndarray | None,
        semantic: np.ndarray | None,
        segments: ImageSegments | None = None,
    ) -> None:
        """Adds one image.

        Args:
            truth: the ground truth with its crowd regions.
            panoptic: [H, W] int32, the predicted panoptic map; labels of the class `ignore_label` are void.
                None where none was predicted: then boundary PQ stays as it is.
            semantic: [H, W] integer, the predicted class of each pixel. None likewise, for boundary IoU.
            segments: `ImageSegments.measure` of `truth` and `panoptic`, where they are at hand.

        Raises:
            ValueError: a map is not 2-D and integer, or the shapes differ.
            DataError: a predicted label's class is neither one of the C classes nor the ignore label.
        """
        distance = boundary_distance_px(truth.segment_map.shape, self.dilation_ratio)
        if semantic is not None:
            check_maps("semantic", np.integer, gt_segments=truth.segment_map, pred_semantic=semantic)
        if panoptic is not None:
            self._add_panoptic(truth, panoptic, segments, distance)
        if semantic is not None:
            self._add_semantic(truth.semantic(self.ignore_label), semantic.astype(np.int32), distance)

    def compute(self, thing_class_ids: Collection[int] | None = None) -> BoundaryResult:
        """Returns boundary PQ and boundary IoU."""
        both, gt, pred = self._boundary_areas
        unions = gt + pred - both
        occurs = unions > 0
        iou = 100 * np.divide(both, unions, out=np.full(unions.size, np.nan), where=occurs)
        miou = float(iou[occurs].mean()) if occurs.any() else float("nan")
        return BoundaryResult(self._quality(thing_class_ids), miou, iou)

    def _add_panoptic(
        self, truth: OfficialTruth, panoptic: np.ndarray, segments: ImageSegments | None, distance: int
    ) -> None:
        check_maps("label", np.int32, gt_segments=truth.segment_map, panoptic=panoptic)
        if segments is None:
            segments = self._segments(truth, panoptic)
        check_segment_classes(
            segments.pred_label, segments.pred_class, self.num_classes, self.ignore_label, "predicted"
        )
        ious = np.minimum(
            overlap_ious(segments, OFFICIAL), self._boundary_ious(segments, truth, panoptic, distance)
        )
        counts = count_matches(segments, ious, OFFICIAL, self.num_classes)
        self._add_image(counts.match_class, counts.match_iou, counts.fp, counts.fn)

    def _segments(self, truth: OfficialTruth, panoptic: np.ndarray) -> ImageSegments:
        return ImageSegments.measure(
            truth, panoptic, label_divisor=self.label_divisor, ignore_label=self.ignore_label
        )

    def _boundary_ious(
        self, segments: ImageSegments, truth: OfficialTruth, panoptic: np.ndarray, distance: int
    ) -> np.ndarray:
        """Returns the IoU of the boundary regions of each intersection of `segments`, [N]."""
        # What is no boundary is one more segment of the ground truth, the last, and void in the prediction.
        inner = truth.class_ids.size
        outlines = replace(
            truth,
            segment_ids=np.append(truth.segment_ids, 0),
            class_ids=np.append(truth.class_ids, -1),
            is_crowd=np.append(truth.is_crowd, True),
        )
        void = self.ignore_label * self.label_divisor
        pairs = _count_outline_pairs(truth.segment_map, panoptic, distance, (inner, void), (-1, void))
        found = ImageSegments.of_overlaps(
            outlines,
            overlaps_of(*pairs),
            label_divisor=self.label_divisor,
            ignore_label=self.ignore_label,
        )
        # Every segment has a boundary, so it has the same position in both.
        num_gt, num_pred = segments.gt_area.size, segments.pred_area.size
        of_segments = found.overlap_gt < num_gt
        keys = segments.overlap_gt.astype(np.int64) * num_pred + segments.overlap_pred
        found_keys = found.overlap_gt.astype(np.int64) * num_pred + found.overlap_pred
        areas = np.zeros(keys.size, np.int64)
        areas[np.searchsorted(keys, found_keys[of_segments])] = found.overlap_area[of_segments]
        gt, pred = segments.overlap_gt, segments.overlap_pred
        unions = found.gt_area[gt] + (found.pred_area - found.pred_void_area)[pred] - areas
        return areas / unions

    def _add_semantic(self, gt_semantic: np.ndarray, pred_semantic: np.ndarray, distance: int) -> None:
        ignore, num_classes = self.ignore_label, self.num_classes
        no_class = -(2**31)
        gt, pred, area = _count_outline_pairs(
            gt_semantic, pred_semantic, distance, (no_class, no_class), (ignore, no_class)
        )
        gt_counts, pred_counts = (
            (of != ignore) & (of >= 0) & (of < num_classes) & (gt != ignore) for of in (gt, pred)
        )
        for total, counts, of in zip(
            self._boundary_areas,
            (gt_counts & (gt == pred), gt_counts, pred_counts),
            (gt, gt, pred),
            strict=True,
        ):
            np.add.at(total, of[counts], area[counts])

    def _state(self) -> dict[str, np.ndarray]:
        return {**super()._state(), "boundary_areas": self._boundary_areas}

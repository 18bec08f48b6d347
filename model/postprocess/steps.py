"""The steps of post-processing on the CPU: centers, grouping, merge.

Each step equals DeepLab2's `model/post_processor/panoptic_deeplab.py`, the merge its compiled operation
`merge_semantic_and_instance_maps_op_kernel.cc`, instance numbers included.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.errors import UsageError
from zoo.model.postprocess import kernels

if TYPE_CHECKING:
    from zoo.registry.dataset_info import DatasetInfo
    from zoo.registry.schema import EvaluationOptions

MAX_CLASSES = 256
# Bucket counts of libstdc++'s std::unordered_map as it grows from empty, one element at a time.
BUCKET_COUNTS = (
    *(13, 29, 59, 127, 257, 541, 1109, 2357, 5087, 10273, 20753, 42043, 85229, 172933, 351061),
    *(712697, 1447153, 2938679, 5967347),
)
NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class PostprocessOptions:
    """What post-processing needs to know of the data set and the evaluation.

    Attributes:
      thing_class_ids: train ids of the classes with instances.
      label_divisor: panoptic label = class * label_divisor + instance number.
      void_label: class of pixels without a class.
      center_score_threshold: a center's heatmap value is larger than this.
      nms_kernel: side of the window of non-maximum suppression, in pixels of the full resolution.
      keep_k_centers: at most this many centers; all where not positive.
      stuff_area_limit: stuff classes of at most this many pixels become void; 0 keeps all.
    """

    thing_class_ids: tuple[int, ...]
    label_divisor: int
    void_label: int
    center_score_threshold: float = 0.1
    nms_kernel: int = 7
    keep_k_centers: int = 400
    stuff_area_limit: int = 2048

    def __post_init__(self) -> None:
        things = tuple(sorted({int(label) for label in self.thing_class_ids}))
        object.__setattr__(self, "thing_class_ids", things)
        if self.label_divisor < 1 or self.nms_kernel < 1:
            raise UsageError(
                "PostprocessOptions: label_divisor and nms_kernel must be at least 1,"
                f" found {self.label_divisor} and {self.nms_kernel}"
            )

    @classmethod
    def from_entry(cls, evaluation: EvaluationOptions, dataset: DatasetInfo) -> PostprocessOptions:
        """The options of a registry entry's `evaluation` on a data set."""
        return cls(
            thing_class_ids=tuple(dataset.thing_class_ids),
            label_divisor=dataset.label_divisor,
            void_label=dataset.ignore_label,
            center_score_threshold=evaluation.center_score_threshold,
            nms_kernel=evaluation.nms_kernel,
            keep_k_centers=evaluation.keep_k_centers,
            stuff_area_limit=evaluation.stuff_area_limit,
        )

    @cached_property
    def thing_index(self) -> np.ndarray:
        """[256] int64: position of a class among the thing classes, -1 for stuff."""
        index = np.full(MAX_CLASSES, -1, np.int64)
        things = [label for label in self.thing_class_ids if 0 <= label < MAX_CLASSES]
        index[things] = np.arange(len(things))
        return index


@dataclass(frozen=True, eq=False)
class Sampling:
    """Bilinear sampling of one axis with aligned corners, in the float32 steps of TensorFlow's resize."""

    low: np.ndarray  # [target] source index on the left
    high: np.ndarray  # [target] source index on the right
    weight: np.ndarray  # [target] float32 weight of the right one

    @classmethod
    def of(cls, source: int, target: int) -> Sampling:
        """Samples `source` pixels at `target` positions."""
        scale = np.float32(source - 1) / np.float32(target - 1) if target > 1 else np.float32(source)
        position = np.arange(target).astype(np.float32) * scale
        low = np.floor(position).astype(np.int64)
        return cls(low, np.minimum(low + 1, source - 1), position - low.astype(np.float32))

    def phases(self, source: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Groups the targets by source index: weights [phases, source], first target, number of targets."""
        first = np.searchsorted(self.low, np.arange(source + 1))
        count = np.diff(first)
        weight = np.zeros((count.max(), source), np.float32)
        weight[np.arange(len(self.low)) - first[self.low], self.low] = self.weight
        return weight, first[:-1], count


def find_centers(center_heatmap: Any, options: PostprocessOptions) -> tuple[np.ndarray, np.ndarray]:
    """Finds instance centers: local maxima of the heatmap above the threshold.

    Args:
      center_heatmap: [H, W] or [H, W, 1] float32, at full resolution.
      options: threshold, window and number of centers.

    Returns:
      centers [N, 2] int32, (y, x), row by row, and their heatmap values [N] float32.
    """
    heatmap = float32_view(center_heatmap).reshape(np.shape(center_heatmap)[:2])
    height, width = heatmap.shape
    # Suppressed pixels are 0 in the reference, so that only positive values are centers.
    threshold = np.float32(max(np.float32(options.center_score_threshold), np.float32(0.0)))

    def search(_worker: int, start: int, stop: int) -> np.ndarray:
        found = np.empty((stop - start) * width, np.int64)
        return found[: kernels.local_maxima_rows(heatmap, threshold, options.nms_kernel, found, start, stop)]

    flat = np.concatenate(kernels.for_rows(height, search))
    scores = heatmap.ravel()[flat]
    if 0 < options.keep_k_centers < len(flat):
        kept = scores > _last_of_top_k(flat, scores, heatmap.size, options.keep_k_centers)
        flat, scores = flat[kept], scores[kept]
    centers = np.stack(np.divmod(flat, width), axis=-1).astype(np.int32)
    return centers, scores


def group_pixels(
    semantic: np.ndarray, offset_map: Any, centers: np.ndarray, options: PostprocessOptions
) -> np.ndarray:
    """Assigns each thing pixel to the center nearest to where its offset points.

    Args:
      semantic: [H, W] classes, 0 to 255.
      offset_map: [H, W, 2] float32, (y, x).
      centers: [N, 2] int, (y, x).
      options: thing classes.

    Returns:
      [H, W] int32: 1 + index of the center; 0 at stuff pixels, and everywhere where there is no center.
    """
    semantic = np.ascontiguousarray(semantic, np.uint8)
    grouping = Grouping.at_full_resolution(float32_view(offset_map), centers)
    instance = np.empty(semantic.shape, np.int32)
    kernels.for_rows(
        len(semantic), lambda _, *rows: grouping.group(semantic, options.thing_index, instance, *rows)
    )
    return instance


def merge(semantic: np.ndarray, instance: np.ndarray, options: PostprocessOptions) -> np.ndarray:
    """Merges classes and instances into a panoptic map, as DeepLab2's compiled operation does.

    An instance takes the class of most of its pixels; instances are numbered per class in the iteration
    order of the reference's hash map.

    Args:
      semantic: [H, W] classes, 0 to 255.
      instance: [H, W] instance ids, 0 or larger, read at thing pixels only.
      options: thing classes, label divisor, void label and stuff area limit.

    Returns:
      [H, W] int32 panoptic labels.
    """
    semantic = np.ascontiguousarray(semantic, np.uint8)
    instance = np.ascontiguousarray(instance, np.int32)
    largest = int(instance.max(initial=0, where=options.thing_index[semantic] >= 0))
    counts = Counts(len(semantic), largest + 1, options)
    kernels.for_rows(len(semantic), lambda *block: counts.add(semantic, instance, *block))
    return counts.paint(semantic, instance)[0]


def hash_map_order(keys: np.ndarray) -> np.ndarray:
    """The order in which libstdc++'s `std::unordered_map<int, …>` iterates over keys inserted one by one.

    A key whose bucket is empty goes to the front of the map's list, another to the front of its bucket; a
    map that grows inserts its list again by the same rule. So the list has the buckets from the last one
    touched to the first, each with its keys from the last inserted to the first.

    Args:
      keys: [n] distinct non-negative ints, in the order of insertion.
    """
    ordered = np.asarray(keys, np.int64)[:0]
    for buckets in BUCKET_COUNTS:
        sequence = np.concatenate([ordered, keys[len(ordered) : buckets]])
        position = np.arange(len(sequence))
        bucket = sequence % buckets
        touched = np.empty(buckets, np.int64)
        touched[bucket[::-1]] = position[::-1]
        ordered = sequence[np.lexsort((-position, -touched[bucket]))]
        if len(keys) <= buckets:
            break
    return ordered


class Grouping:
    """Everything that grouping needs besides the classes: offsets, how to sample them, centers."""

    def __init__(self, offset_planes: np.ndarray, rows: Sampling, columns: Sampling, centers: np.ndarray):
        positions = np.ascontiguousarray(centers, np.float32)
        size = (len(rows.low), len(columns.low))
        cells = [-(-each // kernels.CELL_PX) + 2 * kernels.CELL_MARGIN for each in size]
        self._arguments = (
            *(offset_planes, rows.low, rows.high, rows.weight, columns.low, columns.weight, positions),
            *kernels.candidate_cells(positions, *cells),
            cells[1],
        )

    @classmethod
    def at_full_resolution(cls, offsets: np.ndarray, centers: np.ndarray) -> Grouping:
        """Groups by offsets [H, W, 2] that need no up-sampling."""
        height, width, _ = offsets.shape
        planes = np.empty((height, 2, width + 1), np.float32)
        ones = np.ones(2, np.float32)
        kernels.for_rows(height, lambda _, *rows: kernels.planes_rows(offsets, ones, planes, *rows))
        return cls(planes, Sampling.of(height, height), Sampling.of(width, width), centers)

    def group(
        self, semantic: np.ndarray, thing_index: np.ndarray, instance: np.ndarray, start: int, stop: int
    ) -> None:
        """Writes `instance` in the rows from `start` to `stop`."""
        kernels.group_rows(semantic, thing_index, *self._arguments, instance, start, stop)


class Counts:
    """Pixels per class, and per instance and thing class, counted by several threads."""

    def __init__(self, height: int, num_instances: int, options: PostprocessOptions):
        workers = kernels.workers_for(height)
        things = max(1, len(options.thing_class_ids))
        self._options = options
        self._area = np.zeros((workers, MAX_CLASSES), np.int64)
        self._histogram = np.zeros((workers, num_instances, things), np.int64)
        self._first_pixel = np.full((workers, num_instances), NEVER)

    def add(self, semantic: np.ndarray, instance: np.ndarray, worker: int, start: int, stop: int) -> None:
        """Counts the rows from `start` to `stop` for one worker."""
        kernels.count_rows(
            *(semantic, instance, self._options.thing_index, self._area[worker]),
            *(self._histogram[worker], self._first_pixel[worker], start, stop),
        )

    def paint(self, semantic: np.ndarray, instance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the panoptic map and the panoptic label of each instance."""
        options = self._options
        labels = np.arange(MAX_CLASSES)
        if options.stuff_area_limit > 0:
            area = self._area.sum(axis=0)
            labels = np.where(area <= options.stuff_area_limit, options.void_label, labels)
        stuff_labels = (labels * options.label_divisor).astype(np.int32)
        first_pixel = self._first_pixel.min(axis=0)
        histogram = self._histogram.sum(axis=0)
        appearance = np.argsort(first_pixel, kind="stable")
        keys = hash_map_order(appearance[: np.count_nonzero(first_pixel < NEVER)])
        thing = histogram[keys].argmax(axis=1)
        instance_labels = np.zeros(len(first_pixel), np.int32)
        for index, label in enumerate(options.thing_class_ids):
            members = keys[thing == index]
            instance_labels[members] = label * options.label_divisor + 1 + np.arange(len(members))
        panoptic = np.empty(semantic.shape, np.int32)
        kernels.for_rows(
            len(semantic),
            lambda _, *rows: kernels.paint_rows(
                *(semantic, instance, options.thing_index, stuff_labels, instance_labels, panoptic, *rows)
            ),
        )
        return panoptic, instance_labels


def _last_of_top_k(flat: np.ndarray, scores: np.ndarray, pixels: int, k: int) -> float:
    # The reference takes the last of an unsorted top-k, which is not the smallest: where it ends up is a
    # matter of TensorFlow's heap, so TensorFlow is asked. Maps with more than k centers are rare.
    import tensorflow as tf

    suppressed = np.zeros(pixels, np.float32)
    suppressed[flat] = scores
    with tf.device("CPU:0"):
        return float(tf.math.top_k(suppressed, k, sorted=False).values[-1])


def float32_view(tensor: Any) -> np.ndarray:
    """A read-only float32 view: of the memory itself where it has that type, TensorFlow's included."""
    if not isinstance(tensor, np.ndarray):
        try:
            tensor = np.asarray(memoryview(tensor))
        except (TypeError, ValueError, BufferError):
            tensor = np.asarray(tensor)
    view = np.ascontiguousarray(tensor, np.float32).view()
    # One compiled version serves arrays and tensors alike.
    view.flags.writeable = False
    return view

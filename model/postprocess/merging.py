"""Merges classes and instances into a panoptic map, instance numbers included.

The merge equals DeepLab2's compiled operation, `merge_semantic_and_instance_maps_op_kernel.cc`.
"""

from __future__ import annotations

import numpy as np

from zoo.files.machine_code import compiled
from zoo.model.postprocess.grouping import Things
from zoo.model.postprocess.options import MAX_CLASSES, PostprocessOptions
from zoo.model.postprocess.threads import for_rows, workers_for

# Bucket counts of libstdc++'s std::unordered_map as it grows from empty, one element at a time.
BUCKET_COUNTS = (
    *(13, 29, 59, 127, 257, 541, 1109, 2357, 5087, 10273, 20753, 42043, 85229, 172933, 351061),
    *(712697, 1447153, 2938679, 5967347),
)
NEVER = np.iinfo(np.int64).max


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
    counts = Counts(Things(semantic, options.thing_index, instance), largest + 1, options)
    for_rows(len(semantic), counts.add)
    return counts.paint()[0]


def hash_map_order(keys: np.ndarray) -> np.ndarray:
    """Returns keys in the order in which libstdc++'s `std::unordered_map<int, …>` iterates over them.

    A key whose bucket is empty goes to the front of the map's list, another to the front of its bucket; a
    map that grows inserts its list again by the same rule. So the list has the buckets from the last one
    touched to the first, each with its keys from the last inserted to the first.

    `keys` are [n] distinct non-negative ints, in the order of insertion.
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


class Counts:
    """Pixels per class, and per instance and thing class, counted by several threads."""

    def __init__(self, things: Things, num_instances: int, options: PostprocessOptions):
        workers = workers_for(len(things.semantic))
        self._things = things
        self._options = options
        self._area = np.zeros((workers, MAX_CLASSES), np.int64)
        self._histogram = np.zeros((workers, num_instances, max(1, len(options.thing_class_ids))), np.int64)
        self._first_pixel = np.full((workers, num_instances), NEVER)

    def add(self, worker: int, start: int, stop: int) -> None:
        """Counts the rows from `start` to `stop` for one worker."""
        counted = self._area[worker], self._histogram[worker], self._first_pixel[worker]
        count_rows(self._things, *counted, start, stop)

    def paint(self) -> tuple[np.ndarray, np.ndarray]:
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
        things = self._things
        panoptic = np.empty(things.semantic.shape, np.int32)
        painted = (things, stuff_labels, instance_labels, panoptic)
        for_rows(len(panoptic), lambda _, *rows: paint_rows(*painted, *rows))
        return panoptic, instance_labels


@compiled
def count_rows(
    things: Things, area: np.ndarray, histogram: np.ndarray, first_pixel: np.ndarray, start: int, stop: int
) -> None:  # pragma: no cover - compiled
    """Adds pixels per class to `area` [256], thing pixels per instance and class to `histogram` [N, things].

    `first_pixel` [N] takes the smallest flat position of each instance among thing pixels.
    """
    semantic, thing_index, instance = things
    width = semantic.shape[1]
    for y in range(start, stop):
        for x in range(width):
            label = semantic[y, x]
            area[label] += 1
            thing = thing_index[label]
            if thing >= 0:
                index = instance[y, x]
                histogram[index, thing] += 1
                first_pixel[index] = min(first_pixel[index], y * width + x)


@compiled
def paint_rows(
    things: Things,
    stuff_labels: np.ndarray,
    instance_labels: np.ndarray,
    panoptic: np.ndarray,
    start: int,
    stop: int,
) -> None:  # pragma: no cover - compiled
    """Writes the panoptic label of each pixel: by instance at thing pixels, by class elsewhere."""
    semantic, thing_index, instance = things
    for y in range(start, stop):
        for x in range(semantic.shape[1]):
            label = semantic[y, x]
            if thing_index[label] < 0:
                panoptic[y, x] = stuff_labels[label]
            else:
                panoptic[y, x] = instance_labels[instance[y, x]]

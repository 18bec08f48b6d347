"""The predicted instances and their scores: how sure the network is of their class and of their center."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from zoo.model.postprocess.merging import NEVER


@dataclass(frozen=True, eq=False)
class Instances:
    """The thing segments of a panoptic map, in the order in which they first appear, row by row."""

    labels: np.ndarray  # [M] int32, `class * label_divisor + number`
    areas: np.ndarray  # [M] int64, pixels
    semantic_probability: np.ndarray  # [M] float32, mean softmax probability of its class over its pixels
    instance_score: np.ndarray  # [M] float32, mean center heatmap value over its pixels
    score: np.ndarray  # [M] float32, the product: DeepLab2's `combined_instance_scores`

    def __len__(self) -> int:
        return len(self.labels)


class InstanceSums(NamedTuple):
    """Sums over the thing pixels of each instance; [N + 1] each, or [workers, N + 1] where threads add."""

    label_class: np.ndarray  # [N + 1] int32, class of each instance, -1 for a class that has no probability
    area: np.ndarray  # int64, pixels
    first_pixel: np.ndarray  # int64, the smallest flat position
    probability: np.ndarray  # float64, sum of the probabilities of `label_class`

    @classmethod
    def zeros(cls, label_class: np.ndarray, workers: int) -> InstanceSums:
        """Returns sums of nothing for a number of workers."""
        shape = (workers, len(label_class))
        return cls(label_class, np.zeros(shape, np.int64), np.full(shape, NEVER), np.zeros(shape))

    def of_worker(self, worker: int) -> InstanceSums:
        """Returns the sums to which one worker adds."""
        return InstanceSums(self.label_class, *(sums[worker] for sums in self[1:]))

    def total(self) -> InstanceSums:
        """Returns the sums of all workers."""
        first_pixel, probability = self.first_pixel.min(axis=0), self.probability.sum(axis=0)
        return InstanceSums(self.label_class, self.area.sum(axis=0), first_pixel, probability)


def instances_from_sums(
    sums: InstanceSums, instance_labels: np.ndarray, instance_scores: np.ndarray, is_thing_label: np.ndarray
) -> Instances:
    """Joins the sums of instances into segments; instances that share a label are one segment.

    Labels are shared only where a class has more instances than the label divisor can number. All arrays are
    [N + 1]: panoptic labels, center heatmap values, and whether the label belongs to a thing class.
    """
    present = np.flatnonzero((sums.area > 0) & is_thing_label)
    labels, segment = np.unique(instance_labels[present], return_inverse=True)
    area = sums.area[present]
    first = np.full(len(labels), NEVER)
    np.minimum.at(first, segment, sums.first_pixel[present])
    areas = np.zeros(len(labels), np.int64)
    np.add.at(areas, segment, area)
    probability = np.zeros(len(labels))
    np.add.at(probability, segment, sums.probability[present])
    score = np.zeros(len(labels))
    np.add.at(score, segment, area * instance_scores[present].astype(np.float64))
    order = np.argsort(first, kind="stable")
    semantic_probability = (probability / areas)[order].astype(np.float32)
    instance_score = (score / areas)[order].astype(np.float32)
    return Instances(
        labels=labels[order].astype(np.int32),
        areas=areas[order],
        semantic_probability=semantic_probability,
        instance_score=instance_score,
        score=semantic_probability * instance_score,
    )

"""The colours in which data sets show their classes."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from zoo.registry.dataset_info import DatasetInfo

# Turning the hue by the golden section keeps neighbouring classes far apart, however many there are.
_GOLDEN_TURN = 0.6180339887498949


def class_colours(info: DatasetInfo) -> np.ndarray:
    """Returns the colour of each class, [C, 3] uint8, RGB, by train id: the data set's own, or far apart."""
    colours = np.zeros((info.num_classes, 3), np.uint8)
    for train_id in range(info.num_classes):
        # Where void is numbered among the classes it stays black.
        if train_id != info.ignore_label:
            own = info.colours[train_id] if info.colours else ""
            colours[train_id] = list(bytes.fromhex(own)) if own else _spread(train_id)
    return colours


def shade(colour: np.ndarray, number: int) -> np.ndarray:
    """Returns `colour` ([3] uint8) for instance `number` (from 1): itself, then lighter and darker ones."""
    steps = (0.0, 0.30, -0.25, 0.50, -0.42)
    step = steps[(number - 1) % len(steps)]
    target = 255.0 if step > 0 else 0.0
    return np.round(colour + (target - colour) * abs(step)).astype(np.uint8)


def label_colours(labels: np.ndarray, info: DatasetInfo) -> tuple[np.ndarray, np.ndarray]:
    """Returns the colour of each label, [L, 3] uint8, and which are things, [L] bool; void is black."""
    base = class_colours(info)
    colours = np.zeros((labels.size, 3), np.uint8)
    is_thing = np.zeros(labels.size, np.bool_)
    for i, label in enumerate(labels.tolist()):
        class_id, instance = divmod(label, info.label_divisor)
        if class_id < info.num_classes and class_id != info.ignore_label:
            colours[i] = shade(base[class_id], instance) if instance else base[class_id]
            is_thing[i] = instance > 0 and class_id in info.thing_class_ids
    return colours, is_thing


def _spread(index: int) -> tuple[int, ...]:
    hue = index * _GOLDEN_TURN % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, (0.85, 0.55)[index % 2], (0.85, 0.95, 0.7)[index % 3])
    return tuple(round(255 * part) for part in (red, green, blue))

"""Where the pixels of a resized map lie in its source: corners on corners, rounded as in TensorFlow."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Phases(NamedTuple):
    """The targets of one axis, grouped by source index and numbered within each group by phase."""

    weight: np.ndarray  # [phases, source] float32, weight of the right source of the target of that phase
    first: np.ndarray  # [source] int64, first target
    num_targets: np.ndarray  # [source] int64


class Sampling(NamedTuple):
    """Bilinear sampling of one axis, in the float32 steps of TensorFlow's resize."""

    low: np.ndarray  # [target] int64, source index on the left
    high: np.ndarray  # [target] int64, source index on the right
    weight: np.ndarray  # [target] float32, weight of the right one

    @classmethod
    def of(cls, source: int, target: int) -> Sampling:
        """Samples `source` pixels at `target` positions."""
        scale = np.float32(source - 1) / np.float32(target - 1) if target > 1 else np.float32(source)
        position = np.arange(target).astype(np.float32) * scale
        low = np.floor(position).astype(np.int64)
        return cls(low, np.minimum(low + 1, source - 1), position - low.astype(np.float32))

    def nearest(self) -> np.ndarray:
        """Returns the nearest source index, [target] int64."""
        # Halves go up, as in C; NumPy's own rounding takes them to the even neighbour.
        return np.where(self.weight >= np.float32(0.5), self.high, self.low)

    def phases(self, source: int) -> Phases:
        """Groups the targets by source index."""
        first = np.searchsorted(self.low, np.arange(source + 1))
        count = np.diff(first)
        weight = np.zeros((count.max(), source), np.float32)
        weight[np.arange(len(self.low)) - first[self.low], self.low] = self.weight
        return Phases(weight, first[:-1], count)


class Grid(NamedTuple):
    """Sampling of both axes."""

    rows: Sampling
    columns: Sampling

    @classmethod
    def of(cls, source_size: tuple[int, ...], target_size: tuple[int, ...]) -> Grid:
        """Samples maps of `source_size` (height, width) at `target_size`."""
        return cls(*(Sampling.of(*sides) for sides in zip(source_size, target_size, strict=True)))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the target."""
        return len(self.rows.low), len(self.columns.low)

    def nearest(self, label_map: np.ndarray) -> np.ndarray:
        """Resizes a map [h or more, w or more] to the nearest pixel; cuts off what lies beyond [h, w]."""
        return label_map[np.ix_(self.rows.nearest(), self.columns.nearest())]

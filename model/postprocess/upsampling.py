"""Up-samples maps bilinearly, and takes the class of each pixel on the way.

Up-sampling works on planes: `[h, C, w + 1]`, classes before columns, the last column repeated. The columns of
the target that fall between the same two source columns are numbered by phase; for one phase the
interpolation runs over consecutive source columns, which is what vector units want.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from zoo.files.machine_code import compiled
from zoo.model.postprocess.sampling import Grid, Phases
from zoo.model.postprocess.threads import for_rows

MAX_CHANNELS_HEIGHT_FIRST = 32
"""Maps of more channels are resized by one 2-D operation in the reference, others by two 1-D ones."""

# float32(exp(-gap)) is 1 up to this gap: the softmax of two such logits is equal, and the smaller class wins.
SOFTMAX_TIE_GAP = np.float32(2.0**-25)

_INFINITY = np.float32(np.inf)


def float32_view(tensor: Any) -> np.ndarray:
    """Returns a read-only float32 view: of the memory itself, TensorFlow's too, where it has that type."""
    if not isinstance(tensor, np.ndarray):
        try:
            tensor = np.asarray(memoryview(tensor))
        except (TypeError, ValueError, BufferError):
            tensor = np.asarray(tensor)
    view = np.ascontiguousarray(tensor, np.float32).view()
    # One compiled version serves arrays and tensors alike.
    view.flags.writeable = False
    return view


class Upsampled(NamedTuple):
    """Maps that are up-sampled where they are read."""

    planes: np.ndarray  # [h, C, w + 1] float32
    grid: Grid  # where the pixels of the result lie in the planes
    height_first: bool  # whether to interpolate down, then across; else across, then down

    @classmethod
    def of(cls, maps: np.ndarray, grid: Grid, factors: np.ndarray | None = None) -> Upsampled:
        """Returns maps [h, w, C] float32, times `factors` [C] float32."""
        height, width, channels = maps.shape
        factors = np.ones(channels, np.float32) if factors is None else factors
        planes = np.empty((height, channels, width + 1), np.float32)
        for_rows(height, lambda _, *rows: planes_rows(maps, factors, planes, *rows))
        return cls(planes, grid, channels <= MAX_CHANNELS_HEIGHT_FIRST)


@compiled
def planes_rows(
    source: np.ndarray, factors: np.ndarray, planes: np.ndarray, start: int, stop: int
) -> None:  # pragma: no cover - compiled
    """Transposes `source` [h, w, C] times `factors` [C] into `planes` [h, C, w + 1]."""
    _, width, channels = source.shape
    for y in range(start, stop):
        for c in range(channels):
            factor = factors[c]
            target = planes[y, c]
            for x in range(width):
                target[x] = source[y, x, c] * factor
            target[width] = target[width - 1]


@compiled
def blend_down(
    low: np.ndarray, high: np.ndarray, weight: np.float32, blended: np.ndarray
) -> None:  # pragma: no cover - compiled
    """Blends two source rows into `blended`."""
    for x in range(blended.shape[0]):
        blended[x] = low[x] + (high[x] - low[x]) * weight


@compiled
def upsample_rows(
    source: np.ndarray, grid: Grid, target: np.ndarray, start: int, stop: int
) -> None:  # pragma: no cover - compiled
    """Up-samples `source` [h, w] to `target` [H, W], height first."""
    rows, left, across = grid.rows, grid.columns.low, grid.columns.weight
    width = source.shape[1]
    blended = np.empty(width + 1, np.float32)
    for y in range(start, stop):
        blend_down(source[rows.low[y]], source[rows.high[y]], rows.weight[y], blended[:width])
        blended[width] = blended[width - 1]
        row = target[y]
        for x in range(row.shape[0]):
            j = left[x]
            row[x] = blended[j] + (blended[j + 1] - blended[j]) * across[x]


@compiled
def classify_rows(
    logits: Upsampled, phases: Phases, semantic: np.ndarray, start: int, stop: int
) -> None:  # pragma: no cover - compiled
    """Writes the class of the largest softmax probability, the smaller one of a tie, to `semantic` [H, W]."""
    planes, rows = logits.planes, logits.grid.rows
    channels = planes.shape[1]
    num_phases, width = phases.weight.shape
    blended = np.empty((channels, width + 1), np.float32)
    values = np.empty((channels, width), np.float32)
    largest = np.empty(width, np.float32)
    label = np.empty(width, np.int32)
    for y in range(start, stop):
        low, high, weight = planes[rows.low[y]], planes[rows.high[y]], rows.weight[y]
        if logits.height_first:
            for c in range(channels):
                blend_down(low[c], high[c], weight, blended[c])
        for phase in range(num_phases):
            across = phases.weight[phase]
            largest[:] = -_INFINITY
            label[:] = 0
            for c in range(channels):
                value = values[c]
                if logits.height_first:
                    row = blended[c]
                    for x in range(width):
                        logit = row[x] + (row[x + 1] - row[x]) * across[x]
                        value[x] = logit
                        largest[x] = logit if logit > largest[x] else largest[x]
                else:
                    upper, lower = low[c], high[c]
                    for x in range(width):
                        above = upper[x] + (upper[x + 1] - upper[x]) * across[x]
                        below = lower[x] + (lower[x + 1] - lower[x]) * across[x]
                        logit = above + (below - above) * weight
                        value[x] = logit
                        largest[x] = logit if logit > largest[x] else largest[x]
            for c in range(channels - 1, -1, -1):
                value = values[c]
                for x in range(width):
                    label[x] = c if largest[x] - value[x] <= SOFTMAX_TIE_GAP else label[x]
            classes = semantic[y]
            for x in range(width):
                if phase < phases.num_targets[x]:
                    classes[phases.first[x] + phase] = label[x]


@compiled
def argmax_rows(
    scores: np.ndarray, semantic: np.ndarray, start: int, stop: int
) -> None:  # pragma: no cover - compiled
    """Writes the class of the largest score of [H, W, C], the smaller class of a tie."""
    _, width, channels = scores.shape
    for y in range(start, stop):
        for x in range(width):
            pixel = scores[y, x]
            best = pixel[0]
            label = 0
            for c in range(1, channels):
                if pixel[c] > best:
                    best = pixel[c]
                    label = c
            semantic[y, x] = label

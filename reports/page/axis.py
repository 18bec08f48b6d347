"""The ticks of an axis."""

from __future__ import annotations

import math


def round_ticks(low: float, high: float, most: int) -> dict[float, str]:
    """Returns round numbers that enclose two values in at most `most` steps, each with its text."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= most)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    positions = range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)
    return {position * step: f"{position * step:.{decimals}f}" for position in positions}

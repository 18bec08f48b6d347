"""Where the softmax probabilities of a result come from: the network's logits, or averaged probabilities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from zoo.model.postprocess.instances import probability_sums_rows, softmax_sums_rows
from zoo.model.postprocess.resized import (
    needed_pixels,
    resized_probability_sums_rows,
    resized_softmax_sums_rows,
)
from zoo.model.postprocess.steps import Sampling

RowScorer = Callable[..., None]
"""Adds rows of (semantic, thing_index, instance, instance_class) to (area, first_pixel, probability_sum)."""


class ClassProbabilities(Protocol):
    """Where the softmax probabilities of a result's pixels come from; adds them up row by row."""

    def scorer(self, valid_width: int) -> RowScorer:
        """Returns what adds the rows of the result's own maps, left of `valid_width`."""
        ...

    def resized_scorer(
        self, semantic: np.ndarray, thing_index: np.ndarray, valid_size: tuple[int, int]
    ) -> RowScorer:
        """Returns what adds the rows of maps that were cut to `valid_size` and resized, as `semantic` was."""
        ...


@dataclass(frozen=True, eq=False)
class SoftmaxOfLogits:
    """Probabilities that are made from the network's logits where they are asked for.

    Attributes:
      planes: [h, C, w + 1] float32 logits.
      rows: how the result's rows sample the planes; `columns` its columns.
      columns: likewise.
      height_first: whether rows are blended before columns.
    """

    planes: np.ndarray = field(repr=False)
    rows: Sampling
    columns: Sampling
    height_first: bool

    def scorer(self, valid_width: int) -> RowScorer:
        """Returns what adds the rows of the result's own maps."""

        def add(semantic: np.ndarray, things: np.ndarray, instance: np.ndarray, *rest: Any) -> None:
            instance_class, *sums = rest
            softmax_sums_rows(*self._sampled, semantic, things, instance, instance_class, valid_width, *sums)

        return add

    def resized_scorer(
        self, semantic: np.ndarray, thing_index: np.ndarray, valid_size: tuple[int, int]
    ) -> RowScorer:
        """Returns what adds the rows of resized maps."""
        rows, columns = _raw_sampling(valid_size, semantic.shape)
        needed = np.zeros(valid_size, np.bool_)
        needed_pixels(semantic, thing_index, rows.low, rows.high, columns.low, columns.high, needed)
        return partial(
            resized_softmax_sums_rows,
            *self._sampled,
            needed,
            *(rows.low, rows.high, rows.weight, columns.low, columns.high, columns.weight),
        )

    @property
    def _sampled(self) -> tuple[Any, ...]:
        rows, columns = self.rows, self.columns
        return (
            *(self.planes, rows.low, rows.high, rows.weight, columns.low, columns.weight),
            self.height_first,
        )


@dataclass(frozen=True, eq=False)
class FullProbabilities:
    """Probabilities that are there: `probabilities` [H, W, C] float32, of the result's size."""

    probabilities: np.ndarray = field(repr=False)

    def scorer(self, valid_width: int) -> RowScorer:
        """Returns what adds the rows of the result's own maps."""

        def add(semantic: np.ndarray, things: np.ndarray, instance: np.ndarray, *rest: Any) -> None:
            instance_class, *sums = rest
            probability_sums_rows(
                self.probabilities, semantic, things, instance, instance_class, valid_width, *sums
            )

        return add

    def resized_scorer(
        self, semantic: np.ndarray, thing_index: np.ndarray, valid_size: tuple[int, int]
    ) -> RowScorer:
        """Returns what adds the rows of resized maps."""
        rows, columns = _raw_sampling(valid_size, semantic.shape)
        return partial(
            resized_probability_sums_rows,
            self.probabilities,
            *(rows.low, rows.high, rows.weight, columns.low, columns.high, columns.weight),
        )


def _raw_sampling(valid_size: tuple[int, int], raw_size: tuple[int, ...]) -> tuple[Sampling, Sampling]:
    return Sampling.of(valid_size[0], raw_size[0]), Sampling.of(valid_size[1], raw_size[1])

"""The interval in which a metric lies on all images, when only some of them were measured.

The measured images are taken for a random sample, without replacement, of a data set of known size. Their own
part of the full value is certain, so the deviation to expect is smaller than that of a sample from an
unlimited source: its variance is multiplied by 1 - n / N (the finite population correction).

The interval has the shape of the bootstrap's distribution around its mean. Its width comes from a standard
error that is the larger of two: the bootstrap's, and the jackknife's, because classes that only a few images
show make the bootstrap too narrow, and classes that many resamples miss make the jackknife too narrow.
Student's t replaces the normal quantile for few images. On 200 random halves of the 30 images of either
bundled data set, 95 % intervals made this way cover the value of all 30 in 91 to 99 % of the halves, for PQ,
mIoU and AP.

Sources: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 11 to 13; Cochran,
"Sampling Techniques" (1977), section 2.6; Abramowitz and Stegun, "Handbook of Mathematical Functions",
26.7.5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from zoo.metrics.panoptic_quality import PanopticQuality
    from zoo.metrics.pq_rules import ClassSums

Statistic = Callable[[np.ndarray], np.ndarray]
"""A metric of many weighted sets of the same images: counts [B, I] integer -> values [B], NaN: undefined."""

_ROWS_AT_ONCE = 250


@dataclass(frozen=True, eq=False)
class ClassRatios:
    """A metric that is a mean over classes of a ratio of two sums over images, in percent.

    Panoptic quality and mean IoU are of this form. Classes whose denominators sum to 0 are left out.
    """

    numerators: np.ndarray  # [I, C] float64, what each image adds above the line
    denominators: np.ndarray  # [I, C] float64, what it adds below

    @classmethod
    def of(cls, rows: Iterable[tuple[np.ndarray, np.ndarray]]) -> ClassRatios:
        """Returns the metric of images, each given as `quality_row` or `iou_row` gives it."""
        numerators, denominators = zip(*rows, strict=True)
        return cls(np.stack(numerators), np.stack(denominators))

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """Returns the metric of each set, [B] float64 in percent; NaN where no class occurs.

        `counts` is [B, I] integer: how often each image occurs in each set.
        """
        weights = counts.astype(np.float64)
        numerators, denominators = weights @ self.numerators, weights @ self.denominators
        occurs = denominators > 0
        ratios = np.divide(numerators, denominators, out=np.zeros_like(numerators), where=occurs)
        sums, classes = ratios.sum(axis=1), occurs.sum(axis=1)
        return 100 * np.divide(sums, classes, out=np.full(sums.size, np.nan), where=classes > 0)


def quality_row(image: PanopticQuality | ClassSums) -> tuple[np.ndarray, np.ndarray]:
    """Returns what an image adds to panoptic quality, above and below the line, [C] float64 each."""
    return image.iou, image.tp + 0.5 * image.fp + 0.5 * image.fn


def iou_row(
    confusion: np.ndarray, left_out: int | None = None, unlabelled: np.ndarray | int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what an image adds to mean IoU, above and below the line, [C] float64 each.

    Args:
      confusion: [C, C] pixels, ground truth by row.
      left_out: a class that does not count in the mean, or None; may lie outside 0..C-1.
      unlabelled: [C] pixels of each class without a predicted one.
    """
    intersections = np.diagonal(confusion).astype(np.float64)
    unions = confusion.sum(axis=0) + confusion.sum(axis=1) - intersections + unlabelled
    if left_out is not None and 0 <= left_out < unions.size:
        intersections[left_out] = unions[left_out] = 0.0
    return intersections, unions


def interval(
    statistic: Statistic,
    num_images: int,
    *,
    population: int | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the interval in which the value of the whole population lies with a chance of `level`.

    Args:
      statistic: the metric; values in percent.
      num_images: number of measured images, I, at least 2.
      population: number of images of which these are a random sample; None for a population without end.
      level: confidence, between 0 and 1.
      resamples: how many bootstrap resamples to draw.
      seed: of the resamples; the same seed gives the same interval.

    Returns:
      Lower and upper bound within 0 to 100; two NaN where the metric is undefined. Both bounds are the
      measured value where the images are the population.

    Raises:
      ValueError: fewer than 2 images, or more than the population.
    """
    if num_images < 2 or (population is not None and num_images > population):
        raise ValueError(f"num_images: expected 2 to {population or 'any number'}, found {num_images}")
    value = float(statistic(np.ones((1, num_images), np.int64))[0])
    drawn = _values(statistic, _resamples(num_images, resamples, seed))
    left_out = _values(statistic, _all_but_one(num_images))
    if math.isnan(value) or drawn.size < 2 or left_out.size < 2:
        return math.nan, math.nan
    spread = float(drawn.std())
    if spread == 0.0:
        return value, value
    bootstrap_error = spread * math.sqrt(num_images / (num_images - 1))
    jackknife_error = math.sqrt(num_images - 1) * float(left_out.std())
    certain = 0.0 if population is None else num_images / population
    error = max(bootstrap_error, jackknife_error) * math.sqrt(1 - certain)
    tail = (1 - level) / 2
    low, high = (np.quantile(drawn, [tail, 1 - tail]) - drawn.mean()) / spread
    widening = student_t_quantile(1 - tail, num_images - 1) / NormalDist().inv_cdf(1 - tail)
    bounds = (value + widening * error * float(low), value + widening * error * float(high))
    return max(0.0, bounds[0]), min(100.0, bounds[1])


def student_t_quantile(probability: float, degrees: int) -> float:
    """Returns a quantile of Student's t from four terms of its expansion at the normal distribution's.

    For 4 degrees of freedom the 97.5 % quantile is 0.001 too small, for more it is closer.
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, start=1))


def _values(statistic: Statistic, sets: Iterator[np.ndarray]) -> np.ndarray:
    values = np.concatenate([statistic(counts) for counts in sets])
    return values[~np.isnan(values)]


def _resamples(num_images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yields counts [b, I] of drawing I of I images with replacement, some rows at a time."""
    generator = np.random.default_rng(seed)
    chances = np.full(num_images, 1 / num_images)
    for start in range(0, resamples, _ROWS_AT_ONCE):
        yield generator.multinomial(num_images, chances, size=min(_ROWS_AT_ONCE, resamples - start))


def _all_but_one(num_images: int) -> Iterator[np.ndarray]:
    for start in range(0, num_images, _ROWS_AT_ONCE):
        yield 1 - np.eye(min(_ROWS_AT_ONCE, num_images - start), num_images, k=start, dtype=np.int64)

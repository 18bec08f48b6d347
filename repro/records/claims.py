"""Verdicts: whether a measured number agrees with the published one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from zoo.repro.records.claim_words import MATCH, MISMATCH, NOT_JUDGED, NOT_MEASURABLE, SERVER, WITHIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TypeGuard

    from zoo.registry import Claim

UNJUDGED_EXIT_CODE = 4
"""The exit code under `--strict` where no claim was missed, but some have no verdict."""

# Percentage points. Neighbouring rows of the published tables lie about one apart: a wider interval would
# include another model's number as well, and agreeing with the published one would mean nothing.
WIDEST_INTERVAL = 2.0

_SERVER_REASON = "only the data set's server has the ground truth of the test images"


def judge(measured: float | Decimal, published: Decimal | str, decimals: int, tolerance: float = 0.0) -> str:
    """Returns the verdict on one number, both in percent.

    Args:
      measured: unrounded.
      published, decimals: the value as printed, and its digits after the point.
      tolerance: percentage points by which the measured value may leave the interval that the printed
        value stands for, as declared by the entry.

    Returns:
      `match` where the measured value prints as the published one; `within` where it lies no further than
      `tolerance` from what was published; else `mismatch`.
    """
    if not math.isfinite(measured):
        return MISMATCH
    # Not a binary fraction divided by ten: 59.85 measured in floats is a little more, and prints as 59.9.
    exact = Decimal(measured)
    printed = printed_interval(published, decimals)
    if exact in printed:
        return MATCH
    # A tolerance is a decimal too: 0.1 percentage points, not the float that lies next to it.
    widening = Decimal(str(tolerance))
    if widening > 0 and printed.low - widening <= exact <= printed.high + widening:
        return WITHIN
    return MISMATCH


@dataclass(frozen=True)
class PrintedInterval:
    """The values that print as one published number."""

    low: Decimal  # half a unit of the last printed digit below the number, in percent
    high: Decimal  # half a unit above it
    # Whether both ends belong to it: printing rounds half-way values to the even digit.
    closed: bool

    def __contains__(self, value: Decimal) -> bool:
        return self.overlaps(value, value)

    def overlaps(self, low: Decimal, high: Decimal) -> bool:
        """Returns whether any value of [low, high] prints as the published number."""
        if self.closed:
            return low <= self.high and high >= self.low
        return low < self.high and high > self.low


def printed_interval(published: Decimal | str, decimals: int) -> PrintedInterval:
    """Returns the values that print as `published` with so many decimals."""
    half_unit = Decimal(5).scaleb(-decimals - 1)
    value = Decimal(f"{Decimal(published):.{decimals}f}")
    return PrintedInterval(value - half_unit, value + half_unit, closed=value.as_tuple().digits[-1] % 2 == 0)


def judge_claims(
    claims: Iterable[Claim],
    metrics: Mapping[str, Mapping[str, float]],
    *,
    not_judged: str | None = None,
    partial: str | None = None,
    intervals: Mapping[str, Mapping[str, tuple[float, float]]] | None = None,
) -> list[dict[str, Any]]:
    """Returns one row for each published number: the claim, what was measured, and the verdict.

    A run over a part of the data set has no verdict of its own, because its images are the first ones, not a
    random sample, and because a number that lies in a wide interval agrees with nearly everything. It holds a
    claim, `within`, only where the 95 % interval for the whole data set includes what was published and is no
    wider than `WIDEST_INTERVAL`, so that the two cannot be a point or more apart unnoticed. An interval
    without any width (images that are all alike) says nothing of the spread and holds none. A partial run
    never misses a claim. What only a data set's server measures is not measurable here.

    Args:
      claims: the entry's published numbers.
      metrics: evaluator -> metric -> value in percent.
      not_judged: why no claim can be judged in this run (changed settings), or None.
      partial: how much of the data set was evaluated, as in "15 of 30 images", or None for all of it.
      intervals: evaluator -> metric -> (low, high), the 95 % interval of a partial run in percent; those
        that are not finite count as not given.
    """
    rows: list[dict[str, Any]] = []
    reasons = [reason for reason in (partial, not_judged) if reason is not None]
    for claim in claims:
        value = metrics.get(claim.evaluator, {}).get(claim.metric)
        # NaN, where no class of a kind occurs, is not a number to show, and not one that JSON can hold.
        measured = value if value is not None and math.isfinite(value) else None
        row: dict[str, Any] = {
            "metric": claim.metric,
            "evaluator": claim.evaluator,
            "published": float(claim.value),
            "decimals": claim.decimals,
            "tolerance": float(claim.tolerance),
            "measured": measured,
            "difference": None if measured is None else measured - float(claim.value),
        }
        interval = (intervals or {}).get(claim.evaluator, {}).get(claim.metric)
        if claim.evaluator == SERVER:
            row |= {"verdict": NOT_MEASURABLE, "reason": _SERVER_REASON}
        elif value is None:
            ran = "measure it" if metrics.get(claim.evaluator) else "run"
            row |= {"verdict": NOT_JUDGED, "reason": f"the {claim.evaluator} evaluator did not {ran}"}
        elif partial is not None and not_judged is None and measured is not None and _is_finite(interval):
            row |= _judge_partial(claim, interval, partial)
        elif reasons:
            row |= {"verdict": NOT_JUDGED, "reason": ", ".join(reasons)}
        else:
            row["verdict"] = judge(value, claim.value, claim.decimals, float(claim.tolerance))
        rows.append(row)
    return rows


def _is_finite(interval: tuple[float, float] | None) -> TypeGuard[tuple[float, float]]:
    return interval is not None and all(map(math.isfinite, interval))


def _judge_partial(claim: Claim, interval: tuple[float, float], partial: str) -> dict[str, Any]:
    low, high = map(float, interval)
    verdict = NOT_JUDGED
    if not printed_interval(claim.value, claim.decimals).overlaps(Decimal(low), Decimal(high)):
        reason = f"outside the 95 % interval of {partial}, which is not a random sample"
    elif high - low > WIDEST_INTERVAL:
        reason = f"too few images, {partial}: the 95 % interval is wider than {WIDEST_INTERVAL:g} points"
    elif high == low:
        reason = f"too few images, {partial}: they are all alike"
    else:
        verdict, reason = WITHIN, f"inside the 95 % interval of {partial}"
    return {"verdict": verdict, "interval": [low, high], "reason": reason}


def all_hold(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Returns False where any claim was missed."""
    return all(row["verdict"] != MISMATCH for row in rows)


def unjudged(rows: Iterable[Mapping[str, Any]]) -> str | None:
    """Returns in one line which of a run's claims have no verdict, and why; None where all have one.

    Those that are not measurable here do not count.
    """
    rows = [row for row in rows if row["verdict"] != NOT_MEASURABLE]
    if not rows:
        return "nothing judged: nothing was published for it"
    reasons = [str(row.get("reason", "")) for row in rows if row["verdict"] == NOT_JUDGED]
    if not reasons:
        return None
    what = "nothing" if len(reasons) == len(rows) else f"{len(reasons)} of {len(rows)} claims not"
    return f"{what} judged: {'; '.join(dict.fromkeys(reasons))}"

"""Verdicts: does a measured number hold what was published?"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from zoo.registry import Claim

MATCH = "match"
WITHIN = "within"
MISMATCH = "mismatch"
NOT_JUDGED = "not judged"


def judge(measured: float, published: Decimal | str, decimals: int, tolerance: float = 0.0) -> str:
    """Returns the verdict on one number, both in percent.

    Args:
      measured: the measured value, unrounded.
      published: the value as printed.
      decimals: digits after the point of the printed value.
      tolerance: percentage points by which the measured value may leave the interval that the printed
        value stands for, as declared by the entry.

    Returns:
      `match` where the measured value prints as the published one; `within` where it lies no further than
      `tolerance` from what was published; else `mismatch`.
    """
    if not math.isfinite(measured):
        return MISMATCH
    if f"{measured:.{decimals}f}" == f"{Decimal(published):.{decimals}f}":
        return MATCH
    half_unit = 0.5 * 10.0**-decimals
    if abs(measured - float(published)) <= half_unit + tolerance:
        return WITHIN if tolerance > 0 else MISMATCH
    return MISMATCH


def judge_claims(
    claims: Iterable[Claim],
    metrics: Mapping[str, Mapping[str, float]],
    *,
    not_judged: str | None = None,
) -> list[dict[str, Any]]:
    """Returns one row for each published number: the claim, what was measured, and the verdict.

    Args:
      claims: the entry's published numbers.
      metrics: evaluator -> metric -> value in percent.
      not_judged: why no claim can be judged in this run (a partial set, changed settings), or None.
    """
    rows: list[dict[str, Any]] = []
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
        reason = not_judged
        if value is None:
            reason = f"the {claim.evaluator} evaluator did not run"
        if reason is not None or value is None:
            row |= {"verdict": NOT_JUDGED, "reason": reason}
        else:
            row["verdict"] = judge(value, claim.value, claim.decimals, float(claim.tolerance))
        rows.append(row)
    return rows


def all_hold(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Returns False where any claim was missed."""
    return all(row["verdict"] != MISMATCH for row in rows)

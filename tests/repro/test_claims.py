from __future__ import annotations

import json
import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.repro.claims import MATCH, MISMATCH, NOT_JUDGED, WITHIN, all_hold, judge, judge_claims
from zoo.schema import Claim


def claim(value: str, metric: str = "pq", evaluator: str = "official", tolerance: str = "0") -> Claim:
    return Claim.model_validate(
        {
            "metric": metric,
            "evaluator": evaluator,
            "value": Decimal(value),
            "source": "table.md:1",
            "tolerance": Decimal(tolerance),
        }
    )


@pytest.mark.parametrize(
    ("measured", "published", "decimals", "verdict"),
    [
        (74.196507, "74.20", 2, MATCH),
        (74.20499, "74.20", 2, MATCH),
        (74.20501, "74.20", 2, MISMATCH),
        (74.19499, "74.20", 2, MISMATCH),
        (36.80, "36.80", 2, MATCH),
        (36.8049, "36.80", 2, MATCH),
        (36.81, "36.80", 2, MISMATCH),
        # The same number with one printed digit stands for a wider interval.
        (36.81, "36.8", 1, MATCH),
        (59.849999, "59.8", 1, MATCH),
        (59.850001, "59.8", 1, MISMATCH),
        (59.750001, "59.8", 1, MATCH),
        (59.749999, "59.8", 1, MISMATCH),
        (60.4, "60", 0, MATCH),
        (60.6, "60", 0, MISMATCH),
        (0.0, "0.00", 2, MATCH),
        (100.0, "100", 0, MATCH),
        # Exactly half a unit: as the printed tables were made, to the even digit.
        (0.25, "0.2", 1, MATCH),
        (0.75, "0.8", 1, MATCH),
        (0.25, "0.3", 1, MISMATCH),
    ],
)
def test_judges_at_printed_precision(measured: float, published: str, decimals: int, verdict: str) -> None:
    assert judge(measured, published, decimals) == verdict
    assert judge(measured, Decimal(published), decimals) == verdict


@pytest.mark.parametrize(
    ("measured", "tolerance", "verdict"),
    [
        (59.83, 0.1, MATCH),
        (59.94, 0.1, WITHIN),
        (59.949, 0.1, WITHIN),
        (59.951, 0.1, MISMATCH),
        (59.66, 0.1, WITHIN),
        (59.649, 0.1, MISMATCH),
        (59.94, 0.0, MISMATCH),
    ],
)
def test_tolerance_widens_the_printed_interval(measured: float, tolerance: float, verdict: str) -> None:
    assert judge(measured, "59.8", 1, tolerance) == verdict


@pytest.mark.parametrize("measured", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_never_holds(measured: float) -> None:
    assert judge(measured, "59.8", 1, tolerance=100.0) == MISMATCH


@given(st.floats(0, 100), st.integers(0, 3))
def test_a_number_matches_its_own_print(measured: float, decimals: int) -> None:
    assert judge(measured, f"{measured:.{decimals}f}", decimals) == MATCH


@given(st.floats(0, 100), st.decimals(0, 100, places=2), st.floats(0, 5), st.floats(0, 5))
def test_more_tolerance_never_turns_a_verdict_worse(
    measured: float, published: Decimal, less: float, more: float
) -> None:
    less, more = sorted((less, more))
    order = [MATCH, WITHIN, MISMATCH]
    assert order.index(judge(measured, published, 2, more)) <= order.index(
        judge(measured, published, 2, less)
    )


def test_rows_say_what_was_published_and_measured() -> None:
    claims = [claim("74.20", evaluator="internal", tolerance="0.5"), claim("88.7", "miou")]
    rows = judge_claims(claims, {"internal": {"pq": 74.6}, "official": {"miou": 88.71}})
    assert rows == [
        {
            "metric": "pq",
            "evaluator": "internal",
            "published": 74.2,
            "decimals": 2,
            "tolerance": 0.5,
            "measured": 74.6,
            "difference": pytest.approx(0.4),
            "verdict": WITHIN,
        },
        {
            "metric": "miou",
            "evaluator": "official",
            "published": 88.7,
            "decimals": 1,
            "tolerance": 0.0,
            "measured": 88.71,
            "difference": pytest.approx(0.01),
            "verdict": MATCH,
        },
    ]


def test_a_run_that_cannot_be_judged_gives_its_reason() -> None:
    rows = judge_claims([claim("59.8")], {"official": {"pq": 12.0}}, not_judged="measured with --flip True")
    assert rows[0]["verdict"] == NOT_JUDGED
    assert rows[0]["reason"] == "measured with --flip True"
    assert rows[0]["measured"] == 12.0
    assert all_hold(rows)


@pytest.mark.parametrize("metrics", [{}, {"official": {}}, {"internal": {"pq": 59.8}}])
def test_an_evaluator_that_did_not_run_is_not_judged(metrics: dict[str, dict[str, float]]) -> None:
    (row,) = judge_claims([claim("59.8")], metrics)
    assert row["verdict"] == NOT_JUDGED
    assert row["reason"] == "the official evaluator did not run"
    assert row["measured"] is None
    assert row["difference"] is None


def test_nan_is_a_mismatch_that_json_can_hold() -> None:
    (row,) = judge_claims([claim("46.2", "ap")], {"official": {"ap": math.nan}})
    assert row["verdict"] == MISMATCH
    assert row["measured"] is None
    json.dumps(row, allow_nan=False)
    (partial,) = judge_claims(
        [claim("46.2", "ap")], {"official": {"ap": math.nan}}, not_judged="1 of 30 images"
    )
    assert partial["reason"] == "1 of 30 images"


def test_all_hold_only_without_a_mismatch() -> None:
    def rows(*verdicts: str) -> list[dict[str, str]]:
        return [{"verdict": verdict} for verdict in verdicts]

    assert all_hold(rows())
    assert all_hold(rows(MATCH, WITHIN, NOT_JUDGED))
    assert not all_hold(rows(MATCH, MISMATCH, WITHIN))

from __future__ import annotations

import json
import math
from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.registry.schema import Claim
from zoo.repro.records.claim_words import MATCH, MISMATCH, NOT_JUDGED, NOT_MEASURABLE, WITHIN
from zoo.repro.records.claims import (
    all_hold,
    judge,
    judge_claims,
    printed_interval,
    unjudged,
)
from zoo.repro.records.schema import ClaimRow


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


@pytest.mark.parametrize(
    ("measured", "published", "decimals", "verdict"),
    [
        # Half-way values go to the even digit: 59.8 owns both ends of its interval, 59.7 and 59.9 neither.
        ("59.85", "59.8", 1, MATCH),
        ("59.75", "59.8", 1, MATCH),
        ("59.85", "59.9", 1, MISMATCH),
        ("59.75", "59.7", 1, MISMATCH),
        ("59.8500000000000000000000000000000001", "59.8", 1, MISMATCH),
        ("59.8499999999999999999999999999999999", "59.9", 1, MISMATCH),
        ("59.7500000000000000000000000000000001", "59.8", 1, MATCH),
        ("36.805", "36.80", 2, MATCH),
        ("36.805", "36.81", 2, MISMATCH),
        ("36.795", "36.80", 2, MATCH),
        ("60.5", "60", 0, MATCH),
        ("60.5", "61", 0, MISMATCH),
        ("9.95", "10.0", 1, MATCH),
        ("99.995", "100.00", 2, MATCH),
    ],
)
def test_half_way_values_belong_to_one_printed_number(
    measured: str, published: str, decimals: int, verdict: str
) -> None:
    assert judge(Decimal(measured), published, decimals) == verdict
    prints_the_same = Decimal(measured).quantize(Decimal(published), ROUND_HALF_EVEN) == Decimal(published)
    assert prints_the_same == (verdict == MATCH)


def test_a_float_is_judged_by_its_exact_value() -> None:
    # The float next to 59.85 is a little larger, so it prints as 59.9.
    assert Decimal.from_float(59.85) > Decimal("59.85")
    assert f"{59.85:.1f}" == "59.9"
    assert judge(59.85, "59.8", 1) == MISMATCH
    assert judge(59.85, "59.9", 1) == MATCH
    # The float next to 1.15 is a little smaller.
    assert Decimal.from_float(1.15) < Decimal("1.15")
    assert judge(1.15, "1.1", 1) == MATCH


@given(st.decimals(0, 100, places=4), st.integers(0, 3))
def test_the_printed_interval_holds_what_prints_alike(measured: Decimal, decimals: int) -> None:
    unit = Decimal(1).scaleb(-decimals)
    printed = measured.quantize(unit, ROUND_HALF_EVEN)
    for neighbour in (printed - unit, printed, printed + unit):
        assert (measured in printed_interval(neighbour, decimals)) == (neighbour == printed)


@pytest.mark.parametrize(
    ("measured", "tolerance", "verdict"),
    [
        ("59.95", 0.1, WITHIN),
        ("59.9500000001", 0.1, MISMATCH),
        ("59.65", 0.1, WITHIN),
        ("59.6", 0.15, WITHIN),
    ],
)
def test_the_tolerance_is_the_decimal_that_was_declared(
    measured: str, tolerance: float, verdict: str
) -> None:
    assert judge(Decimal(measured), "59.8", 1, tolerance) == verdict


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


def test_what_only_a_server_measures_is_kept_and_not_held_against_a_run() -> None:
    claims = [claim("53.0"), claim("58.3", "pq_things"), claim("53.4", evaluator="server")]
    measured = {"official": {"pq": 53.01, "pq_things": 58.3}}
    rows = judge_claims(claims, measured)
    assert [row["verdict"] for row in rows] == [MATCH, MATCH, NOT_MEASURABLE]
    assert (rows[2]["published"], rows[2]["measured"], rows[2]["difference"]) == (53.4, None, None)
    assert "only the data set's server" in rows[2]["reason"]
    assert [ClaimRow.model_validate(row).evaluator for row in rows] == ["official", "official", "server"]
    assert all_hold(rows)
    assert unjudged(rows) is None
    # Nor does it count among what a partial run has not judged.
    rows = judge_claims(claims, measured, partial="1 of 30 images")
    assert rows[2]["verdict"] == NOT_MEASURABLE
    assert unjudged(rows) == "nothing judged: 1 of 30 images"


# ---- partial runs ----

PARTIAL = "15 of 30 images"


def partial_row(published: str, interval: tuple[float, float] | None, **more: str) -> dict[str, object]:
    intervals = {} if interval is None else {"official": {"pq": interval}}
    (row,) = judge_claims(
        [claim(published, tolerance="5")],
        {"official": {"pq": 60.0}},
        partial=PARTIAL,
        intervals=intervals,
        **more,
    )
    return row


@pytest.mark.parametrize(
    "interval",
    [
        (59.0, 61.0),
        # Only an end of the published interval, [59.75, 59.85], is reached.
        (59.84, 61.0),
        (58.0, 59.76),
        (59.79, 59.81),
    ],
)
def test_a_published_number_inside_the_uncertainty_of_a_partial_run(interval: tuple[float, float]) -> None:
    row = partial_row("59.8", interval)
    assert row["verdict"] == WITHIN
    assert row["interval"] == list(interval)
    assert row["reason"] == "inside the 95 % interval of 15 of 30 images"
    json.dumps(row, allow_nan=False)


@pytest.mark.parametrize(
    ("interval", "why"),
    [
        ((55.0, 65.0), "the 95 % interval is wider than 2 points"),
        ((58.7, 60.71), "the 95 % interval is wider than 2 points"),
        ((59.8, 59.8), "they are all alike"),
    ],
)
def test_too_few_images_hold_no_claim(interval: tuple[float, float], why: str) -> None:
    row = partial_row("59.8", interval)
    assert row["verdict"] == NOT_JUDGED
    assert row["interval"] == list(interval)
    assert row["reason"] == f"too few images, 15 of 30 images: {why}"


@pytest.mark.parametrize("interval", [(59.86, 65.0), (55.0, 59.74)])
def test_a_partial_run_never_misses_a_claim(interval: tuple[float, float]) -> None:
    row = partial_row("59.8", interval)
    assert row["verdict"] == NOT_JUDGED
    assert row["interval"] == list(interval)
    assert row["reason"] == "outside the 95 % interval of 15 of 30 images, which is not a random sample"
    assert all_hold([row])


@pytest.mark.parametrize(
    ("published", "interval", "verdict"),
    [
        # 0.25 and 0.75 are exact in floats, and round to 0.2 and 0.8.
        ("0.2", (0.25, 1.0), WITHIN),
        ("0.3", (0.0, 0.25), NOT_JUDGED),
        ("0.7", (0.75, 1.0), NOT_JUDGED),
        ("0.8", (0.0, 0.75), WITHIN),
    ],
)
def test_an_interval_that_ends_half_way(published: str, interval: tuple[float, float], verdict: str) -> None:
    assert partial_row(published, interval)["verdict"] == verdict


@pytest.mark.parametrize("interval", [None, (math.nan, 65.0), (55.0, math.inf)])
def test_a_partial_run_without_an_interval_is_not_judged(interval: tuple[float, float] | None) -> None:
    row = partial_row("59.8", interval)
    assert (row["verdict"], row["reason"]) == (NOT_JUDGED, PARTIAL)
    assert "interval" not in row


def test_changed_settings_are_not_judged_whatever_the_interval() -> None:
    row = partial_row("59.8", (0.0, 100.0), not_judged="measured with --flip")
    assert (row["verdict"], row["reason"]) == (NOT_JUDGED, "15 of 30 images, measured with --flip")
    assert "interval" not in row


def test_intervals_of_a_whole_run_change_no_verdict() -> None:
    intervals = {"official": {"pq": (0.0, 100.0)}}
    (row,) = judge_claims([claim("59.8")], {"official": {"pq": 12.0}}, intervals=intervals)
    assert row["verdict"] == MISMATCH
    assert "interval" not in row


def test_a_partial_run_without_a_number_is_not_judged() -> None:
    intervals = {"official": {"ap": (0.0, 100.0)}}
    for value in ({}, {"ap": math.nan}):
        (row,) = judge_claims(
            [claim("46.2", "ap")], {"official": value}, partial=PARTIAL, intervals=intervals
        )
        assert row["verdict"] == NOT_JUDGED
        assert row["measured"] is None

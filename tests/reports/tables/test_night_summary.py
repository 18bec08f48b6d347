from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from zoo.files.json_files import write_json
from zoo.reports.tables.night_summary import change_since_last, print_summary, summarize, summary_markdown
from zoo.repro.records.night_folder import (
    FAILED,
    HELD,
    MISSED,
    NOT_RUN,
    UNFINISHED,
    Night,
    Outcome,
    record_path,
)

CITY = "minicity/mobilenet_v3_small_os16"
COCO = "minicoco/mobilenet_v3_small_os16"


def record(entry: str, verdict: str = "match", **fields: Any) -> dict[str, Any]:
    claim = {
        "metric": "pq",
        "evaluator": "official",
        "published": 74.2,
        "decimals": 1,
        "measured": 74.16,
        "difference": -0.04,
        "verdict": verdict,
    }
    return {
        "schema": 1,
        "entry": entry,
        "images": 30,
        "images_in_dataset": 30,
        "claims": [claim],
        "metrics": {"official": {"pq": 74.16}, "internal": {"pq": 74.197, "ap": None}},
        "dataset": {"name": "minicity", "fingerprint": "1"},
        **fields,
    }


def night(tmp_path: Path, *outcomes: Outcome, finished: bool = True, **records: dict[str, Any]) -> Night:
    """A night of 25 November with these records, after one of the day before with usual ones."""
    for day, values in (
        ("2026-11-24", {"city": record(CITY), "coco": record(COCO)}),
        ("2026-11-25", records),
    ):
        for value in values.values():
            write_json(record_path(tmp_path / day, value["entry"]), value)
    return Night(
        tmp_path / "2026-11-25",
        {"limit": None},
        {outcome.entry: outcome for outcome in outcomes},
        "2026-11-25T01:00:00+00:00",
        "2026-11-25T02:00:00+00:00" if finished else None,
    )


def metrics(pq: float | None) -> dict[str, Any]:
    return {"official": {"pq": pq}, "internal": {"pq": 74.197, "ap": None}}


ABSENT = Outcome("cityscapes/resnet50_os32", NOT_RUN, "no data", wanted=False)
WANTED = Outcome("cityscapes/resnet50_os32", NOT_RUN, "no data", wanted=True)
MEASURED = Outcome(CITY, HELD, None, True, 42.0, 2_000_000_000)


@pytest.mark.parametrize(
    ("outcomes", "measured", "expected"),
    [
        ([MEASURED, ABSENT], record(CITY), 0),
        ([Outcome(CITY, MISSED)], record(CITY, "mismatch"), 1),
        ([MEASURED], record(CITY, metrics=metrics(74.0)), 1),
        ([MEASURED], record(CITY, metrics=metrics(74.07)), 0),
        ([MEASURED], record(CITY, metrics=metrics(74.9)), 0),
        ([MEASURED], record(CITY, metrics=metrics(None)), 1),
        # Nothing can be said about other data.
        ([MEASURED], record(CITY, metrics=metrics(70.0), images=3), 0),
        ([MEASURED, Outcome(COCO, FAILED, "no")], record(CITY), 3),
        ([Outcome(CITY, MISSED), Outcome(COCO, FAILED, "no")], record(CITY, "mismatch"), 3),
        ([MEASURED, Outcome(COCO, UNFINISHED)], record(CITY), 3),
        ([MEASURED, WANTED], record(CITY), 3),
    ],
)
def test_exit_code(tmp_path: Path, outcomes: list[Outcome], measured: dict[str, Any], expected: int) -> None:
    assert summarize(night(tmp_path, *outcomes, city=measured), 0.1)["exit_code"] == expected


@pytest.mark.parametrize(
    ("verdict", "expected"), [("match", 0), ("within", 0), ("mismatch", 1), ("not judged", 4)]
)
def test_a_strict_night_has_a_code_for_claims_that_were_not_judged(
    tmp_path: Path, verdict: str, expected: int
) -> None:
    result = MISSED if verdict == "mismatch" else HELD
    summary = summarize(night(tmp_path, Outcome(CITY, result), city=record(CITY, verdict)), 0.1, strict=True)
    assert summary["exit_code"] == expected


def test_a_night_without_any_record_could_not_run(tmp_path: Path) -> None:
    assert summarize(night(tmp_path, ABSENT), 0.1)["exit_code"] == 3


@pytest.mark.parametrize(
    ("after", "fell", "rose"),
    [
        ({"pq": 74.05}, [], []),
        ({"pq": 73.95}, ["pq"], []),
        ({"pq": 74.25}, [], []),
        ({"pq": 74.35}, [], ["pq"]),
        ({"pq": None}, ["pq"], []),
        ({}, ["pq"], []),
        ({"pq": 74.15, "ap": 40.0}, [], ["ap"]),
        ({"pq": 74.15, "ap": None}, [], []),
    ],
)
def test_what_fell_and_rose(tmp_path: Path, after: dict[str, Any], fell: list[str], rose: list[str]) -> None:
    before = record(CITY, metrics={"official": {"pq": 74.15}})
    write_json(record_path(tmp_path / "2026-11-24", CITY), before)
    path = record_path(tmp_path / "2026-11-25", CITY)
    write_json(path, record(CITY, metrics={"official": after}))
    change = change_since_last(tmp_path / "2026-11-25", CITY, path, 0.15)
    assert [value["metric"] for value in change["fell"]] == fell
    assert [value["metric"] for value in change["rose"]] == rose


@pytest.mark.parametrize(
    ("fields", "obstacle"),
    [
        ({"dataset": {"name": "minicity", "fingerprint": "2"}}, "other data (fingerprints 1 and 2)"),
        ({"images": 3}, "30 and 3 images"),
    ],
)
def test_other_data_are_not_compared(tmp_path: Path, fields: dict[str, Any], obstacle: str) -> None:
    summary = summarize(night(tmp_path, MEASURED, city=record(CITY, **fields)), 0.1)
    change = summary["entries"][0]["change"]
    assert obstacle in change["not_comparable"]
    assert change["metrics"] == change["fell"] == []


def test_the_page_and_the_terminal_say_the_same(tmp_path: Path) -> None:
    found = night(
        tmp_path,
        Outcome(CITY, MISSED, None, True, 3725.0, 2_000_000_000),
        Outcome(COCO, FAILED, "ended after 90 minutes", True, 5400.0, 1_500_000_000),
        Outcome("coco/resnet50_os16", NOT_RUN, "no checkpoint; `zoo fetch` it", wanted=False),
        Outcome("coco/resnet50_os32", NOT_RUN, "no checkpoint; `zoo fetch` it", wanted=False),
        WANTED,
        city=record(
            CITY,
            "mismatch",
            metrics={"official": {"pq": 73.0}, "internal": {"pq": 75.0}},
            versions={"keras": "9.0"},
        ),
    )
    found.log_path(COCO).parent.mkdir()
    found.log_path(COCO).write_text("")
    summary = summarize(found, 0.1)
    page = summary_markdown(summary, found)
    console = Console(file=io.StringIO(), width=200)
    print_summary(summary, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for text in (page, shown):
        for part in (
            "5 entries: 1 missed, 1 failed, 3 not run, 1 with a metric that fell. Exit code 3.",
            f"- {COCO}: ended after 90 minutes (output: minicoco__mobilenet_v3_small_os16/log.txt)",
            "- cityscapes/resnet50_os32: not run: no data",
            f"- {CITY}: PQ [*]: published 74.2, measured 74.16",
            f"- {CITY}: PQ, official: 74.160 in 2026-11-24, now 73.000",
            f"- {CITY}: PQ, internal: 74.197 in 2026-11-24, now 75.000",
            "- no checkpoint; `zoo fetch` it: coco/resnet50_os16, coco/resnet50_os32",
            "1 metric fell, 1 metric rose (2026-11-24)",
            f"- {CITY}: keras version: none, now 9.0",
            "1 h 02 min",
            "2.0 GB",
        ):
            assert part in text
    assert f"| {CITY} | missed | 1 mismatch |" in page
    assert page.startswith("# Night 2026-11-25\n")


def test_an_unfinished_night_says_so(tmp_path: Path) -> None:
    found = night(tmp_path, MEASURED, Outcome(COCO, UNFINISHED, "stopped"), finished=False, city=record(CITY))
    page = summary_markdown(summarize(found, 0.1), found)
    assert "\nUnfinished: 2 entries: 1 held, 1 unfinished. Exit code 3.\n" in page
    assert "the same numbers (2026-11-24)" in page
    assert "| 42 s | 2.0 GB |" in page

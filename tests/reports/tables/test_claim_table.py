from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from zoo.reports.tables.claim_table import COLUMNS, as_csv, as_json, claim_rows, markdown, terminal


def claim(
    verdict: str, published: float, decimals: int, measured: float | None, **more: Any
) -> dict[str, Any]:
    return {
        "metric": "pq",
        "evaluator": "official",
        "published": published,
        "decimals": decimals,
        "tolerance": 0.2,
        "measured": measured,
        "difference": None if measured is None else measured - published,
        "verdict": verdict,
        **more,
    }


RECORDS: list[dict[str, Any]] = [
    {
        "entry": "minicity/mobilenet_v3_small_os16",
        "claims": [
            claim("match", 74.2, 1, 74.16493662953422),
            claim("within", 36.80, 2, 36.9012345678901, metric="ap", evaluator="internal"),
            claim("mismatch", 88.7, 1, 9.1, metric="miou"),
        ],
    },
    {"entry": "coco/resnet50_os32", "claims": [claim("not judged", 35.5, 1, None, reason="did not run")]},
]


def test_markdown_lines_up_and_parses() -> None:
    *lines, blank, note = markdown(RECORDS).splitlines()
    assert (blank, note) == ("", "- not judged: did not run (coco/resnet50_os32)")
    assert len({len(line) for line in lines}) == 1
    bars = [[i for i, character in enumerate(line) if character == "|"] for line in lines]
    assert all(found == bars[0] for found in bars)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert tuple(cells[0]) == COLUMNS
    assert [rule.endswith(":") for rule in cells[1]] == [False, False, False, True, True, True, False]
    assert all(len(rule) >= 3 and set(rule) <= {"-", ":"} for rule in cells[1])
    assert cells[2] == [
        "minicity/mobilenet_v3_small_os16",
        "PQ [*]",
        "official",
        "74.2",
        "74.16",
        "-0.04",
        "match",
    ]
    assert cells[3][1:] == ["AP [**]", "internal", "36.80", "36.901", "+0.101", "within"]
    assert cells[5] == ["coco/resnet50_os32", "PQ [*]", "official", "35.5", "", "", "not judged"]


def test_parts_of_pq_and_the_numbers_of_a_server_have_rows() -> None:
    claims = [
        claim("match", 53.0, 1, 53.02),
        claim("match", 58.3, 1, 58.31, metric="pq_things"),
        claim("match", 53.50, 2, 53.501, evaluator="internal"),
        claim("not measurable here", 53.4, 1, None, evaluator="server", reason="its server has the truth"),
    ]
    metrics = {"official": {"pq": 53.02, "pq_things": 58.31, "ap": 30.25}}
    record = {"entry": "coco/kmax_resnet50", "claims": claims, "metrics": metrics}
    assert [row[1:] for row in claim_rows([record])] == [
        ("PQ [*]", "official", "53.0", "53.02", "+0.02", "match"),
        ("PQ things [*]", "official", "58.3", "58.31", "+0.01", "match"),
        ("AP [*]", "official", "", "30.25", "", ""),
        ("PQ [**]", "internal", "53.50", "53.501", "+0.001", "match"),
        ("PQ [server]", "server", "53.4", "", "", "not measurable here"),
    ]
    assert "- not measurable here: its server has the truth\n" in markdown([record])


def test_markdown_without_rows_is_still_a_table() -> None:
    header, rule = markdown([]).splitlines()
    assert header.count("|") == rule.count("|") == len(COLUMNS) + 1


def test_csv_is_unrounded() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(RECORDS))))
    assert list(rows[0]) == [
        *(name.lower() for name in COLUMNS),
        "low",
        "high",
        "reason",
        "settings",
        "started",
    ]
    assert float(rows[0]["measured"]) == 74.16493662953422
    assert float(rows[0]["difference"]) == 74.16493662953422 - 74.2
    assert (rows[1]["metric"], rows[1]["published"]) == ("ap", "36.80")
    assert (rows[3]["measured"], rows[3]["difference"]) == ("", "")
    assert [row["verdict"] for row in rows] == ["match", "within", "mismatch", "not judged"]
    assert [row["reason"] for row in rows] == ["", "", "", "did not run"]
    assert {(row["low"], row["high"]) for row in rows} == {("", "")}


def test_json_holds_every_claim_with_its_entry() -> None:
    rows = json.loads(as_json(RECORDS))
    assert [row["entry"] for row in rows] == [RECORDS[0]["entry"]] * 3 + [RECORDS[1]["entry"]]
    claims = [claim for record in RECORDS for claim in record["claims"]]
    about_runs = {"entry", "settings", "started"}
    assert [{key: row[key] for key in row.keys() - about_runs} for row in rows] == claims


def test_runs_of_one_entry_are_told_apart() -> None:
    asked = {"precision": "float32", "scales": [1.0], "flip": False}
    runs = [
        {
            **RECORDS[1],
            "images": images,
            "images_in_dataset": 9,
            "settings": asked,
            "timings": {"started": day},
        }
        for images, day in ((1, "2026-11-01"), (2, "2026-11-01"), (2, "2026-11-02"))
    ]
    name = "coco/resnet50_os32, float32 · "
    named = [f"{name}1 of 9 images", *(f"{name}2 of 9 images, 2026-11-0{day}" for day in (1, 2))]
    assert [row[0] for row in claim_rows(runs)] == named
    assert f"- measured on 2 of 9 images ({'; '.join(named[1:])})" in markdown(runs).splitlines()
    shown = text_of(terminal(runs), width=180)
    for text in named:
        (row,) = (line for line in shown.splitlines() if line.startswith(f"│ {text.partition(', ')[2]} "))
        assert "not judged" in row
    for rows in (csv.DictReader(io.StringIO(as_csv(runs))), json.loads(as_json(runs))):
        assert [f"{row['entry']}, {row['settings']}, {row['started'][-2:]}" for row in rows] == [
            f"{name}{images} of 9 images, {day}" for images, day in ((1, "01"), (2, "01"), (2, "02"))
        ]


def text_of(table: Any, width: int = 120) -> str:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_terminal_shows_one_entry_as_the_title() -> None:
    shown = text_of(terminal(RECORDS[:1]), width=80)
    assert shown.count("minicity/mobilenet_v3_small_os16") == 1
    assert "Entry" not in shown
    for cells in (("PQ [*]", "74.2", "74.16", "-0.04", "match"), ("AP [**]", "36.80", "36.901", "within")):
        assert any(all(cell in line for cell in cells) for line in shown.splitlines())
    assert "…" not in shown


def test_terminal_names_the_entry_of_each_row() -> None:
    shown = text_of(terminal(RECORDS))
    assert shown.count("minicity/mobilenet_v3_small_os16") == 3
    # In its row, and with the reason below.
    assert shown.count("coco/resnet50_os32") == 2
    assert "not judged: did not run (coco/resnet50_os32)" in shown


def test_a_narrow_terminal_loses_no_character() -> None:
    shown = text_of(terminal(RECORDS), width=80)
    assert "…" not in shown
    assert "mismatch" in shown


@pytest.mark.parametrize("records", [RECORDS[1:], RECORDS])
def test_terminal_says_why_nothing_was_judged(records: list[dict[str, Any]]) -> None:
    assert "not judged: did not run" in text_of(terminal(records))


def test_verdicts_are_coloured() -> None:
    cells = list(terminal(RECORDS).columns[-1].cells)
    assert len({str(cell.style) for cell in cells}) == 4


def test_rows_are_one_for_each_claim() -> None:
    assert len(claim_rows(RECORDS)) == 4
    assert claim_rows([]) == []


PARTIAL: list[dict[str, Any]] = [
    {
        "entry": "coco/resnet50_os32",
        "claims": [
            claim("within", 34.1, 1, 36.2, interval=[31.123456789, 41.5], reason="inside the uncertainty"),
            claim("not judged", 54.75, 2, 12.0, interval=[8.0, 14.0], reason="outside the interval"),
            claim("not judged", 18.5, 2, 12.0, reason="outside the interval"),
        ],
    }
]
REASONS = ["within: inside the uncertainty", "not judged: outside the interval"]


def test_reasons_are_shown_once_below_the_rows() -> None:
    assert markdown(PARTIAL).splitlines()[-3:] == ["", *(f"- {reason}" for reason in REASONS)]
    shown = text_of(terminal(PARTIAL))
    assert all(shown.count(reason) == 1 for reason in REASONS)
    several = markdown([*PARTIAL, *RECORDS, *PARTIAL])
    assert several.splitlines()[-3:] == [
        *(f"- {reason} (coco/resnet50_os32)" for reason in REASONS),
        "- not judged: did not run (coco/resnet50_os32)",
    ]


def test_csv_has_the_unrounded_interval() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(PARTIAL))))
    assert [(row["low"], row["high"]) for row in rows] == [
        ("31.123456789", "41.5"),
        ("8.0", "14.0"),
        ("", ""),
    ]
    assert rows[0]["reason"] == "inside the uncertainty"


def test_without_reasons_nothing_stands_below_the_table() -> None:
    assert markdown(RECORDS[:1]).splitlines()[-1].startswith("| minicity/")


METRICS = {
    "official": {"pq": 74.1649, "sq": 86.9, "miou": 88.7132, "ap": 46.1814},
    "internal": {"pq": 74.1965, "miou": 88.6826, "ap": None},
}


def test_what_was_measured_is_shown_whether_or_not_it_was_published() -> None:
    own = {"entry": "mine/own", "claims": [], "metrics": METRICS, "images": 3, "images_in_dataset": 3}
    lines = markdown([own]).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:7]]
    assert [row[1:] for row in cells] == [
        ["PQ [*]", "official", "", "74.16", "", ""],
        ["mIoU [*]", "official", "", "88.71", "", ""],
        ["AP [*]", "official", "", "46.18", "", ""],
        ["PQ [**]", "internal", "", "74.197", "", ""],
        ["mIoU [**]", "internal", "", "88.683", "", ""],
    ]
    assert lines[-1] == "- no verdict: nothing was published for it"
    rows = list(csv.DictReader(io.StringIO(as_csv([own]))))
    assert [(row["metric"], row["published"], row["measured"], row["verdict"]) for row in rows][2] == (
        "ap",
        "",
        "46.1814",
        "",
    )
    assert json.loads(as_json([own]))[2]["published"] is None
    assert "46.18" in text_of(terminal([own]))


def test_an_unpublished_metric_stands_among_the_published_ones() -> None:
    claims = [claim("match", 74.2, 1, 74.1649), claim("match", 74.2, 2, 74.1965, evaluator="internal")]
    record = {"entry": "a/b", "claims": claims, "metrics": METRICS}
    assert [row[1] for row in claim_rows([record])] == [
        "PQ [*]",
        "mIoU [*]",
        "AP [*]",
        "PQ [**]",
        "mIoU [**]",
    ]


def test_a_partial_run_shows_its_intervals() -> None:
    claims = [claim("not judged", 74.2, 1, 76.3, reason="too few images, 5 of 30 images")]
    record = {
        "entry": "a/b",
        "images": 5,
        "images_in_dataset": 30,
        "claims": claims,
        "metrics": METRICS,
        "intervals": {"official": {"pq": [69.46, 81.17], "ap": [30.11, 61.19]}},
    }
    for shown in (markdown([record]), text_of(terminal([record]))):
        assert "95 % interval" in shown
        assert "69.5 to 81.2" in shown
        assert "30.1 to 61.2" in shown
    assert "95 % interval" not in markdown(RECORDS)
    assert "- measured on 5 of 30 images" in markdown([{**record, "claims": []}])

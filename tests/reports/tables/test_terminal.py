"""Tables on terminals of any width: every number whole, or said to be left out."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from rich.text import Text

from zoo.reports.tables.claim_table import terminal
from zoo.reports.tables.terminal import FittedTable

CLAIMS = [
    {
        "metric": metric,
        "evaluator": evaluator,
        "published": value,
        "decimals": 2,
        "measured": value + 0.001,
        "difference": 0.001,
        "verdict": "not judged",
        "interval": [value - 1, value + 1],
    }
    for evaluator in ("official", "internal")
    for metric, value in (("pq", 74.20), ("miou", 88.68), ("ap", 42.54))
]
RECORD = {"entry": "minicity/mobilenet_v3_small_os16", "claims": CLAIMS}


def text_of(table: object, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def numbers_in(text: str) -> set[str]:
    return set(re.findall(r"\d+\.\d+", text))


@pytest.mark.parametrize("records", [[RECORD], [RECORD, {**RECORD, "entry": "coco/resnet50_os32"}]])
@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_no_number_is_cut(width: int, records: list[dict[str, object]]) -> None:
    shown, whole = text_of(terminal(records), width), text_of(terminal(records), 200)
    assert max(map(len, shown.splitlines())) <= width
    assert "…" not in shown
    assert numbers_in(shown) <= numbers_in(whole)
    assert {"88.68", "88.681", "74.20", "74.201"} <= numbers_in(shown)
    if numbers_in(shown) != numbers_in(whole):
        words = " ".join(shown.split())
        assert f"Not shown in {width} characters: " in words
        assert "Difference" in words


def drawn(**options: object) -> FittedTable:
    table = FittedTable("Name", **options)  # type: ignore[arg-type]
    table.add_column("Value", no_wrap=True)
    table.add_row("a name in some words", Text("12345.678"))
    return table


def test_lines_go_before_columns() -> None:
    table = drawn(leave_out_first=["Value"])
    assert "┃" in text_of(table, 40)
    narrow = text_of(table, 24)
    assert "┃" not in narrow
    assert "12345.678" in narrow
    assert "Not shown" not in narrow
    last = text_of(table, 16)
    assert "12345" not in last
    assert "Not shown in 16" in last


def test_what_fits_in_no_line_stands_below_its_title() -> None:
    shown = text_of(drawn(title=Text("The title")), 16).splitlines()
    assert shown[0] == "The title"
    assert "Value: 12345.678" in shown

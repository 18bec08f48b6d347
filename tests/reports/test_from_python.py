"""What `zoo report` does, from Python."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoo
from zoo.errors import DataError, UsageError

Call = Callable[..., Any]
ENTRY = "minicity/mobilenet_v3_small_os16"


@pytest.fixture
def runs(make_run: Call) -> list[Path]:
    def coarse(record: dict[str, Any]) -> None:
        record["settings"]["precision"] = "bfloat16"
        record["metrics"]["official"]["pq"] -= 1.0
        record["claims"] = record["claims"][1:]

    return [make_run("a", entry=ENTRY), make_run("b", entry=ENTRY, change=coarse)]


def test_functions_give_what_the_commands_print(zoo_call: Call, runs: list[Path]) -> None:
    for words, text in (
        ((runs[0],), zoo.measured(runs[0])),
        ((runs[0], "--format", "latex"), zoo.measured(str(runs[0]), form="latex")),
        ((*runs, "--side-by-side"), zoo.measured(*runs, side_by_side=True)),
        ((*runs, "--side-by-side", "--format", "csv"), zoo.measured(*runs, side_by_side=True, form="csv")),
    ):
        assert zoo_call("report", "measured", *words).stdout == text
    done = zoo_call("report", "compare", *runs, "--format", "markdown")
    found = zoo.compare(*runs)
    assert (done.stdout, done.returncode) == (found._repr_markdown_(), 1)
    assert found.fallen == [("official", "pq")]
    assert zoo.compare(*runs, threshold=1.5).fallen == []
    page = runs[0].parent / "page.html"
    zoo_call("report", "html", *runs, "--out", page)
    assert page.read_text(encoding="utf-8") == zoo.html_page(*runs)


def test_runs_side_by_side_are_a_frame(runs: list[Path]) -> None:
    frame = zoo.side_by_side(runs[1], str(runs[0]), runs[1])
    assert frame["path"].tolist() == [str(run / "record.json") for run in (runs[1], runs[0])]
    assert ["bfloat16" in name for name in frame["run"]] == [True, False]
    record = json.loads((runs[1] / "record.json").read_text(encoding="utf-8"))
    assert frame.loc[0, "official_pq"] == record["metrics"]["official"]["pq"]
    assert str(frame["internal_miou"].dtype) == "float64"


def test_what_cannot_be_reported_is_an_error(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="form 'html': expected one of markdown, csv, latex"):
        zoo.measured(runs[0], form="html")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="expected one record of each entry"):
        zoo.measured(*runs)
    for call in (zoo.measured, zoo.side_by_side, zoo.html_page, zoo.explain):
        with pytest.raises(DataError, match="no run record"):
            call(tmp_path / "none")  # type: ignore[operator]


def test_reports_load_no_tensorflow(runs: list[Path], tmp_path: Path) -> None:
    script = (
        "import sys, zoo; zoo.measured(sys.argv[1]); zoo.compare(*sys.argv[1:]); zoo.html_page(sys.argv[1])\n"
        "print('tensorflow' in sys.modules)"
    )
    words = [sys.executable, "-c", script, *map(str, runs)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "False\n"

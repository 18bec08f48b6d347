"""A row for each run: metrics of both evaluators, and what the runs needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import zoo
from zoo.registry import Registry
from zoo.reports.runs import open_run
from zoo.reports.tables.markdown_table import read_tables
from zoo.reports.tables.measured import measured_tables

Call = Callable[..., Any]
BUNDLED = "minicity/mobilenet_v3_small_os16"
OFFICIAL = {"pq": 74.165, "sq": 86.9, "rq": 83.0, "pq_things": 49.68, "pq_stuff": 91.97, "miou": 88.7}
EFFICIENCY = {
    "parameters": 5_130_000,
    "multiply_adds": 15_240_000_000,
    "seconds_per_image": 0.0655,
    "peak_memory_bytes": 2_345_678_901,
}
DEVICE = {"kind": "gpu", "replicas": 2, "names": ["NVIDIA H200"] * 8}
NEEDED = ("5.1 M", "15.2 G", "65.5 ms", "2.3 GB", "2 x NVIDIA H200")


@pytest.fixture
def runs(write_record: Call) -> list[Path]:
    def scored(name: str, **fields: Any) -> Path:
        return write_record(None, name, predictions={"name": name}, **fields)

    metrics = {"official": OFFICIAL, "internal": {"pq": 74.2, "boundary_pq": 61.0}}
    return [
        scored("first", metrics=metrics, efficiency=EFFICIENCY, device=DEVICE),
        scored("second", metrics={"internal": {"miou": 12.3456}}, images=7, device={"kind": "cpu"}),
    ]


def test_predictions_stand_side_by_side(registry: Registry, runs: list[Path]) -> None:
    (table,) = read_tables(measured_tables(registry, map(open_run, runs)))
    first, second = (dict(zip(table.header.cells, row.cells, strict=True)) for row in table.rows)
    official = ("74.17", "86.90", "83.00", "49.68", "91.97", "88.70")
    titles = ["PQ [*]", "SQ [*]", "RQ [*]", "PQ things [*]", "PQ stuff [*]", "mIoU [*]"]
    assert tuple(first[title] for title in titles) == official
    assert [*table.header.cells][-5:] == [
        *("Parameters", "Mult-adds", "Network time per image", "Peak memory", "Device")
    ]
    assert tuple(first.values())[-5:] == NEEDED
    assert (first["boundary PQ [**]"], first["mIoU [**]"]) == ("61.00", "")
    assert {title for title, cell in second.items() if cell} == {"Run", "Images", "mIoU [**]", "Device"}
    assert (second["Run"], second["Images"], second["mIoU [**]"]) == ("second", "7", "12.35")


def test_a_part_of_the_images_is_marked(registry: Registry, runs: list[Path]) -> None:
    text = measured_tables(registry, map(open_run, runs))
    assert "\n- second: 7 of 30 images\n" in text
    latex = measured_tables(registry, map(open_run, runs), latex=True)
    assert r"\caption{Runs side by side. second: 7 of 30 images}" in latex
    assert r" & 5.1 M & 15.2 G & 65.5 ms & 2.3 GB & 2 x NVIDIA H200 \\" in latex


def test_predictions_follow_the_published_tables(
    registry: Registry, runs: list[Path], write_record: Call
) -> None:
    entry = write_record(BUNDLED, metrics={"official": OFFICIAL}, efficiency=EFFICIENCY, device=DEVICE)
    tables = read_tables(measured_tables(registry, map(open_run, [entry, *runs])))
    assert [table.heading for table in tables][-2:] == ["Bundled entries", "Runs side by side"]
    assert [row.cells[0] for row in tables[-1].rows] == ["first", "second"]
    (row,) = (row.cells for row in tables[-2].rows if BUNDLED in row.cells[0])
    assert row[-5:] == NEEDED
    assert "Parameters" not in tables[0].header.cells, "nothing was run of that table"


def test_any_runs_stand_side_by_side_where_asked(
    zoo_call: Call, runs: list[Path], write_record: Call
) -> None:
    entry = write_record(BUNDLED, metrics={"official": OFFICIAL})
    done = zoo_call("report", "measured", "--side-by-side", entry, *runs)
    assert (done.returncode, done.stderr) == (0, "")
    (table,) = read_tables(done.stdout)
    assert [row.cells[0] for row in table.rows] == [BUNDLED, "first", "second"]
    done = zoo_call("report", "measured", "--side-by-side", "--format", "csv", entry, runs[0])
    assert (done.returncode, done.stderr) == (0, "")
    header, *rows = done.stdout.splitlines()
    assert header.startswith('"run","images","images_in_dataset","official_pq",')
    assert rows[1].startswith('"first",30,30,74.165,86.9')
    assert ",5130000,15240000000,0.0655,2345678901," in rows[1]
    # Of a run below a folder, the newest of an entry alone would stand in a published table.
    write_record(BUNDLED, "again", metrics={"official": OFFICIAL}, images=3)
    done = zoo_call("report", "measured", "--side-by-side", entry.parent.parent)
    (table,) = read_tables(done.stdout)
    assert (done.stderr, sum(row.cells[0].startswith(BUNDLED) for row in table.rows)) == ("", 2)


def test_results_say_what_runs_needed(runs: list[Path]) -> None:
    frame = zoo.results(*runs)
    row = frame[frame["entry"] == "first"].iloc[0]
    assert {key: row[key] for key in EFFICIENCY} == EFFICIENCY
    assert (row["device"], row["device_name"]) == ("gpu", "2 x NVIDIA H200")
    other = frame[frame["entry"] == "second"].iloc[0]
    assert other[[*EFFICIENCY]].isna().all()
    assert pd.api.types.is_integer_dtype(frame["parameters"])

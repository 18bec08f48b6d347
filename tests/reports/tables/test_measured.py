from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.registry import Registry
from zoo.reports.runs import open_run
from zoo.reports.tables.latex import latex_text
from zoo.reports.tables.markdown_table import Table, read_tables
from zoo.reports.tables.measured import measured_tables

Call = Callable[..., Any]
WriteRecord = Callable[..., Path]

BUNDLED = "minicity/mobilenet_v3_small_os16"
METRICS = {
    "official": {"pq": 74.16493662953422, "sq": 86.9, "miou": 88.71322934, "ap": 46.18147122},
    "internal": {"pq": 74.19650651452396, "miou": 88.68261605, "ap": 42.54189712},
}
ROWS = {"Cityscapes Panoptic Segmentation": 8, "COCO Panoptic Segmentation": 4}


def tables_in(text: str) -> dict[str, Table]:
    return {table.heading: table for table in read_tables(text)}


def cells_of(table: Table, number: int) -> dict[str, str]:
    # A blank last cell ends the line with its bar.
    cells = [*table.rows[number].cells, ""]
    return dict(zip(table.header.cells, cells, strict=False))


def with_numbers(table: str, numbers: dict[str, list[str]]) -> str:
    """A published table with other numbers in it, or blanks, at the same places."""
    header, rule, *rows = table.splitlines()
    lines = [header, rule]
    for row in rows:
        cells = row.split(" | ")
        own = next((found for part, found in numbers.items() if part in row), [""] * len(cells[3:]))
        replaced = [number.ljust(len(cell)) for number, cell in zip(own, cells[3:], strict=True)]
        lines.append(" | ".join([*cells[:3], *replaced]).rstrip())
    return "".join(f"{line}\n" for line in lines)


def measured(registry: Registry, *paths: Path) -> str:
    return measured_tables(registry, map(open_run, paths))


def test_measured_numbers_stand_in_the_published_layout(
    zoo_call: Call, write_record: WriteRecord, cityscapes_table: str, coco_table: str
) -> None:
    metrics = {
        "official": {"pq": 59.8499, "miou": 75.95},
        "internal": {"pq": 60.239999, "miou": 76.0, "ap": 30.0051},
    }
    path = write_record("cityscapes/resnet50_os32", metrics=metrics)
    done = zoo_call("report", "measured", path)
    assert (done.returncode, done.stderr) == (0, "")
    numbers = ["59.8", "76.0", "60.24", "76.00", "30.01"]
    expected = with_numbers(cityscapes_table, {"resnet50_os32_merge_with_pure": numbers})
    assert f"### Cityscapes Panoptic Segmentation\n\n{expected}\n" in done.stdout
    assert f"### COCO Panoptic Segmentation\n\n{with_numbers(coco_table, {})}\n" in done.stdout


def test_tables_with_columns_of_their_own(
    registry: Registry, write_record: WriteRecord, kmax_tables: dict[str, str]
) -> None:
    official = {"pq": 53.02, "pq_things": 58.31, "pq_stuff": 44.88, "ap": 30.0}
    path = write_record("coco/kmax_resnet50", metrics={"official": official, "internal": {"pq": 53.5}})
    tables = tables_in(measured(registry, path))
    table = tables["COCO Panoptic Segmentation"]
    (published,) = read_tables(kmax_tables["coco"])
    titles = list(published.header.cells)
    # AP is measured here, though upstream did not.
    assert list(table.header.cells) == [*titles[:4], "AP<sup>Mask</sup> [*]", *titles[4:]]
    assert table.rows[0].cells[1:] == ("53.0", "58.3", "44.9", "30.0", "", "", "", "53.50")
    assert [row.cells[0] for row in table.rows] == [row.cells[0] for row in published.rows]
    assert len(tables["ADE20K Panoptic Segmentation"].rows) == 4


def test_every_row_of_the_tables_is_there(registry: Registry) -> None:
    tables = tables_in(measured(registry))
    assert {heading: len(tables[heading].rows) for heading in ROWS} == ROWS
    assert "Other entries" not in tables


def test_bundled_entries_have_a_table_with_official_ap(registry: Registry, write_record: WriteRecord) -> None:
    table = tables_in(measured(registry, write_record(BUNDLED, metrics=METRICS)))["Bundled entries"]
    names = [f"(`{entry.name}`)" for entry in registry.entries if entry.checkpoint.url.startswith("package:")]
    assert [row.cells[0].split()[-1] for row in table.rows] == names
    number = names.index(f"(`{BUNDLED}`)")
    assert cells_of(table, number) == {
        "Backbone": f"MobilenetV3-S (`{BUNDLED}`)",
        "Output stride": "16",
        "Input resolution": "257 x 513",
        "PQ [*]": "74.2",
        "mIoU [*]": "88.7",
        "AP<sup>Mask</sup> [*]": "46.2",
        "PQ [**]": "74.20",
        "mIoU [**]": "88.68",
        "AP<sup>Mask</sup> [**]": "42.54",
    }


def test_official_ap_has_a_column_where_it_was_measured(
    registry: Registry, write_record: WriteRecord
) -> None:
    path = write_record("cityscapes/resnet50_os32", metrics={"official": {"ap": 29.96}})
    tables = tables_in(measured(registry, path))
    with_ap = tables["Cityscapes Panoptic Segmentation"]
    assert with_ap.header.cells[3:6] == ("PQ [*]", "mIoU [*]", "AP<sup>Mask</sup> [*]")
    assert [row.cells[5] for row in with_ap.rows] == ["", "", "30.0", *[""] * 5]
    assert "AP<sup>Mask</sup> [*]" not in tables["COCO Panoptic Segmentation"].header.cells


def test_other_entries_are_shown_where_they_were_measured(
    zoo_call: Call, write_record: WriteRecord, tmp_path: Path
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "entries:\n  mine/small:\n    extends: coco/resnet50_os32\n    title: Mine\n"
        "    checkpoint: a.tar.gz\n"
    )
    records = [
        write_record("mine/small", metrics={"official": {"pq": 12.3456}, "internal": {"pq": 12.3456}}),
        write_record("cityscapes/mobilenet_v3_small_os16", metrics={"internal": {"pq": 48.6666}}),
    ]
    done = zoo_call("--registry", own, "report", "measured", *records)
    assert done.returncode == 0, done.stderr
    table = tables_in(done.stdout)["Other entries"]
    newer, mine = cells_of(table, 0), cells_of(table, 1)
    assert (newer["PQ [*]"], newer["PQ [**]"]) == ("", "48.67")
    assert "_os16_panoptic_deeplab_cityscapes_dwo.tar.gz" in newer["Backbone"]
    # Without published numbers, decimals are as many as the tables have.
    assert mine["Backbone"] == "Mine (`mine/small`)"
    assert (mine["PQ [*]"], mine["PQ [**]"]) == ("12.3", "12.35")


def test_what_a_partial_or_changed_run_measured_is_marked(
    registry: Registry, write_record: WriteRecord
) -> None:
    reason = "15 of 30 images, measured with --flip"
    row = {"metric": "pq", "evaluator": "official", "published": 74.2, "decimals": 1}
    claims = [
        {**row, "measured": 74.0, "difference": 74.0 - 74.2, "verdict": "not judged", "reason": reason}
    ] * 2
    partial = write_record(BUNDLED, metrics=METRICS, claims=claims, images=15)
    assert measured(registry, partial).endswith(f"\n\n- {BUNDLED}: {reason}\n")
    # An entry without published numbers has no claims that could tell.
    unclaimed = write_record(BUNDLED, metrics=METRICS, images=3)
    assert measured(registry, unclaimed).endswith(f"\n\n- {BUNDLED}: 3 of 30 images\n")
    assert "images" not in measured(registry, write_record(BUNDLED, metrics=METRICS))


def test_a_number_that_is_not_there_is_blank(registry: Registry, write_record: WriteRecord) -> None:
    path = write_record(BUNDLED, metrics={"official": {"pq": None}, "internal": {"pq": 0}})
    (row,) = (
        row.cells
        for row in tables_in(measured(registry, path))["Bundled entries"].rows
        if BUNDLED in row.cells[0]
    )
    assert row[3] == ""
    assert "0.00" in row


def test_two_records_of_one_entry_are_refused(
    zoo_call: Call, one_line: Call, write_record: WriteRecord
) -> None:
    first, second = (write_record(BUNDLED, name, metrics=METRICS) for name in ("first", "second"))
    message = one_line(zoo_call("report", "measured", first, second), 2)
    assert message == (
        f"{second}: expected one record of each entry, found a second of {BUNDLED}, the first being {first}"
    )


@pytest.mark.parametrize(
    ("fields", "code", "expected"),
    [
        ({"entry": "no/such_entry"}, 2, "no entry 'no/such_entry'"),
        ({"metrics": None}, 3, "metrics: expected a mapping, found nothing"),
        (
            {"metrics": {"official": {"pq": "74.2"}}},
            3,
            "metrics.official.pq: expected a number, found '74.2'",
        ),
        ({"claims": {"pq": 1}}, 3, "claims: expected a list, found a mapping with pq"),
        ({"schema": 0}, 3, "run record of schema 0"),
    ],
)
def test_what_is_no_record_of_an_entry(
    zoo_call: Call,
    one_line: Call,
    write_record: WriteRecord,
    fields: dict[str, Any],
    code: int,
    expected: str,
) -> None:
    path = write_record(**{"entry": BUNDLED, "name": "run", **fields})
    assert expected in one_line(zoo_call("report", "measured", path), code)


def test_measured_as_latex(zoo_call: Call, write_record: WriteRecord) -> None:
    path = write_record(BUNDLED, metrics=METRICS, images=15)
    done = zoo_call("report", "measured", path, "--format", "latex")
    assert (done.returncode, done.stderr) == (0, "")
    name = BUNDLED.replace("_", r"\_")
    assert f"  \\caption{{Bundled entries. {name}: 15 of 30 images}}\n" in done.stdout
    cells = f"MobilenetV3-S ({name}) & 16 & 257 x 513 & 74.2 & 88.7 & 46.2 & 74.20 & 88.68 & 42.54"
    assert f"    \\midrule\n    {cells} \\\\\n" in done.stdout
    assert done.stdout.count("\\toprule") == done.stdout.count("\\end{tabular}") == len(ROWS) + 1


def test_latex_prints_every_character() -> None:
    text = latex_text(["[a]", "50 %"], [["*x_{1}", r"~\^<&#$>"]], "a|b")
    assert r"    {}[a] & 50 \% \\" in text.splitlines()
    assert r"\caption{a\textbar{}b}" in text
    special = r"\textasciitilde{}\textbackslash{}\textasciicircum{}\textless{}\&\#\$\textgreater{}"
    assert rf"    {{}}*x\_\{{1\}} & {special} \\" in text.splitlines()

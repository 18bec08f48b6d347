"""`zoo list` and `zoo show`: what they print, as a table and as JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.cli.entries import _LEFT_OUT_FIRST, _table, entries_columns
from zoo.registry import load_registry
from zoo.reports.tables.markdown_table import read_tables

NAME = "minicity/mobilenet_v3_small_os16"

Call = Callable[..., Any]


def test_list_has_a_row_for_each_entry(zoo_call: Call) -> None:
    done = zoo_call("list")
    header, *rows, left_out = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert left_out.startswith("Not shown in 200 characters: PQ stuff [server], PQ things [server]")
    assert header.split()[0] == "Name"
    assert [row.split()[0] for row in rows] == [entry.name for entry in load_registry().entries]
    (row,) = (row for row in rows if row.startswith("cityscapes/resnet50_os32 "))
    assert row.split()[-5:] == ["59.8", "76.0", "60.24", "76.36", "30.01"]
    assert "1025 x 2049" in row


def test_list_as_json_is_the_registry(zoo_call: Call) -> None:
    done = zoo_call("list", "--json")
    entries = json.loads(done.stdout)
    assert [entry["name"] for entry in entries] == [entry.name for entry in load_registry().entries]
    (entry,) = (entry for entry in entries if entry["name"] == "cityscapes/resnet50_os32")
    assert entry["evaluation"]["crop_size"] == [1025, 2049]
    assert {(claim["metric"], claim["evaluator"]): claim["value"] for claim in entry["published"]}[
        "miou", "official"
    ] == "76.0"


@pytest.mark.parametrize(
    ("filters", "keeps"),
    [
        (["coco/*"], lambda name: name.startswith("coco/")),
        (["minicity/*", "coco/*"], lambda name: name.split("/")[0] in ("minicity", "coco")),
        (["*_os16"], lambda name: name.endswith("_os16")),
        (["--dataset", "cityscapes"], lambda name: name.startswith("cityscapes/")),
        (["--backbone", "mobilenet_v3_*"], lambda name: "/mobilenet_v3_" in name),
        (
            ["cityscapes/*", "--backbone", "resnet50"],
            lambda name: name in ("cityscapes/resnet50_os32", "cityscapes/kmax_resnet50"),
        ),
    ],
)
def test_list_filters(zoo_call: Call, filters: list[str], keeps: Callable[[str], bool]) -> None:
    done = zoo_call("list", *filters, "--json")
    found = [entry["name"] for entry in json.loads(done.stdout)]
    assert found == [entry.name for entry in load_registry().entries if keeps(entry.name)]
    assert found


def test_list_as_csv_has_unrounded_sizes_and_numbers_as_printed(zoo_call: Call) -> None:
    done = zoo_call(
        "list", "--project", "panoptic_deeplab", "--dataset", "cityscapes", "--sort", "pq", "--format", "csv"
    )
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    best = load_registry().resolve("cityscapes/swidernet_sac_1_1_4.5_os16")
    assert (rows[0]["name"], rows[0]["multiply_adds"]) == (best.name, str(best.multiply_adds))
    (row,) = (row for row in rows if row["name"] == "cityscapes/resnet50_os32")
    assert (row["official_miou"], row["official_ap"], row["on_disk"]) == ("76.0", "", "")
    (backbone,) = csv.DictReader(
        io.StringIO(zoo_call("list", "imagenet/resnet50", "--backbones", "--format", "csv").stdout)
    )
    assert (backbone["title"], backbone["data"]) == ("ResNet-50", "ImageNet-1K")


def test_list_as_markdown_is_the_whole_table(zoo_call: Call) -> None:
    (table,) = read_tables(zoo_call("list", "--format", "markdown").stdout)
    entries = load_registry().entries
    assert [row.cells[0] for row in table.rows] == [entry.name for entry in entries]
    assert table.header.cells == tuple(entries_columns(entries))


def test_list_as_json_in_both_spellings(zoo_call: Call, one_line: Callable[..., str]) -> None:
    assert zoo_call("list", "--format", "json").stdout == zoo_call("list", "--json").stdout
    assert one_line(zoo_call("list", "--json", "--format", "csv"), 2).startswith(
        "--json: expected no --format"
    )


def shown(width: int | None) -> list[str]:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width or 400)
    console.print(_table(entries_columns(load_registry().entries), _LEFT_OUT_FIRST))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
def test_list_on_a_narrow_terminal_keeps_names_and_numbers_whole(width: int) -> None:
    everything, lines = shown(None), shown(width)
    notes = lines[len(everything) :]
    lines = lines[: len(everything)]
    left_out = [title for title in ("PQ [**]", "AP [**]", "Input", "Mult-adds") if title not in lines[0]]
    assert left_out
    assert notes[0].startswith(f"Not shown in {width} characters: ")
    assert all(title in " ".join(notes) for title in left_out)
    assert max(map(len, lines)) <= width
    columns = lines[0].split("  ")
    assert {"Name", "PQ [*]", "mIoU [*]"} <= {column.strip() for column in columns}
    for line, whole in zip(lines, everything, strict=True):
        assert "…" not in line
        assert line.split()[0] == whole.split()[0]


def test_show_has_everything_of_an_entry(zoo_call: Call) -> None:
    done = zoo_call("show", "resnet50_os32")
    assert done.returncode == 2, "a short name that fits two entries"
    done = zoo_call("show", "cityscapes/resnet50_os32")
    assert (done.returncode, done.stderr) == (0, "")
    for part in ("name: cityscapes/resnet50_os32", "crop_size", "'59.8'", "checkpoint:", "digest:"):
        assert part in done.stdout
    entry = load_registry().resolve("cityscapes/resnet50_os32")
    record = json.loads(zoo_call("show", entry.name, "--json").stdout)
    assert record["digest"] == entry.digest()
    assert record["checkpoint"]["url"] == entry.checkpoint.url


def test_show_knows_backbones(zoo_call: Call) -> None:
    done = zoo_call("show", "imagenet/resnet50_beta")
    assert (done.returncode, done.stderr) == (0, "")
    assert "resnet50_beta_imagenet1k" in done.stdout
    assert json.loads(zoo_call("show", "imagenet/resnet50_beta", "--json").stdout)["kind"] == "backbone"


def test_a_registry_of_the_user_is_listed(zoo_call: Call, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        f"entries:\n  mine/small:\n    extends: {NAME}\n    title: Mine\n    checkpoint: mine.tar.gz\n"
        "    published: {official: {pq: 50.0}, source: here}\n"
    )
    done = zoo_call("--registry", own, "list", "mine/*", "--json")
    (entry,) = json.loads(done.stdout)
    assert entry["checkpoint"]["url"] == (tmp_path / "mine.tar.gz").as_uri()
    assert json.loads(zoo_call("list", "mine/*", "--json", "--registry", own).stdout) == [entry]
    # It does not outlive its call.
    assert zoo_call("list", "mine/*").returncode == 2

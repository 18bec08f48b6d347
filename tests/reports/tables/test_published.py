from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import RegistryError, UsageError
from zoo.registry import Entry, Registry, load_registry
from zoo.reports.tables.markdown_table import read_tables
from zoo.reports.tables.published import (
    TO_ROOT,
    columns_of,
    entries_in,
    published_table,
    published_tables,
    source_line_of,
    tables_of,
    with_quirks,
)
from zoo.reports.tables.published_page import FILE, stale_files, write_generated

Call = Callable[..., Any]


def test_the_published_tables_byte_for_byte(
    registry: Registry,
    cityscapes_table: str,
    coco_table: str,
    axial_table: str,
    kmax_tables: dict[str, str],
) -> None:
    tables = [published_table(registry, *found) for found in tables_of(registry)]
    kmax = [kmax_tables[dataset] for dataset in ("cityscapes", "coco", "ade20k")]
    assert tables == [cityscapes_table, coco_table, axial_table, *kmax]


def test_the_command_prints_all_under_their_headings(
    zoo_call: Call, cityscapes_table: str, coco_table: str, axial_table: str, kmax_tables: dict[str, str]
) -> None:
    done = zoo_call("report", "published")
    assert (done.returncode, done.stderr) == (0, "")
    heading = "### Cityscapes Panoptic Segmentation"
    cityscapes = f"{heading}\n\n{cityscapes_table}"
    coco = f"### COCO Panoptic Segmentation\n\n{coco_table}"
    below = f"{heading} (axial_deeplab.md)\n\n{axial_table}"
    city = f"### Cityscapes Panoptic/Semantic/Instance Segmentation\n\n{kmax_tables['cityscapes']}"
    coco_again = f"### COCO Panoptic Segmentation (kmax_deeplab.md)\n\n{kmax_tables['coco']}"
    rooms = f"### ADE20K Panoptic Segmentation\n\n{kmax_tables['ade20k']}"
    assert done.stdout == "\n".join((cityscapes, coco, below, city, coco_again, rooms))
    kmax_coco = coco_again.replace(" (kmax_deeplab.md)", "")
    for options, sections in (
        (("--dataset", "cityscapes"), (cityscapes, below, city)),
        (("--dataset", "coco"), (coco, coco_again)),
        (("--dataset", "ade20k"), (rooms,)),
        (("--project", "kmax_deeplab"), (city, kmax_coco, rooms)),
        (("--project", "panoptic_deeplab"), (cityscapes, coco)),
        (("--project", "axial_deeplab"), (f"{heading}\n\n{axial_table}",)),
        (("--dataset", "cityscapes", "--project", "panoptic_deeplab"), (cityscapes,)),
    ):
        assert zoo_call("report", "published", *options).stdout == "\n".join(sections)


@pytest.mark.parametrize("name", ["minicity", "mars"])
def test_a_data_set_without_a_published_table(zoo_call: Call, one_line: Call, name: str) -> None:
    message = one_line(zoo_call("report", "published", "--dataset", name), 2)
    assert "cityscapes or coco or ade20k" in message


def test_a_project_without_a_published_table(zoo_call: Call, one_line: Call) -> None:
    message = one_line(zoo_call("report", "published", "--project", "vip_deeplab"), 2)
    assert "expected one with a published table: panoptic_deeplab or axial_deeplab or kmax_deeplab" in message
    message = one_line(zoo_call("report", "published", "--project", "axial_deeplab", "--dataset", "coco"), 2)
    assert "expected both of one table" in message


def test_rows_of_later_editions_and_bundled_entries_are_none(registry: Registry) -> None:
    names = [entry.name for found in tables_of(registry) for entry in entries_in(registry, *found)]
    assert len(names) == len(set(names)) == 17 + 17
    assert "cityscapes/mobilenet_v3_small_os32" in names
    assert "cityscapes/mobilenet_v3_small_os16" not in names
    assert not any(name.startswith("mini") for name in names)


def test_rows_stand_in_the_order_of_their_lines(registry: Registry) -> None:
    shuffled = Registry(registry.entries[::-1], registry.backbones, registry.datasets)
    assert published_tables(shuffled) == published_tables(registry)
    (place, *_) = (source_line_of(entry) for entry in registry.entries)
    assert place is not None
    assert (place.file, place.edition, place.line) == ("panoptic_deeplab.md", "", 70)


def changed(registry: Registry, name: str, **fields: Any) -> Registry:
    def change(entry: Entry) -> Entry:
        return entry.model_copy(update=fields) if entry.name == name else entry

    return Registry(tuple(map(change, registry.entries)), registry.backbones, registry.datasets)


def test_widths_follow_the_widest_cell(registry: Registry, coco_table: str) -> None:
    longer = changed(
        registry, "coco/resnet50_os16", title="ResNet-50 with a title of sixty-seven characters, so to say"
    )
    (dataset, table) = tables_of(registry, "coco")[0]
    lines = published_table(longer, dataset, table).splitlines()
    (found,) = read_tables("\n".join(lines))
    widest = max(len(row.cells[0]) for row in found.rows)
    assert widest > len(coco_table.splitlines()[1].partition(" | ")[0])
    assert all(line.index(" | ") == widest for line in lines)
    # Nothing else has moved.
    bars = [line[widest:] for line in lines]
    before = [line[line.index(" | ", 100) :] for line in coco_table.splitlines()]
    assert bars == before


def test_columns_follow_the_numbers(registry: Registry) -> None:
    titles = {
        dataset.name: [column.title for column in columns_of(entries_in(registry, dataset, table)).numbers]
        for dataset, table in tables_of(registry, project="panoptic_deeplab")
    }
    assert titles["coco"] == ["PQ [*]", "PQ [**]", "mIoU [**]", "AP<sup>Mask</sup> [**]"]
    assert titles["cityscapes"] == ["PQ [*]", "mIoU [*]", *titles["coco"][1:]]


# ---- quirks ----


def test_without_quirks_the_tables_are_regular(registry: Registry, cityscapes_table: str) -> None:
    regular = changed(registry, "cityscapes/swidernet_sac_1_1_3_os16", quirks=())
    text = published_table(regular, *tables_of(registry, "cityscapes")[0])
    assert text == cityscapes_table.replace("trainfine.tar.gz)))      |", "trainfine.tar.gz))       |")
    assert text != cityscapes_table


@pytest.mark.parametrize("entry", load_registry().entries, ids=lambda entry: entry.name)
def test_files_are_named_by_the_rule_but_for_recorded_quirks(registry: Registry, entry: Entry) -> None:
    tables = registry.dataset(entry.dataset).tables
    table = next((table for table in tables if table.project == entry.project), None)
    if table is None:
        assert entry.config is None
        assert entry.quirks == ()
        return
    for place, pattern, file in (
        ("config", table.config_pattern, entry.config),
        ("checkpoint", table.checkpoint_pattern, entry.checkpoint.url),
    ):
        regular = table.regular(pattern, entry.short_name)
        assert with_quirks(entry, place, regular) == file
        assert (regular == file) == (not any(quirk.place == place for quirk in entry.quirks))


def test_a_quirk_of_something_that_is_not_there_is_an_error(registry: Registry) -> None:
    entry = registry.resolve("coco/resnet50_os32")
    with pytest.raises(RegistryError, match=r"coco/resnet50_os32: quirks: expected a part of 'a\.zip'"):
        with_quirks(entry, "checkpoint", "a.zip")


def test_quirks_change_nothing_that_is_measured(registry: Registry) -> None:
    entry = registry.resolve("cityscapes/swidernet_sac_1_1_3_os16")
    assert entry.quirks
    assert entry.model_copy(update={"quirks": ()}).digest() == entry.digest()
    assert entry.model_copy(update={"title": "another"}).digest() != entry.digest()


def load(tmp_path: Path, text: str) -> Registry:
    path = tmp_path / "own.yaml"
    path.write_text(f"entries:\n  mine/model:\n    title: Mine\n    checkpoint: a.tar.gz\n{text}")
    return load_registry([path])


def test_quirks_are_the_rows_own(tmp_path: Path) -> None:
    registry = load(tmp_path, "    extends: cityscapes/swidernet_sac_1_1_3_os16\n")
    assert registry.resolve("mine/model").quirks == ()
    assert "Mine" not in published_tables(registry)


@pytest.mark.parametrize(
    ("quirk", "expected"),
    [
        ("{place: links, regular: a, printed: b}", "quirks.0.note: expected a value, found none"),
        ("{place: title, regular: a, printed: b, note: c}", "quirks.0.place: expected 'links', 'config' or"),
        ("{place: links, regular: a, printed: b, note: c, why: d}", "found 'why'"),
    ],
)
def test_quirks_follow_the_schema(tmp_path: Path, quirk: str, expected: str) -> None:
    with pytest.raises(RegistryError) as caught:
        load(tmp_path, f"    extends: coco/resnet50_os32\n    quirks: [{quirk}]\n")
    assert expected in str(caught.value)
    assert "own.yaml:6" in str(caught.value)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("config_pattern: configs/x.textproto", "table.config_pattern: expected text that matches"),
        (
            "columns: {PQ: official.rq}",
            "table.columns.PQ: expected output_stride, input_resolution, or a number",
        ),
        ("columns: {PQ: mars.pq}", "found 'mars.pq'"),
        ("quirks: [{column: PQ, extra_width: 1, note: a}]", "table.quirks.0.column: expected 'Backbone'"),
        ("quirks: [{column: Backbone, extra_width: 0, note: a}]", "table.quirks.0.extra_width: expected"),
        ("widths: [1]", "found 'widths'"),
    ],
)
def test_tables_follow_the_schema(tmp_path: Path, line: str, expected: str) -> None:
    key = line.partition(":")[0]
    table = {
        "heading": "heading: H",
        "source": "source: s.md",
        "config_pattern": 'config_pattern: "c/{model}"',
        "checkpoint_pattern": 'checkpoint_pattern: "https://h/{model}.tar.gz"',
        key: line,
    }
    path = tmp_path / "own.yaml"
    body = "".join(f"      {value}\n" for value in table.values())
    path.write_text(
        f"datasets:\n  mine:\n    title: M\n    format: coco\n    split: v\n    images: 1\n    table:\n{body}"
    )
    with pytest.raises(RegistryError) as caught:
        load_registry([path])
    assert expected in str(caught.value)


def test_a_published_number_keeps_its_zeros(registry: Registry) -> None:
    (number,) = (
        claim.value
        for claim in registry.resolve("coco/resnet50_os32").published
        if (claim.evaluator, claim.metric) == ("internal", "pq")
    )
    assert number == Decimal("34.6")
    assert "34.60 " in published_tables(registry, "coco")


# ---- generated files ----


def test_generated_files_are_written_and_checked(zoo_call: Call, tmp_path: Path, registry: Registry) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    write = ("report", "write", "--folder", folder)
    done = zoo_call(*write, "--check")
    assert (done.returncode, done.stdout) == (1, "")
    assert list(folder.iterdir()) == []

    done = zoo_call(*write)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{folder / 'published.md'}: written\n"
    assert {path.name for path in folder.iterdir()} == {FILE}
    assert published_tables(registry) in (folder / "published.md").read_text(encoding="utf-8")
    done = zoo_call(*write, "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert zoo_call(*write).stdout == "", "nothing to write again"


@pytest.mark.parametrize(
    "edit", [lambda text: text.replace("59.8 ", "59.9 "), lambda text: text[:-1], str.upper]
)
def test_a_stale_file_is_one_line_and_exit_code_1(
    zoo_call: Call, tmp_path: Path, registry: Registry, edit: Callable[[str], str]
) -> None:
    (path,) = write_generated(registry, tmp_path)
    stale = edit(path.read_text(encoding="utf-8"))
    path.write_text(stale, encoding="utf-8")
    done = zoo_call("report", "write", "--check", "--folder", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"zoo: {path}: not as generated from the registry; run `zoo report write`\n"
    assert path.read_text(encoding="utf-8") == stale
    assert stale_files(registry, tmp_path) == [path]
    assert zoo_call("report", "write", "--folder", tmp_path).returncode == 0
    assert stale_files(registry, tmp_path) == []


def test_outside_a_checkout_nothing_is_checked_or_written(zoo_call: Call, one_line: Call) -> None:
    for words in (["--check"], []):
        message = one_line(zoo_call("report", "write", *words), 3)
        assert "reports: expected the folder of the generated tables, found none" in message


# ---- what it loads ----

LOADED = """
import contextlib, io, sys
import zoo.cli
sys.argv = ["zoo", *{words}]
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    zoo.cli.main()
heavy = ("tensorflow", "keras", "numba", "numpy", "pandas", "requests", "pycocotools")
print([name for name in heavy if name in sys.modules])
"""


@pytest.mark.parametrize("command", ["published", "measured", "write", "lint", "diff"])
def test_reports_load_nothing_heavy(
    command: str, zoo_environment: dict[str, str], tmp_path: Path, write_record: Call, coco_table: str
) -> None:
    (tmp_path / "coco.md").write_text(coco_table)
    arguments = {
        "published": [],
        "measured": [str(write_record("coco/resnet50_os32"))],
        "write": ["--folder", str(tmp_path)],
        "lint": [str(tmp_path / "coco.md"), "--dataset", "coco"],
        "diff": [str(write_record("coco/resnet50_os32"))],
    }
    program = LOADED.format(words=["report", command, *arguments[command]])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=zoo_environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "[]\n")


def test_an_unknown_data_set_is_a_usage_error(registry: Registry) -> None:
    with pytest.raises(UsageError, match="expected one with a published table"):
        tables_of(registry, "minicity")
    assert TO_ROOT in published_tables(registry)

"""`zoo report lint`, on edited copies of the published tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import DataError
from zoo.registry import Registry
from zoo.reports.lint import LintReport, lint_file
from zoo.reports.published import published_tables

Call = Callable[..., Any]
Lint = Callable[..., LintReport]

SAC3 = "cityscapes/swidernet_sac_1_1_3_os16"
STORAGE = "https://storage.googleapis.com/gresearch/tf-deeplab/checkpoint/"
# The lines on which the tables start in the text below.
CITYSCAPES, COCO = 5, 20

QUIRKS = [
    (CITYSCAPES + 4, "cityscapes/resnet50_os32"),
    (CITYSCAPES + 8, SAC3),
    (COCO + 2, "coco/resnet50_os32"),
    (COCO + 3, "coco/resnet50_beta_os32"),
    (COCO + 5, "coco/resnet50_beta_os16"),
]


@pytest.fixture
def text(cityscapes_table: str, coco_table: str) -> str:
    return (
        "# Panoptic-DeepLab\n\n### Cityscapes Panoptic Segmentation\n\n"
        f"{cityscapes_table}\n[*]: official\n\n"
        f"### COCO Panoptic Segmentation\n\n{coco_table}\nThe | end.\n"
    )


@pytest.fixture
def lint(registry: Registry, tmp_path: Path) -> Lint:
    def run(text: str, dataset: str | None = None) -> LintReport:
        path = tmp_path / "tables.md"
        path.write_text(text, encoding="utf-8")
        return lint_file(path, registry, dataset)

    return run


def faults(report: LintReport) -> list[tuple[int, str, str, str]]:
    return [
        (found.line, found.what, found.expected, found.found) for found in report.findings if not found.known
    ]


def edited(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the text"
    return text.replace(old, new)


def test_the_published_tables_have_nothing_but_their_quirks(lint: Lint, text: str) -> None:
    report = lint(text)
    assert report.ok
    assert all(finding.known for finding in report.findings)
    assert [(f.line, [name for _, name in QUIRKS if name in f.what]) for f in report.findings] == [
        (line, [name]) for line, name in QUIRKS
    ]
    expected = {finding.what.split(",")[0]: (finding.expected, finding.found) for finding in report.findings}
    assert expected["checkpoint link of coco/resnet50_beta_os16"] == (
        "resnet50_beta_os16_panoptic_deeplab_coco_train.tar.gz",
        "resnet50beta_os16_panoptic_deeplab_coco_train.tar.gz",
    )


def test_what_is_generated_has_nothing_but_its_quirks(lint: Lint, registry: Registry) -> None:
    assert len(lint(published_tables(registry)).findings) == len(QUIRKS)


def test_layout_is_no_difference(lint: Lint, text: str) -> None:
    """The same cells, with bars at both ends and no padding."""
    lines = [
        f"|{'|'.join(cell.strip() for cell in line.split(' | '))}|" if " | " in line else line
        for line in text.splitlines()
    ]
    assert lint("\n".join(lines)).ok


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("| 66.6 ", "| 66.7 ", (CITYSCAPES + 8, f"PQ [*] of {SAC3}", "66.6", "66.7")),
        (
            "| 36.80\n",
            "| 36.8\n",
            (
                CITYSCAPES + 7,
                "AP<sup>Mask</sup> [**] of cityscapes/swidernet_sac_1_1_1_os16",
                "36.80",
                "36.8 (the same value with other decimals)",
            ),
        ),
        (
            "| 69.8 ",
            "| 69.80 ",
            (
                CITYSCAPES + 2,
                "mIoU [**] of cityscapes/mobilenet_v3_small_os32",
                "69.8",
                "69.80 (the same value with other decimals)",
            ),
        ),
        ("| 54.75 ", "| n/a ", (COCO + 2, "mIoU [**] of coco/resnet50_os32", "54.75", "'n/a', no number")),
        ("| 54.75 ", "| ", (COCO + 2, "mIoU [**] of coco/resnet50_os32", "54.75", "none")),
        (
            "[config](../../configs/coco/panoptic_deeplab/resnet50_beta_os16.textproto)",
            "[config](../../configs/coco/panoptic_deeplab/resnet50_beta_os32.textproto)",
            (
                COCO + 5,
                "config link of coco/resnet50_beta_os16",
                "../../configs/coco/panoptic_deeplab/resnet50_beta_os16.textproto",
                "../../configs/coco/panoptic_deeplab/resnet50_beta_os32.textproto",
            ),
        ),
        (
            "../../configs/coco/panoptic_deeplab/resnet50_os16.",
            "../configs/coco/panoptic_deeplab/resnet50_os16.",
            (
                COCO + 4,
                "config link of coco/resnet50_os16",
                "../../configs/coco/panoptic_deeplab/resnet50_os16.textproto",
                "../configs/coco/panoptic_deeplab/resnet50_os16.textproto "
                "(not under ../../configs/coco/panoptic_deeplab/)",
            ),
        ),
        (
            f"{STORAGE}resnet50_os16_panoptic_deeplab_coco_train.tar.gz",
            f"{STORAGE.replace('https', 'http')}resnet50_os16_panoptic_deeplab_coco_train.tar.gz",
            (
                COCO + 4,
                "checkpoint link of coco/resnet50_os16",
                f"{STORAGE}resnet50_os16_panoptic_deeplab_coco_train.tar.gz",
                f"{STORAGE.replace('https', 'http')}resnet50_os16_panoptic_deeplab_coco_train.tar.gz "
                f"(not under {STORAGE})",
            ),
        ),
        (
            "/resnet50beta_os16_",
            "/resnet50_beta_os16_",
            (
                COCO + 5,
                "checkpoint link of coco/resnet50_beta_os16",
                f"{STORAGE}resnet50beta_os16_panoptic_deeplab_coco_train.tar.gz",
                f"{STORAGE}resnet50_beta_os16_panoptic_deeplab_coco_train.tar.gz"
                " (differs in underscores only)",
            ),
        ),
        (
            f"[ckpt]({STORAGE}wide_resnet41_os16_panoptic_deeplab_cityscapes_trainfine.tar.gz)",
            "[ckpt]()",
            (
                CITYSCAPES + 6,
                "checkpoint link of cityscapes/wide_resnet41_os16",
                f"{STORAGE}wide_resnet41_os16_panoptic_deeplab_cityscapes_trainfine.tar.gz",
                "none",
            ),
        ),
        (
            "wide_resnet41_os16_panoptic_deeplab_cityscapes_trainfine.tar.gz)) ",
            "wide_resnet41_os16_panoptic_deeplab_cityscapes_trainfine.tar.gz)",
            (
                CITYSCAPES + 6,
                "links of cityscapes/wide_resnet41_os16",
                "balanced parentheses, 3 opening and 3 closing",
                "3 opening and 2 closing",
            ),
        ),
        (
            "cityscapes_trainfine.tar.gz))) ",
            "cityscapes_trainfine.tar.gz)))) ",
            (
                CITYSCAPES + 8,
                f"links of {SAC3}",
                "balanced parentheses, 3 opening and 3 closing",
                "3 opening and 5 closing",
            ),
        ),
        (
            "wide_resnet41_os16.textproto), [ckpt]",
            "wide_resnet41_os16.textproto) [ckpt]",
            (
                CITYSCAPES + 6,
                "links of cityscapes/wide_resnet41_os16",
                "([config](../../configs/cityscapes/panoptic_deeplab/wide_resnet41_os16.textproto), "
                f"[ckpt]({STORAGE}wide_resnet41_os16_panoptic_deeplab_cityscapes_trainfine.tar.gz))",
                "([config](../../configs/cityscapes/panoptic_deeplab/wide_resnet41_os16.textproto) "
                f"[ckpt]({STORAGE}wide_resnet41_os16_panoptic_deeplab_cityscapes_trainfine.tar.gz))",
            ),
        ),
        (
            "Wide-ResNet-41 (",
            "Wide-ResNet-38 (",
            (CITYSCAPES + 6, "title of cityscapes/wide_resnet41_os16", "Wide-ResNet-41", "Wide-ResNet-38"),
        ),
        ("| 66.6   | 82.1     |", "| 66.6   |", (CITYSCAPES + 8, f"row of {SAC3}", "8 cells", "7")),
    ],
)
def test_one_edit_is_one_line(
    lint: Lint, text: str, old: str, new: str, fault: tuple[int, str, str, str]
) -> None:
    report = lint(edited(text, old, new))
    assert faults(report) == [fault]
    assert not report.ok


def test_stride_and_resolution_are_compared(lint: Lint, text: str) -> None:
    row = next(line for line in text.splitlines() if line.startswith("Wide-ResNet-41"))
    other = row.replace(" | 16   ", " | 32   ").replace("1025 x 2049", "1025 x 2048")
    assert faults(lint(edited(text, row, other))) == [
        (CITYSCAPES + 6, "Output stride of cityscapes/wide_resnet41_os16", "16", "32"),
        (CITYSCAPES + 6, "Input resolution of cityscapes/wide_resnet41_os16", "1025 x 2049", "1025 x 2048"),
    ]


def test_a_quirk_that_is_gone_is_known(lint: Lint, text: str) -> None:
    report = lint(edited(text, "cityscapes_trainfine.tar.gz))) ", "cityscapes_trainfine.tar.gz)) "))
    assert report.ok
    (found,) = (found for found in report.findings if SAC3 in found.what)
    assert (found.expected, found.found) == (
        "upstream's quirk, 3 opening and 4 closing",
        "3 opening and 3 closing",
    )


# ---- rows ----


def row_of(text: str, part: str) -> str:
    (line,) = (line for line in text.splitlines() if part in line)
    return f"{line}\n"


def test_a_dropped_row(lint: Lint, text: str) -> None:
    report = lint(edited(text, row_of(text, "/swidernet_sac_1_1_1_os16.textproto"), ""))
    assert faults(report) == [(CITYSCAPES, "row of cityscapes/swidernet_sac_1_1_1_os16", "one", "none")]


@pytest.mark.parametrize(
    ("cell", "more"),
    [
        ("ResNet-101", [("row 'ResNet-101'", "no row that the registry lacks", "no links")]),
        (
            "ResNet-101 ([config](../../configs/coco/panoptic_deeplab/resnet101_os16.textproto), "
            f"[ckpt]({STORAGE}resnet101_os16_panoptic_deeplab_coco_train.tar.gz))",
            [
                (
                    "row 'ResNet-101'",
                    "no row that the registry lacks",
                    f"{STORAGE}resnet101_os16_panoptic_deeplab_coco_train.tar.gz",
                )
            ],
        ),
        (
            "ResNet-101 ([config](../../configs/coco/panoptic_deeplab/resnet_101_os16.textproto), "
            f"[ckpt]({STORAGE}resnet101_os16_panoptic_deeplab_coco_train.tar.gz)",
            [
                (
                    "row 'ResNet-101'",
                    "no row that the registry lacks",
                    f"{STORAGE}resnet101_os16_panoptic_deeplab_coco_train.tar.gz",
                ),
                (
                    "checkpoint link of 'ResNet-101'",
                    f"{STORAGE}resnet_101_os16_panoptic_deeplab_coco_train.tar.gz",
                    f"{STORAGE}resnet101_os16_panoptic_deeplab_coco_train.tar.gz"
                    " (differs in underscores only)",
                ),
                ("links of 'ResNet-101'", "balanced parentheses", "3 opening and 2 closing"),
            ],
        ),
        (
            "ResNet-101 ([config](configs/resnet101_os16.textproto), [ckpt](https://example.com/a.tar.gz))",
            [
                ("row 'ResNet-101'", "no row that the registry lacks", "https://example.com/a.tar.gz"),
                (
                    "config link of 'ResNet-101'",
                    "../../configs/coco/panoptic_deeplab/*.textproto",
                    "configs/resnet101_os16.textproto",
                ),
                (
                    "checkpoint link of 'ResNet-101'",
                    f"{STORAGE}*_panoptic_deeplab_coco_train.tar.gz",
                    "https://example.com/a.tar.gz",
                ),
            ],
        ),
    ],
    ids=["no links", "regular", "irregular", "elsewhere"],
)
def test_an_added_row(lint: Lint, text: str, cell: str, more: list[tuple[str, str, str]]) -> None:
    last = row_of(text, "coco/panoptic_deeplab/resnet50_beta_os16.textproto")
    report = lint(edited(text, last, f"{last}{cell} | 16 | 641 x 641 | 36.0 | 36.10 | 56.00 | 20.00\n"))
    assert faults(report) == [(COCO + 6, *found) for found in more]


def test_a_row_that_stands_twice(lint: Lint, text: str) -> None:
    row = row_of(text, "coco/panoptic_deeplab/resnet50_os32.textproto")
    assert faults(lint(edited(text, row, row * 2))) == [
        (COCO + 3, "row of coco/resnet50_os32", "one", "a second")
    ]


def test_rows_in_another_order(lint: Lint, text: str) -> None:
    first = row_of(text, "coco/panoptic_deeplab/resnet50_os32.textproto")
    second = row_of(text, "coco/panoptic_deeplab/resnet50_beta_os32.textproto")
    assert faults(lint(edited(text, first + second, second + first))) == [
        (COCO + 3, "row of coco/resnet50_os32", "it before coco/resnet50_beta_os32", "it after that")
    ]


def newer_rows(registry: Registry) -> list[str]:
    rows = []
    for size, numbers in (
        ("small", "48.4 | 69.5 | 48.67 | 69.85 | 17.32"),
        ("large", "55.3 | 74.5 | 55.51 | 74.77 | 24.06"),
    ):
        model = f"mobilenet_v3_{size}_os16"
        rows.append(
            f"MobilenetV3-{size[0].upper()} "
            f"([config](../../configs/cityscapes/panoptic_deeplab/{model}.textproto), "
            f"[ckpt]({STORAGE}{model}_panoptic_deeplab_cityscapes_dwo.tar.gz))"
            f" | 16 | 1025 x 2049 | {numbers}\n"
        )
    return rows


def test_rows_of_the_later_edition_are_known(lint: Lint, text: str, registry: Registry) -> None:
    newer = text
    for size, row in zip(("small", "large"), newer_rows(registry), strict=True):
        newer = edited(newer, row_of(text, f"mobilenet_v3_{size}_os32.textproto"), row)
    report = lint(newer)
    assert faults(report) == []
    replaced = [found for found in report.findings if "row of" in found.what]
    assert [(found.line, found.what, found.found) for found in replaced] == [
        (
            CITYSCAPES + 2 + number,
            f"row of cityscapes/mobilenet_v3_{size}_os32",
            f"cityscapes/mobilenet_v3_{size}_os16, as in panoptic_deeplab.md@main",
        )
        for number, size in enumerate(("small", "large"))
    ]
    assert faults(lint(edited(newer, "| 48.67 |", "| 46.92 |"))) == [
        (CITYSCAPES + 2, "PQ [**] of cityscapes/mobilenet_v3_small_os16", "48.67", "46.92")
    ]


def test_a_row_beside_the_one_that_it_replaced_is_an_added_row(
    lint: Lint, text: str, registry: Registry
) -> None:
    old = row_of(text, "mobilenet_v3_large_os32.textproto")
    assert faults(lint(edited(text, old, old + newer_rows(registry)[1]))) == [
        (
            CITYSCAPES + 4,
            "row of cityscapes/mobilenet_v3_large_os16",
            "none beside cityscapes/mobilenet_v3_large_os32, which it replaced in panoptic_deeplab.md@main",
            "both",
        )
    ]


# ---- columns and tables ----


def without_column(table: str, number: int) -> str:
    lines = [line.split(" | ") for line in table.splitlines()]
    return "".join(" | ".join(cells[:number] + cells[number + 1 :]).rstrip() + "\n" for cells in lines)


@pytest.mark.parametrize(
    ("number", "title"),
    [(0, "Backbone"), (1, "Output stride"), (3, "PQ [*]"), (6, "AP<sup>Mask</sup> [**]")],
)
def test_a_missing_column(lint: Lint, text: str, coco_table: str, number: int, title: str) -> None:
    report = lint(edited(text, coco_table, without_column(coco_table, number)))
    assert faults(report) == [(COCO, f"column {title!r}", "one", "none")]


def test_an_added_column(lint: Lint, text: str, coco_table: str) -> None:
    ends = ["mIoU [*]", ":---:", *["50.0"] * 4]
    wider = "".join(f"{line} | {end}\n" for line, end in zip(coco_table.splitlines(), ends, strict=True))
    assert faults(lint(edited(text, coco_table, wider))) == [
        (COCO, "column 'mIoU [*]'", "no such column", "one")
    ]


def test_columns_in_another_order(lint: Lint, text: str, coco_table: str) -> None:
    swapped = "".join(
        " | ".join([*cells[:3], cells[4], cells[3], *cells[5:]]) + "\n"
        for cells in (line.split(" | ") for line in coco_table.splitlines())
    )
    (fault,) = faults(lint(edited(text, coco_table, swapped)))
    assert fault[:2] == (COCO, "order of the columns")
    assert "PQ [**], PQ [*]" in fault[3]


def test_a_missing_table(lint: Lint, text: str, coco_table: str) -> None:
    less = edited(text, coco_table, "")
    assert faults(lint(less)) == [(1, "table 'COCO Panoptic Segmentation'", "one", "none")]
    assert lint(less, "cityscapes").ok
    with pytest.raises(DataError, match="like those of 'COCO Panoptic Segmentation'"):
        lint(less, "coco")


def test_a_second_table_of_a_data_set(lint: Lint, text: str, coco_table: str) -> None:
    twice = f"{text}\n{coco_table}"
    assert faults(lint(twice)) == [(COCO + 9, "table 'COCO Panoptic Segmentation'", "one", "a second")]


def test_a_table_of_another_data_set(lint: Lint, text: str) -> None:
    more = f"{text}\n## Mars\n\nBackbone | Output stride | PQ [*]\n--- | --- | ---\nResNet-50 | 32 | 99.9\n"
    assert faults(lint(more)) == [
        (COCO + 11, "table", "one of cityscapes or coco", "one of neither, below 'Mars'")
    ]
    assert lint(more, "coco").ok


def test_other_tables_are_left_alone(lint: Lint, text: str) -> None:
    more = f"{text}\n## Speed\n\nBackbone | Seconds\n--- | ---\nResNet-50 | 1.0\n"
    assert lint(more).ok


# ---- the command ----


def test_each_finding_is_a_line(zoo_call: Call, tmp_path: Path, text: str) -> None:
    path = tmp_path / "tables.md"
    path.write_text(text, encoding="utf-8")
    done = zoo_call("report", "lint", path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == len(QUIRKS)
    for line, (number, name) in zip(lines, QUIRKS, strict=True):
        assert line.startswith(f"{path}:{number}: known: ")
        assert name in line

    path.write_text(edited(text, "| 66.6 ", "| 66.7 "), encoding="utf-8")
    done = zoo_call("report", "lint", path)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"{path}:{CITYSCAPES + 8}: PQ [*] of {SAC3}: expected 66.6, found 66.7" in done.stdout.splitlines()
    assert len(done.stdout.splitlines()) == len(QUIRKS) + 1
    coco = zoo_call("report", "lint", path, "--dataset", "coco")
    assert coco.returncode == 0
    assert len(coco.stdout.splitlines()) == 3


def test_json_keeps_what_is_known_apart(zoo_call: Call, tmp_path: Path, text: str) -> None:
    path = tmp_path / "tables.md"
    path.write_text(edited(text, "| 66.6 ", "| 66.7 "), encoding="utf-8")
    done = zoo_call("report", "lint", path, "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (1, "")
    assert (report["file"], report["ok"]) == (str(path), False)
    assert report["findings"] == [
        {
            "file": str(path),
            "line": CITYSCAPES + 8,
            "what": f"PQ [*] of {SAC3}",
            "expected": "66.6",
            "found": "66.7",
            "known": False,
        }
    ]
    assert [found["line"] for found in report["known"]] == [line for line, _ in QUIRKS]


def test_files_without_such_tables(zoo_call: Call, one_line: Call, tmp_path: Path) -> None:
    path = tmp_path / "tables.md"
    message = one_line(zoo_call("report", "lint", path), 3)
    assert message == f"{path}: cannot be read: No such file or directory; expected a Markdown file"
    assert "Is a directory" in one_line(zoo_call("report", "lint", tmp_path), 3)
    path.write_bytes(b"| A |\xff")
    assert "expected UTF-8 text" in one_line(zoo_call("report", "lint", path), 3)
    for text in ("", "No table.\n", "A | B\n--- | ---\n1 | 2\n"):
        path.write_text(text)
        assert "with a column Backbone, found none" in one_line(zoo_call("report", "lint", path), 3)

"""`zoo report lint` on rows, columns and tables that were dropped, added, replaced or moved."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from zoo.errors import DataError
from zoo.registry import Registry
from zoo.reports.lint.markdown_file import LintReport

Lint = Callable[..., LintReport]

STORAGE = "https://storage.googleapis.com/gresearch/tf-deeplab/checkpoint/"
# The lines on which the tables start in the page.
CITYSCAPES, COCO = 5, 20


def faults(report: LintReport) -> list[tuple[int, str, str, str]]:
    return [
        (found.line, found.what, found.expected, found.found) for found in report.findings if not found.known
    ]


def edited(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the text"
    return text.replace(old, new)


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

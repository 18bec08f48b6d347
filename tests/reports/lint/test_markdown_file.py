"""`zoo report lint`, on edited copies of the published tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.registry import Registry
from zoo.reports.lint.markdown_file import LintReport
from zoo.reports.tables.published import entries_in, published_tables, tables_of

Call = Callable[..., Any]
Lint = Callable[..., LintReport]

SAC3 = "cityscapes/swidernet_sac_1_1_3_os16"
STORAGE = "https://storage.googleapis.com/gresearch/tf-deeplab/checkpoint/"
# The lines on which the tables start in the page.
CITYSCAPES, COCO = 5, 20

QUIRKS = [
    (CITYSCAPES + 4, "cityscapes/resnet50_os32"),
    (CITYSCAPES + 8, SAC3),
    (COCO + 2, "coco/resnet50_os32"),
    (COCO + 3, "coco/resnet50_beta_os32"),
    (COCO + 5, "coco/resnet50_beta_os16"),
]


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


def test_a_page_is_compared_with_the_tables_of_its_project(lint: Lint, axial_table: str) -> None:
    page = f"#### Cityscapes Panoptic Segmentation\n\n{axial_table}"
    assert lint(page).findings == ()
    assert faults(lint(edited(page, "| 66.63 ", "| 66.36 "))) == [
        (5, "PQ [**] of cityscapes/axial_swidernet_1_1_1_os16", "66.63", "66.36")
    ]


def test_what_is_generated_has_nothing_but_its_quirks(lint: Lint, registry: Registry) -> None:
    findings = lint(published_tables(registry)).findings
    entries = [entry for known in tables_of(registry) for entry in entries_in(registry, *known)]
    assert len(findings) == sum(len(entry.quirks) for entry in entries) > len(QUIRKS)
    assert all(finding.known for finding in findings)


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
        ("| 54.75 ", "| n/a ", (COCO + 2, "mIoU [**] of coco/resnet50_os32", "54.75", "'n/a', not a number")),
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

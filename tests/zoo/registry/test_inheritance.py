"""What an entry takes over from another that it extends, and all problems of files at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import RegistryError
from zoo.registry import Entry, load_registry

Call = Callable[..., Any]
BASE = "cityscapes/mobilenet_v3_small_os32"

# What the heir writes -> what it does not take over then.
SIZES = {"config", "parameters", "multiply_adds"}
OF_THE_CHECKPOINT = SIZES | {"saved_model", "training"}
CHANGES = {
    "note: the same under a name of my own": set(),
    "title: Mine": set(),
    "dataset: minicity": set(),
    "checkpoint: mine.tar.gz": OF_THE_CHECKPOINT,
    "network: {batch_norm: {epsilon: 1e-4}}": SIZES,
    "evaluation: {nms_kernel: 5}": SIZES,
}


def _load(folder: Path, text: str, name: str = "mine.yaml") -> dict[str, Entry]:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return {entry.name: entry for entry in load_registry([file]).entries}


def _with_all(base: Entry) -> str:
    """An entry that declares everything that can be inherited; its base has no SavedModel."""
    return (
        f"entries:\n  mine/base:\n    extends: {base.name}\n    checkpoint: base.tar.gz\n    title: Base\n"
        "    saved_model: base_saved_model.tar.gz\n    config: configs/base.textproto\n"
        "    parameters: 17\n    multiply_adds: 18\n"
        "    training: {steps: 1, batch_size: 2, base_learning_rate: 0.5}\n    note: of the base\n"
        "    published: {source: mine, official: {pq: 50.0}}\n"
        "    related: [{title: other, note: beside it}]\n"
        "    quirks: [{place: links, regular: a, printed: b, note: c}]\n"
    )


@pytest.mark.parametrize("change", CHANGES)
def test_an_heir_takes_over_what_its_change_leaves_true(change: str, tmp_path: Path) -> None:
    own = f"  mine/heir:\n    extends: mine/base\n    {change}\n"
    entries = _load(tmp_path, _with_all(load_registry().resolve(BASE)) + own)
    base, heir = entries["mine/base"], entries["mine/heir"]
    inherited = {"title", "checkpoint", "dataset", *OF_THE_CHECKPOINT} - {change.partition(":")[0]}
    for key in inherited:
        assert getattr(base, key) is not None
        assert getattr(heir, key) == (None if key in CHANGES[change] else getattr(base, key)), key
    assert (heir.published, heir.related, heir.quirks) == ((), (), ())
    assert heir.note == ("the same under a name of my own" if "note" in change else None)


def test_an_heir_may_say_again_what_it_does_not_take_over(tmp_path: Path) -> None:
    own = "  mine/heir:\n    extends: mine/base\n    checkpoint: mine.tar.gz\n    parameters: 17\n"
    own += "  mine/heirs_heir:\n    extends: mine/heir\n"
    entries = _load(tmp_path, _with_all(load_registry().resolve(BASE)) + own)
    heirs_heir = entries["mine/heirs_heir"]
    assert heirs_heir.checkpoint.url == (tmp_path / "mine.tar.gz").as_uri()
    assert (heirs_heir.parameters, heirs_heir.saved_model, heirs_heir.training) == (17, None, None)


def test_of_two_entries_the_second_brings_its_own_files_alone(tmp_path: Path) -> None:
    second = f"  mine/second:\n    extends: {BASE}\n    checkpoint: second.tar.gz\n"
    own = second + "  mine/heir:\n    extends: [mine/base, mine/second]\n"
    entries = _load(tmp_path, _with_all(load_registry().resolve(BASE)) + own)
    assert entries["mine/heir"].checkpoint == entries["mine/second"].checkpoint
    assert entries["mine/heir"].saved_model is None


PROBLEMS = """\
datasets:
  village: {title: My village, format: voc, split: test, images: none}
templates:
  wrong: {network: {backbone: {output_stride: 12}}}
entries:
  mine/a:
    extends: [cityscapes, resnet50, os32, wrong]
    titel: A
    checkpoint: a.tar.gz
  mine/b:
    extends: [cityscapes, resnet50, os32, wrong]
    title: B
    checkpoint: b.tar.gz
    published: {source: me, official: {pq: 150.0, iou: 3}}
  mine/c: {extends: coco/resnet51_os32}
"""


def test_all_problems_are_told_each_once(
    zoo_call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RegistryError) as caught:
        _load(tmp_path, PROBLEMS)
    file = tmp_path / "mine.yaml"
    lines = str(caught.value).splitlines()
    starts = (
        "8: entries.mine/a.titel: expected one of the keys ",
        "4: templates.wrong.network.backbone.output_stride: expected 8, 16 or 32, found 12 (extended by",
        "6: entries.mine/a.title: expected a value, found none",
        "14: entries.mine/b.published.official.iou: expected one of the keys pq, pq_things, pq_stuff, "
        "miou, ap, found 'iou'",
        "14: entries.mine/b.published.official.pq: expected 100 or less, found 150.0",
        "15: entries.mine/c.extends: expected a template or an entry, found 'coco/resnet51_os32'",
        "2: datasets.village.images: expected an integer, found 'none'",
    )
    assert {start for start in starts if any(line.startswith(f"{file}:{start}") for line in lines)} == {
        *starts
    }
    assert sum("(did you mean 'title'?)" in line for line in lines) == 1
    assert len(lines) == len(starts), "the template's fault is told for the first entry alone"
    done = zoo_call("--registry", file, "list")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [f"zoo: error: {line}" for line in lines]


def test_faults_of_several_files_are_told_together(tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{name}.yaml" for name in "abc")
    first.write_text("entries: [1]\ntemplate: {}\n")
    second.write_text("entries:\n  plain: {}\n  a/b: 3\n")
    with pytest.raises(RegistryError) as caught:
        load_registry([first, second])
    places = [line.split(": expected")[0] for line in str(caught.value).splitlines()]
    assert places == [
        *(f"{first}:2: template", f"{first}:1: entries"),
        *(f"{second}:2: entries.plain", f"{second}:3: entries.a/b"),
    ]
    third.write_text("a: [")
    with pytest.raises(RegistryError) as caught:
        load_registry([third, tmp_path / "none.yaml"])
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [
        str(third),
        str(tmp_path / "none.yaml"),
    ]

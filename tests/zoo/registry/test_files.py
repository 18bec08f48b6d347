"""Registries of the user's own: what they may add, and how a fault in them is reported."""

import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from zoo.errors import RegistryError
from zoo.registry import load_registry

MINE = """\
datasets:
  village:
    title: My village
    format: cityscapes
    split: test
    images: 12
templates:
  village:
    extends: cityscapes
    dataset: village
entries:
  mine/resnet50_beta_os32:
    extends: [village, resnet50_beta, os32]
    title: My ResNet-50-Beta
    checkpoint: ./run 7/model.tar.gz
"""


@pytest.fixture(autouse=True)
def _no_registry_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZOO_REGISTRY", raising=False)


def _write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def _error(file: Path) -> str:
    with pytest.raises(RegistryError) as caught:
        load_registry([file])
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_file_adds_entries_datasets_and_templates(tmp_path: Path) -> None:
    registry = load_registry([_write(tmp_path, MINE)])
    entry = registry.resolve("mine/resnet50_beta")
    assert entry.network == registry.resolve("cityscapes/resnet50_beta_os32").network
    assert entry.dataset == "village"
    assert registry.dataset("village").images == 12
    assert entry.published == ()
    assert [e.name for e in registry.entries][-1] == entry.name
    assert len(registry.entries) == len(load_registry().entries) + 1


def test_local_paths_start_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absolute = tmp_path / "elsewhere" / "m.tar.gz"
    text = MINE + f"    saved_model: {{url: {absolute}}}\n    related:\n"
    text += "      - {title: other, note: a test, checkpoint: other.tar.gz}\n"
    text += "  mine/far_os32:\n    extends: mine/resnet50_beta_os32\n    title: far\n"
    text += "    checkpoint: https://example.org/a.tar.gz\n"
    (tmp_path / "sub").mkdir()
    file = _write(tmp_path / "sub", text)
    monkeypatch.chdir(tmp_path)
    registry = load_registry([file.relative_to(tmp_path)])
    entry = registry.resolve("mine/resnet50_beta_os32")
    assert entry.checkpoint.url == (tmp_path / "sub" / "run 7" / "model.tar.gz").as_uri()
    assert "%20" in entry.checkpoint.url
    assert entry.saved_model is not None
    assert entry.saved_model.url == absolute.as_uri()
    assert entry.related[0].checkpoint is not None
    assert entry.related[0].checkpoint.url == (tmp_path / "sub" / "other.tar.gz").as_uri()
    assert registry.resolve("mine/far_os32").checkpoint.url == "https://example.org/a.tar.gz"


def test_environment_comes_before_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _write(tmp_path, MINE, "first.yaml")
    second = "entries:\n  mine/b_os32: {extends: mine/resnet50_beta_os32, title: B, checkpoint: b.tar.gz}\n"
    third = "entries:\n  mine/c_os32: {extends: mine/b_os32, title: C, checkpoint: c.tar.gz}\n"
    listed = [str(first), "", str(_write(tmp_path, second, "second.yaml"))]
    monkeypatch.setenv("ZOO_REGISTRY", os.pathsep.join(listed))
    registry = load_registry([_write(tmp_path, third, "third.yaml"), first])
    assert [entry.name for entry in registry.entries][-3:] == [
        "mine/resnet50_beta_os32",
        "mine/b_os32",
        "mine/c_os32",
    ]


def test_an_entry_that_extends_an_entry_takes_settings_but_no_claims(tmp_path: Path) -> None:
    text = """\
entries:
  mine/wide_resnet41_os16:
    extends: cityscapes/wide_resnet41_os16
    title: My training
    checkpoint: a.tar.gz
    network: {batch_norm: {epsilon: 1e-5}}
    published: {internal: {pq: 64.10}, source: my notebook}
"""
    registry = load_registry([_write(tmp_path, text)])
    base = registry.resolve("cityscapes/wide_resnet41_os16")
    mine = registry.resolve("mine/wide_resnet41_os16")
    assert mine.network.backbone == base.network.backbone
    assert mine.evaluation == base.evaluation
    assert mine.network.batch_norm.epsilon == 1e-5
    assert mine.network.batch_norm.momentum == base.network.batch_norm.momentum
    assert (mine.saved_model, mine.parameters, mine.config, mine.training) == (None, None, None, None)
    (claim,) = mine.published
    assert (str(claim.value), claim.tolerance) == ("64.10", Decimal("0.2"))


def test_later_layers_win_and_lists_are_replaced(tmp_path: Path) -> None:
    text = """\
templates:
  wider_rates: {network: {semantic_decoder: {atrous_rates: [1, 2, 4]}}}
entries:
  mine/a_os16:
    extends: [coco, resnet50, os16, wider_rates]
    title: A
    checkpoint: a.tar.gz
    evaluation: {nms_kernel: 5}
"""
    entry = load_registry([_write(tmp_path, text)]).resolve("mine/a_os16")
    assert entry.network.semantic_decoder.atrous_rates == (1, 2, 4)
    assert entry.network.instance_decoder.atrous_rates == (6, 12, 18)
    assert (entry.evaluation.nms_kernel, entry.evaluation.stuff_area_limit) == (5, 4096)


# Each fault: what to replace in MINE, by what, and the message after the file's path.
FAULTS = {
    "missing key": (
        "    checkpoint: ./run 7/model.tar.gz\n",
        "",
        r":12: entries\.mine/resnet50_beta_os32\.checkpoint: expected a value, found none",
    ),
    "wrong type": (
        "    images: 12",
        "    images: twelve",
        r":6: datasets\.village\.images: expected an integer, found 'twelve'",
    ),
    "a boolean is no number": (
        "    images: 12",
        "    images: true",
        r":6: datasets\.village\.images: expected an integer, found true",
    ),
    "fraction instead of an integer": (
        "    images: 12",
        "    images: 12.5",
        r":6: datasets\.village\.images: expected an integer, found 12\.5",
    ),
    "wrong choice": (
        "    format: cityscapes",
        "    format: voc",
        r":4: datasets\.village\.format: expected 'cityscapes' or 'coco' or 'ade20k', found 'voc'",
    ),
    "unknown data set": (
        "    dataset: village",
        "    dataset: vilage",
        r":10: templates\.village\.dataset: "
        r"expected one of the data sets cityscapes, coco, ade20k, minicity, minicoco, village, "
        r"found 'vilage' \(did you mean 'village'\?\) \(extended by entries\.mine/resnet50_beta_os32\)",
    ),
    "unknown template": (
        "resnet50_beta, os32]",
        "resnet50_bet, os32]",
        r":13: entries\.mine/resnet50_beta_os32\.extends: expected a template or an entry, "
        r"found 'resnet50_bet' \(did you mean 'resnet50_beta'\?\)",
    ),
    "circle": (
        "    extends: cityscapes",
        "    extends: village",
        r":9: templates\.village\.extends: entries extend each other in a cycle: "
        r"mine/resnet50_beta_os32 -> village -> village",
    ),
    "duplicate key": (
        "    dataset: village\n",
        "    dataset: village\n    dataset: coco\n",
        r":11: .*the key 'dataset' appears twice in one mapping, first on line 10",
    ),
    "bad syntax": (
        "    split: test",
        "    split: [test",
        r":6: expected YAML, found a fault: .*",
    ),
    "unknown section": (
        "templates:",
        "template:",
        r":7: template: expected one of the keys .*, found 'template' \(did you mean 'templates'\?\)",
    ),
    "name without a group": (
        "  mine/resnet50_beta_os32:",
        "  resnet50_beta_os32:",
        r":12: entries\.resnet50_beta_os32: expected a name like .*, found 'resnet50_beta_os32'",
    ),
    "unsupported address": (
        "./run 7/model.tar.gz",
        "ftp://example.org/a.tar.gz",
        r":15: entries\.mine/resnet50_beta_os32\.checkpoint\.url: "
        r"expected a URL that starts with https, http, gs, s3, file or package, and names a file, "
        r"found 'ftp://example\.org/a\.tar\.gz'",
    ),
    "an entry is no mapping": (
        MINE[MINE.index("    extends: [village") :],
        "    - a\n",
        r":12: entries\.mine/resnet50_beta_os32: expected a mapping, found \['a'\]",
    ),
    "redefinition": (
        "  mine/resnet50_beta_os32:",
        "  coco/resnet50_os32:",
        r":12: entries\.coco/resnet50_os32: expected a new name, "
        r"found one that is defined in zoo/registry\.yaml:\d+",
    ),
    "a backbone's name": (
        "  mine/resnet50_beta_os32:",
        "  imagenet/resnet50:",
        r":12: entries\.imagenet/resnet50: expected a new name, "
        r"found one that is defined in zoo/registry\.yaml:\d+",
    ),
    "redefined template": (
        "  village:\n    extends",
        "  coco:\n    extends",
        r":8: templates\.coco: expected a new name, found one that is defined in zoo/registry\.yaml:\d+",
    ),
    "end points of another backbone": (
        "    title: My R",
        "    network: {backbone: {low_level_endpoints: block_output}}\n    title: My R",
        r":14: entries\.mine/resnet50_beta_os32\.network\.backbone\.low_level_endpoints: "
        r"expected none for resnet50_beta, found block_output",
    ),
    "end points missing": (
        "resnet50_beta, os32]",
        "mobilenet_v3_small, os32]",
        r":12: entries\.mine/resnet50_beta_os32\.network\.backbone\.low_level_endpoints: "
        r"expected block_output or depthwise_output for mobilenet_v3_small, found none",
    ),
    "unknown metric": (
        "    title: My R",
        "    published: {source: me, official: {pq: 50.0, iou: 60}}\n    title: My R",
        r":14: entries\.mine/resnet50_beta_os32\.published\.official\.iou: "
        r"expected one of the keys pq, pq_things, pq_stuff, miou, ap, found 'iou'.*",
    ),
    "impossible percentage": (
        "    title: My R",
        "    published: {source: me, official: {pq: 150.0}}\n    title: My R",
        r":14: entries\.mine/resnet50_beta_os32\.published\.official\.pq: "
        r"expected 100 or less, found 150\.0",
    ),
    "two rates": (
        "    title: My R",
        "    network:\n      semantic_decoder:\n        atrous_rates: [3, 6]\n    title: My R",
        r":16: entries\.mine/resnet50_beta_os32\.network\.semantic_decoder\.atrous_rates\.2: "
        r"expected a value, found none",
    ),
    "a name inside": (
        "    title: My R",
        "    name: x\n    title: My R",
        r":14: entries\.mine/resnet50_beta_os32\.name: expected no such key, .*; found 'x'",
    ),
    "a later version": (
        "datasets:",
        "version: 2\ndatasets:",
        r":1: version: expected 1, found 2",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_one_line_with_file_line_key_expected_found(tmp_path: Path, fault: str) -> None:
    old, new, expected = FAULTS[fault]
    assert MINE.count(old) >= 1
    file = _write(tmp_path, MINE.replace(old, new, 1))
    assert re.fullmatch(re.escape(str(file)) + expected, _error(file))


def test_a_fault_in_a_template_is_reported_where_it_stands(tmp_path: Path) -> None:
    stride = "  os12: {network: {backbone: {output_stride: 12}}}\n"
    text = MINE.replace("templates:\n", "templates:\n" + stride).replace("os32]", "os32, os12]")
    file = _write(tmp_path, text)
    assert _error(file) == (
        f"{file}:8: templates.os12.network.backbone.output_stride: expected 8, 16 or 32, found 12 "
        "(extended by entries.mine/resnet50_beta_os32)"
    )


def test_a_redefinition_names_both_files(tmp_path: Path) -> None:
    first, second = _write(tmp_path, MINE, "a.yaml"), _write(tmp_path, MINE, "b.yaml")
    with pytest.raises(RegistryError) as caught:
        load_registry([first, second])
    places = {"datasets.village": 2, "templates.village": 8, "entries.mine/resnet50_beta_os32": 12}
    assert str(caught.value).splitlines() == [
        f"{second}:{line}: {key}: expected a new name, found one that is defined in {first}:{line}"
        for key, line in places.items()
    ]


@pytest.mark.parametrize(
    ("text", "found"), [("", "nothing"), ("[1, 2]", "[1, 2]"), ("registry", "'registry'")]
)
def test_files_that_hold_no_mapping(tmp_path: Path, text: str, found: str) -> None:
    file = _write(tmp_path, text)
    message = "expected a mapping with entries, datasets or templates, found "
    assert _error(file) == f"{file}:1: {message}{found}"


def test_an_alias_inside_its_own_anchor(tmp_path: Path) -> None:
    file = _write(tmp_path, "entries: &all {a/b: *all}\n")
    assert _error(file) == f"{file}:1: expected YAML, found an alias inside its own anchor"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    assert _error(missing) == (
        f"{missing}: expected a registry file, found none to read: No such file or directory"
    )
    (tmp_path / "latin.yaml").write_bytes(b"entries: {a/b: {title: caf\xe9}}")
    assert "expected UTF-8 text" in _error(tmp_path / "latin.yaml")
    (tmp_path / "zero.yaml").write_bytes(b"entries: \x00")
    assert "zero.yaml:1: expected YAML, found a fault" in _error(tmp_path / "zero.yaml")


def test_an_error_can_be_reported_without_the_c_parser(tmp_path: Path) -> None:
    script = (
        "import sys, yaml\n"
        "del yaml.CSafeLoader\n"
        "from zoo.registry import load_registry\n"
        "assert load_registry().resolve('coco/resnet50_os16').published[3].value.as_tuple().exponent == -2\n"
        "load_registry(sys.argv[1:])\n"
    )
    file = _write(tmp_path, MINE.replace("images: 12", "images: twelve"))
    done = subprocess.run(
        [sys.executable, "-c", script, file], capture_output=True, text=True, check=False, cwd=file.parent
    )
    assert done.stderr.strip().endswith(
        f"{file}:6: datasets.village.images: expected an integer, found 'twelve'"
    )


def test_loading_imports_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys; from zoo.registry import load_registry; load_registry()\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'numba', 'pandas', 'requests', 'rich', 'typer'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "[]"


def test_the_built_in_file_is_plain_yaml() -> None:
    from importlib import resources

    text = resources.files("zoo").joinpath("registry.yaml").read_text(encoding="utf-8")
    assert set(yaml.safe_load(text)) == {"version", "datasets", "templates", "entries", "backbones"}


def _bomb(first: str, item: str, levels: int = 12) -> str:
    lines = [f"a0: &a0 {first}"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} {item.replace('@', f'*a{level - 1}')}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (_bomb("[x]", f"[{', '.join(['@'] * 9)}]"), "aliases that stand for more than 200,000 values"),
        (_bomb("{k: x}", f"{{<<: [{', '.join(['@'] * 9)}]}}"), "aliases that stand for more than"),
        ("entries: &a {b: *a}", "an alias inside its own anchor"),
        ("entries: " + "[" * 900 + "]" * 900, "nested too deeply"),
        ("entries: " + "[" * 100_000 + "]" * 100_000, "expected YAML, found "),
    ],
    ids=["lists", "merge keys", "itself", "deep", "very deep"],
)
def test_yaml_that_would_fill_the_memory_is_one_line(tmp_path: Path, text: str, found: str) -> None:
    file = tmp_path / "bomb.yaml"
    file.write_text(text)
    with pytest.raises(RegistryError, match=found) as caught:
        load_registry([file])
    assert str(caught.value).startswith(f"{file}:1: expected ")
    assert "\n" not in str(caught.value)


def test_bounds_are_told_as_everything_else(tmp_path: Path) -> None:
    file = _write(tmp_path, MINE.replace("images: 12", "images: 0"))
    assert _error(file).endswith("datasets.village.images: expected more than 0, found 0")


def test_a_number_without_end_is_a_fault(tmp_path: Path) -> None:
    for number in ("9" * 5000, "0x" + "f" * 5000, "1" + ":59" * 500):
        assert _error(_write(tmp_path, f"version: {number}")).endswith("more than 100 digits")

"""What `zoo list` and `zoo show` say beyond the registry: order, what is on disk, and the built networks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from zoo.cli.entries import SORT_KEYS, describe_entry, sort_entries
from zoo.fetch.fetcher import Fetcher
from zoo.fetch.locations import on_disk
from zoo.files.cache import Cache
from zoo.network.entry_summary import summarize_entry
from zoo.registry import Entry, load_registry
from zoo.repro.records.claim_words import LEGEND

NAME = "minicity/mobilenet_v3_small_os16"
ENTRIES = load_registry().entries
Call = Callable[..., Any]


# ---- order ----


@pytest.mark.parametrize(
    "key", [key for key in SORT_KEYS if "_pq_" not in key and key not in ("server_miou", "server_ap")]
)
def test_every_key_sorts(zoo_call: Call, key: str) -> None:
    found = json.loads(zoo_call("list", "--sort", key, "--json").stdout)

    assert {entry["name"] for entry in found} == {entry.name for entry in ENTRIES}
    if key in ("name", "parameters", "multiply_adds"):
        values = [entry[key] for entry in found]
        assert values == sorted(values)
    else:
        evaluator, metric = "official", key
        if key.startswith(("internal_", "server_")):
            evaluator, _, metric = key.partition("_")
        numbers = [
            next(
                (
                    float(c["value"])
                    for c in e["published"]
                    if (c["metric"], c["evaluator"]) == (metric, evaluator)
                ),
                None,
            )
            for e in found
        ]
        known = [number for number in numbers if number is not None]
        assert known == sorted(known, reverse=True)
        assert numbers == known + [None] * (len(numbers) - len(known))


def test_sorting_applies_to_what_is_filtered(zoo_call: Call) -> None:
    done = zoo_call("list", "cityscapes/*", "--backbone", "mobilenet_v3_*", "--sort", "pq")
    assert [row.split()[0].removeprefix("cityscapes/") for row in done.stdout.splitlines()[1:]] == [
        "mobilenet_v3_large_os16",
        "mobilenet_v3_large_os32",
        "mobilenet_v3_small_os16",
        "mobilenet_v3_small_os32",
    ]


def test_an_unknown_key_names_the_keys(zoo_call: Call, one_line: Call) -> None:
    assert "--sort speed: expected one of name, parameters" in one_line(
        zoo_call("list", "--sort", "speed"), 2
    )


def test_entries_without_the_number_come_last() -> None:
    nameless = [
        entry.model_copy(update={"parameters": None, "name": f"a/{i}"}) for i, entry in enumerate(ENTRIES[:2])
    ]
    found = sort_entries([*nameless, *ENTRIES], "parameters")
    assert [entry.name for entry in found[-2:]] == ["a/0", "a/1"]


# ---- columns ----


def test_list_shows_sizes_and_what_is_on_disk(zoo_call: Call) -> None:
    header, *rows = zoo_call("list").stdout.splitlines()
    assert header.split()[4:8] == ["Parameters", "Mult-adds", "On", "disk"]
    (row,) = (row for row in rows if row.startswith(NAME))
    assert row.split()[2:11] == ["16", "257", "x", "513", "2.6", "M", "1.4", "G", "bundled"]
    (largest,) = (row for row in rows if "/swidernet_sac_1_1_4.5" in row)
    assert "536.2 M" in largest
    assert "10,300.0 G" in largest
    assert "bundled" not in largest


def test_backbones_are_listed_apart(zoo_call: Call, one_line: Call) -> None:
    registry = load_registry()
    header, *rows = zoo_call("list", "--backbones").stdout.splitlines()
    assert header.split()[:4] == ["Name", "Backbone", "Training", "Data"]
    assert [row.split()[0] for row in rows] == [backbone.name for backbone in registry.backbones]

    found = json.loads(zoo_call("list", "--backbones", "resnet50*", "imagenet/wide*", "--json").stdout)
    assert [entry["name"] for entry in found] == [
        "imagenet/resnet50",
        "imagenet/resnet50_strong",
        "imagenet/resnet50_beta",
        "imagenet/wide_resnet41",
    ]
    assert "no ImageNet backbone matches 'vgg*'" in one_line(zoo_call("list", "--backbones", "vgg*"), 2)
    assert "--backbones: expected no" in one_line(zoo_call("list", "--backbones", "--sort", "name"), 2)


# ---- what is on disk ----


def test_a_download_is_found_as_soon_as_it_is_complete(server: Any, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    (bundled,) = (entry for entry in ENTRIES if entry.name == NAME)
    from importlib import resources

    body = resources.files("zoo.assets").joinpath("minicity_mobilenet_v3_small_os16.tar.gz").read_bytes()
    url = server.put("/some/small.tar.gz", body)
    entry = Entry.model_validate({**bundled.model_dump(), "checkpoint": {"url": url}})

    assert on_disk(url, cache) == ""
    assert not cache.root.exists(), "looking makes nothing"
    fetched = Fetcher(cache, tmp_path / "zoo.lock").checkpoint(entry)
    assert on_disk(url, cache) == "cache"
    assert on_disk(url + "?other", cache) == ""

    fetched.archive.rename(fetched.archive.with_name(f"{fetched.archive.name}.part"))
    assert on_disk(url, cache) == ""


def test_other_places(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    file = tmp_path / "a file.tar.gz"
    assert on_disk(file.as_uri(), cache) == ""
    file.touch()
    assert on_disk(file.as_uri(), cache) == "disk"
    assert on_disk("package://zoo/assets/minicity.tar.gz", cache) == "bundled"
    assert on_disk("gs://bucket/model.tar.gz", cache) == ""


def test_listing_is_quick(zoo_call: Call) -> None:
    zoo_call("list")
    spent = []
    for _ in range(3):
        start = time.process_time()
        assert zoo_call("list").returncode == 0
        spent.append(time.process_time() - start)
    # Without the start of Python and the imports, about half of the whole command.
    assert min(spent) < 0.25


# ---- show ----


def test_show_network_has_the_stages_and_a_verdict(zoo_call: Call) -> None:
    done = zoo_call("show", NAME, "--network")
    assert (done.returncode, done.stderr) == (0, "")
    assert "digest: " in done.stdout
    table = done.stdout[done.stdout.index("Stage  ") :].splitlines()
    assert table[1].split() == ["res1", "129", "257", "16", "496", "0.014", "G"]
    assert [row.split()[0] for row in table[6:14]][-2:] == ["regression_head", "all"]
    assert "parameters: 2,608,510 built, as declared" in table
    assert "multiply-adds: 1,374,979,648 built, as declared" in table

    built = json.loads(zoo_call("show", NAME, "--network", "--json").stdout)["built"]
    assert built["as_declared"] is True
    assert built["input_size"] == [257, 513]
    assert sum(stage["parameters"] for stage in built["stages"]) == built["parameters"] == 2_608_510


def test_show_network_of_a_backbone(zoo_call: Call) -> None:
    done = zoo_call("show", "imagenet/resnet50_beta", "--network", "--json")
    built = json.loads(done.stdout)["built"]
    assert done.returncode == 0
    assert [stage["name"] for stage in built["stages"]] == ["res1", "res2", "res3", "res4", "res5"]
    assert [stage["output_size"] for stage in built["stages"]] == [[s, s] for s in (113, 57, 29, 15, 8)]


def test_a_wrong_declaration_is_seen(zoo_call: Call, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        f"entries:\n  mine/small:\n    extends: {NAME}\n    title: Mine\n    checkpoint: mine.tar.gz\n"
        "    parameters: 2_608_511\n"
    )
    done = zoo_call("--registry", own, "show", "mine/small", "--network")
    assert done.returncode == 1
    assert "parameters: 2,608,510 built, DIFFERENT from the declared 2,608,511" in done.stdout
    assert "multiply-adds: 1,374,979,648 built, none declared" in done.stdout


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_declared_sizes_are_those_of_the_built_network(entry: Entry) -> None:
    built = summarize_entry(entry)
    assert built.ok, str(built)
    assert entry.parameters == built.summary.parameters
    assert entry.multiply_adds == built.summary.multiply_adds
    assert built.summary.input_size == entry.input_resolution


@pytest.mark.parametrize("name", ["cityscapes/resnet50_os32", "minicity/mobilenet_v3_small_os16"])
def test_a_registry_file_accepts_what_show_prints(name: str, tmp_path: Path) -> None:
    entry = load_registry().resolve(name)
    shown = yaml.safe_load(describe_entry(entry))
    assert shown.pop("digest") == entry.digest()
    del shown["name"], shown["kind"]
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump({"entries": {"own/copy_os32": shown}}))
    copy = load_registry([file]).resolve("own/copy_os32")
    assert copy == entry.model_copy(update={"name": "own/copy_os32"})


def test_a_terminal_gets_a_legend(zoo_call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    assert LEGEND not in zoo_call("list").stdout
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert zoo_call("list").stdout.endswith(f"\n{LEGEND}\n")

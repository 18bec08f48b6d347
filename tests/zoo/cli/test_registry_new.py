"""`zoo registry new`: a registry file for a checkpoint of the user's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from zoo.registry import load_registry

NAME = "minicity/mobilenet_v3_small_os16"
ARCHIVE = resources.files("zoo").joinpath("assets/minicity_mobilenet_v3_small_os16.tar.gz")

Call = Callable[..., Any]
CONFIG = Path(__file__).parents[2] / "data" / "registry" / "minicity.textproto"
AXIAL = "minicity/axial_swidernet_os16"


def _new(call: Call, *options: object, name: str = "own/net", archive: object = ARCHIVE) -> Any:
    return call("registry", "new", name, "--checkpoint", archive, *options)


@pytest.mark.parametrize("extends", [[], ["--extends", NAME]])
def test_the_file_declares_a_network_that_loads(extends: list[str], zoo_call: Call, tmp_path: Path) -> None:
    out = tmp_path / "own.yaml"
    made = _new(zoo_call, "--config", CONFIG, *extends, "--dataset", "minicity", "--out", out)
    assert (made.returncode, made.stdout) == (0, "")
    note, done = made.stderr.splitlines()
    assert note.startswith(f"zoo: {CONFIG}: ignored, as no evaluation depends on them: experiment_name, ")
    assert f"own/net: in {out}" in done
    shown = zoo_call("--registry", out, "show", "own/net", "--json")
    own, bundled = json.loads(shown.stdout), load_registry().resolve(NAME).model_dump(mode="json")
    assert own["dataset"] == "minicity"
    for key in ("network", "evaluation", "training"):
        assert own[key] == bundled[key]
    assert own["checkpoint"]["sha256"] == bundled["checkpoint"]["sha256"]
    receipt = zoo_call("--registry", out, "load-check", "own/net")
    assert receipt.returncode == 0, receipt.stderr
    again = _new(zoo_call, "--extends", NAME, "--out", out)
    assert again.returncode == 2
    assert "expected a new file" in again.stderr


def test_a_published_axial_configuration_is_read(zoo_call: Call, tmp_path: Path) -> None:
    out, config = tmp_path / "own.yaml", CONFIG.with_name("minicity_axial.textproto")
    archive = resources.files("zoo").joinpath("assets/minicity_axial_swidernet_os16.tar.gz")
    made = _new(zoo_call, "--config", config, "--dataset", "minicity", "--out", out, archive=archive)
    assert made.returncode == 0, made.stderr
    own = load_registry([out]).resolve("own/net")
    declared = load_registry().resolve(AXIAL)
    assert own.network == declared.network
    assert (own.evaluation, own.training) == (declared.evaluation, declared.training)


def test_it_is_printed_without_out(zoo_call: Call) -> None:
    made = _new(zoo_call, "--extends", NAME)
    declared = yaml.safe_load(made.stdout)["entries"]["own/net"]
    assert declared["checkpoint"]["url"] == Path(str(ARCHIVE)).absolute().as_uri()
    assert {key: value for key, value in declared.items() if key != "checkpoint"} == {
        "extends": NAME,
        "title": "net",
    }
    url = "gs://bucket/net.tar.gz"
    assert (
        yaml.safe_load(_new(zoo_call, "--extends", NAME, archive=url).stdout)["entries"]["own/net"][
            "checkpoint"
        ]
        == url
    )


def test_only_what_differs_from_the_extended_entry_is_written(zoo_call: Call, tmp_path: Path) -> None:
    config = tmp_path / "net.textproto"
    config.write_text(CONFIG.read_text().replace("nms_kernel: 7", "nms_kernel: 9"))
    made = _new(zoo_call, "--config", config, "--extends", "minicity/mobilenet_v3_small_os16")
    declared = yaml.safe_load(made.stdout)["entries"]["own/net"]
    assert declared["evaluation"] == {"nms_kernel": 9}
    assert "network" not in declared
    config.write_text(CONFIG.read_text().replace('"mobilenet_v3_small"', '"resnet50"'))
    made = _new(zoo_call, "--config", config, "--extends", "minicity/mobilenet_v3_small_os16")
    declared = yaml.safe_load(made.stdout)["entries"]["own/net"]
    assert declared["network"]["backbone"] == {"name": "resnet50", "low_level_endpoints": None}


def test_faults_are_one_line(zoo_call: Call, one_line: Callable[..., str], tmp_path: Path) -> None:
    assert "--config FILE, --extends ENTRY, or both" in one_line(_new(zoo_call), 2)
    assert "expected a new name" in one_line(_new(zoo_call, "--extends", NAME, name=NAME), 2)
    assert "expected a name like" in one_line(_new(zoo_call, "--extends", NAME, name="own"), 2)
    assert "no data set 'nil'" in one_line(_new(zoo_call, "--extends", NAME, "--dataset", "nil"), 2)
    assert "found none" in one_line(_new(zoo_call, "--config", tmp_path / "none.textproto"), 2)
    bad = tmp_path / "bad.textproto"
    bad.write_text("model_options {\n  backbon {}\n}")
    message = one_line(_new(zoo_call, "--config", bad), 2)
    assert message == f"{bad}:2: unknown field 'backbon' in model_options (did you mean 'backbone'?)"
    bad.write_text(CONFIG.read_text().replace("cityscapes_panoptic", "kitti_step"))
    message = one_line(_new(zoo_call, "--config", bad), 2, after_progress=True)
    assert message == f"{bad}: no data set here is called kitti_step; expected --dataset NAME"


def test_a_checkpoint_that_is_not_packed_is_refused(
    zoo_call: Call, one_line: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "ckpt-1.index").touch()
    for given in ("ckpt-1", "ckpt-1.index"):
        message = one_line(_new(zoo_call, "--extends", NAME, archive=tmp_path / given), 2)
        packing = f"`tar czf ckpt-1.tar.gz -C {tmp_path} ckpt-1.index ckpt-1.data-*`"
        assert (
            message == f"--checkpoint {tmp_path / given}: expected an archive of it; pack it with {packing}"
        )
    missing = one_line(_new(zoo_call, "--extends", NAME, archive=tmp_path / "none.tar.gz"), 2)
    assert missing.endswith("none.tar.gz: expected an archive, found no such file")

"""What docs/cluster says works: commands are commands, files are what Slurm, KubeRay and `ray up` take."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from zoo.registry import load_registry

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "docs" / "cluster"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs a checkout")


def require_command(words: list[str]) -> dict[str, Any]:
    """Returns the parameters of a call of `zoo`; fails where the command line refuses it."""
    import typer

    from zoo.cli.app import app

    command = typer.main.get_command(app)
    name, *arguments = words
    with command.commands[name].make_context(name, arguments) as context:  # type: ignore[attr-defined]
        return dict(context.params)


def test_the_commands_are_commands() -> None:
    commands = re.findall(
        r"`[^`]*?\bzoo ((?:reproduce|score|nightly) [^`]*)`", (FOLDER / "README.md").read_text()
    )
    assert len(commands) >= 3
    for command in commands:
        assert require_command(shlex.split(command))["ray"] in ("local", "auto")
    for target in re.findall(r"\]\(([a-z.-]+)\)", (FOLDER / "README.md").read_text()):
        assert (FOLDER / target).exists(), target


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_slurm_script_starts_zoo_on_a_ray_of_all_nodes(tmp_path: Path) -> None:
    for name, program in (("scontrol", 'printf "node%s\\n" 7 8 9'), ("srun", 'printf "%s\\n" "$@"')):
        (tmp_path / name).write_text(f"#!/bin/bash\n{program}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "node[7-9]"}
    call = ["bash", str(FOLDER / "slurm.sbatch"), "minicity/*", "--data", "a b", "--out", "runs"]
    run = subprocess.run(
        call, env={**environment, "SLURM_JOB_NUM_NODES": "3"}, capture_output=True, text=True, check=True
    )
    words = run.stdout.splitlines()
    ray, zoo = words[: words.index("--")], words[words.index("--") + 1 :]
    assert ray == ["ray", "symmetric-run", "--address", "node7:6379", "--min-nodes", "3"]
    assert zoo[0] == "zoo"
    parameters = require_command(zoo[1:])
    assert (parameters["ray"], parameters["data"]) == ("auto", ["a b"])


def test_the_file_for_ray_up_is_one() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(yaml.safe_load((FOLDER / "ray-up.yaml").read_text()))
    validate_config(config)
    assert config["max_workers"] == len(config["provider"]["worker_ips"])


def test_the_manifest_is_a_ray_job() -> None:
    job = yaml.safe_load((FOLDER / "kubernetes.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    zoo, *words = shlex.split(job["spec"]["entrypoint"])
    assert zoo == "zoo"
    parameters = require_command(words)
    assert parameters["ray"] == "auto"
    (name,) = parameters["names"]
    assert load_registry().resolve(name).name == name
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    containers = [group["template"]["spec"]["containers"][0] for group in groups]
    # Numbers that are not quoted are refused.
    assert all(isinstance(value, str) for group in groups for value in group["rayStartParams"].values())
    assert len({container["image"] for container in containers}) == 1
    # The results are written where the entry point runs.
    assert str(parameters["out"]) == containers[0]["volumeMounts"][0]["mountPath"]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import cluster_model

    yield cluster_model
    del sys.modules["cluster_model"]


def test_the_model_of_a_night(model: Any) -> None:
    starts = {"ray_start_s": 3.0, "worker_start_s": 7.0}

    def night(workers: int, **changed: float) -> Any:
        costs = {"image_s": 2.0, "prepare_s": 5.0, "tail_s": 4.0, "driver_s": 0.0, **changed}
        return model.simulate([model.Pass("a", 60, part_s=[1.0] * 6, **costs)], workers, **starts)

    # Ray, preparing, one start, all images, all parts, the end.
    assert night(1).wall_s == 3 + 5 + 7 + 120 + 6 + 4
    assert night(4).wall_s == 3 + 5 + 7 + 30 + 2 + 4
    # The slowest shard: 60 images on 59 workers take as long as on 30.
    assert night(59).wall_s == night(30).wall_s == 3 + 5 + 7 + 4 + 1 + 4
    # A driver that takes a second for each image: no worker helps.
    assert night(60, driver_s=1.0).wall_s >= 60
    spent = night(4)
    assert (spent.images_s, spent.starting_s, spent.official_s) == (120, 28, 6)


def test_the_model_begins_the_longest_first(model: Any) -> None:
    def short_and_long() -> list[Any]:
        return [
            model.Pass(name, 10, image_s=seconds, prepare_s=0, part_s=[], tail_s=50.0, driver_s=0)
            for name, seconds in (("short", 1.0), ("long", 5.0))
        ]

    # The end of the long run is hidden behind the short one's images.
    assert model.simulate(short_and_long(), 1, ray_start_s=0, worker_start_s=0).wall_s == 50 + 10 + 50

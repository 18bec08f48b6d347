"""A run on two devices gives what one gives."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOLDER = "minicity__mobilenet_v3_small_os16"

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Whole = Any  # Of conftest.py: an undisturbed run over all images.

# Beside the run that all of these files compare with.
pytestmark = pytest.mark.xdist_group("minicity")


def numbers_of(record: dict[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in ("images", "metrics", "per_class", "ap12")}


TWO_DEVICES = """
import json, sys
from pathlib import Path

import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from zoo.registry import load_registry
from zoo.repro.run.reproduce import reproduce_entry
from zoo.repro.run.settings import RunSettings

registry = load_registry()
records = {}
for device in ("cpu", "cpu:0"):
    records[device] = reproduce_entry(
        registry.resolve("minicity/mobilenet_v3_small_os16"),
        registry=registry,
        out=Path(sys.argv[1]) / device.replace(":", "_"),
        settings=RunSettings(limit=3, device=device),
    )
print(json.dumps(records))
"""


def test_two_devices_give_the_totals_of_one(
    whole: Whole, zoo_environment: dict[str, str], zoo_folder: Path, tmp_path: Path
) -> None:
    # An odd number of images: the last batch is not full.
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES, str(tmp_path)],
        env={**zoo_environment, "TF_CPP_MIN_LOG_LEVEL": "2"},
        cwd=zoo_folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)
    assert records["cpu"]["device"]["replicas"] == 2
    assert records["cpu:0"]["device"]["replicas"] == 1
    assert numbers_of(records["cpu"]) == numbers_of(records["cpu:0"])
    assert records["cpu"]["images"] == 3
    folders = [tmp_path / device / f"{FOLDER}__limit3__cpu" / "images" for device in ("cpu", "cpu_0")]
    for path in sorted(folders[0].iterdir()):
        assert path.read_bytes() == (folders[1] / path.name).read_bytes()
        assert path.read_bytes() == (whole.folder / "images" / path.name).read_bytes()

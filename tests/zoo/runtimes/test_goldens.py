"""Networks written for other runtimes, and run by them, equal the reference implementation."""

from __future__ import annotations

import runpy
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.model.build import build_network
from zoo.model.checkpoint import variables
from zoo.model.folding import fold_batch_norm
from zoo.registry import load_registry
from zoo.runtimes.choice import FILE_RUNTIMES

TESTS = Path(__file__).parents[2]
DATA = TESTS / "data" / "networks"
SIZE = (65, 129)
TOLERANCE = 1e-4  # Of each map's standard deviation; rounding gives about 1e-5.

shares_of_tolerance = runpy.run_path(str(TESTS / "model" / "kmax_golden.py"))["shares_of_tolerance"]
golden_values = runpy.run_path(str(TESTS / "model" / "golden_weights.py"))["values"]

MOBILENET = "cityscapes/mobilenet_v3_small_os32"


@lru_cache(maxsize=1)  # The runtimes of a network come one after the other.
def folded_network(name: str, size: tuple[int, int] = SIZE) -> Any:
    network = build_network(load_registry().resolve(name).network, size, random_values=False)
    for key, variable in variables(network).items():
        variable.assign(golden_values(key, tuple(variable.shape)))
    return fold_batch_norm(network, consume=True)


def golden(name: str) -> dict[str, np.ndarray]:
    key = name.replace("/", "_") if "mobilenet" not in name else name.partition("/")[2]
    with np.load(DATA / f"{key}_65x129.npz") as expected, np.load(DATA / "image_65x129.npz") as image:
        return {"image": image["image"], **expected}


@pytest.mark.parametrize(
    ("name", "runtime"),
    [
        *((MOBILENET, runtime) for runtime in FILE_RUNTIMES),
        # One network of each further family, by the writer that is ours.
        ("coco/resnet50_os32", "onnx"),
        ("cityscapes/swidernet_sac_1_1_1_os16", "onnx"),
        ("cityscapes/axial_swidernet_1_1_1_os16", "onnx"),
    ],
)
def test_maps(name: str, runtime: str, tmp_path: Path) -> None:
    pytest.importorskip(FILE_RUNTIMES[runtime].package)
    module = FILE_RUNTIMES[runtime].imported(runtime)
    expected = golden(name)
    path = tmp_path / f"network{FILE_RUNTIMES[runtime].suffix}"

    module.write(folded_network(name), SIZE, "{}", path, "float32")
    maps = module.load(path, "float32")(expected["image"][None].astype(np.float32))

    assert module.read_about(path) == "{}"
    assert set(maps) == {"semantic_logits", "center_heatmap", "offset_map"}
    for key, values in maps.items():
        found = values[0, ..., ::4] if key == "semantic_logits" and name.startswith("coco/") else values[0]
        assert found.shape == expected[key].shape
        assert np.abs(found - expected[key]).max() < TOLERANCE * expected[key].std(), key


@pytest.mark.parametrize("name", ["coco/kmax_resnet50_65x65", "cityscapes/kmax_convnext_tiny_65x129"])
def test_maps_of_kmax(name: str, tmp_path: Path) -> None:
    with np.load(DATA / f"{name.replace('/', '_')}.npz") as arrays:
        expected = dict(arrays)
    path, size = tmp_path / "network.onnx", expected["image"].shape[:2]
    onnx = FILE_RUNTIMES["onnx"].imported("onnx")

    onnx.write(folded_network(name.rpartition("_")[0], size), size, "{}", path, "float32")
    maps = onnx.load(path, "float32")(expected["image"][None].astype(np.float32))

    shares = shares_of_tolerance({key: values[0] for key, values in maps.items()}, expected)
    assert max(shares.values()) < 1, shares

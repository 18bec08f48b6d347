"""The published MobileNetV3 configurations equal the reference implementation."""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from zoo.model.build import build_encoder, build_network
from zoo.model.checkpoint import variables
from zoo.model.folding import fold_batch_norm
from zoo.model.inference import at_size, compile_inference
from zoo.model.multiscale import MultiScaleNetwork
from zoo.registry import load_registry

DATA = Path(__file__).parents[1] / "data" / "networks"
CONFIGURATIONS = ["small_os16", "small_os32", "large_os16", "large_os32"]
TOLERANCE = 1e-4  # Of each output's standard deviation; rounding gives about 1e-5.

golden_values = runpy.run_path(str(Path(__file__).with_name("golden_weights.py")))["values"]


def settings_of(configuration: str, crop_size: tuple[int, int]) -> Any:
    network = load_registry().resolve(f"cityscapes/mobilenet_v3_{configuration}").network
    return network.model_copy(update={"train_crop_size": crop_size})


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(DATA / f"{name}.npz") as arrays:
        return dict(arrays)


def fill(network: keras.Model) -> keras.Model:
    for key, variable in variables(network).items():
        variable.assign(golden_values(key, tuple(variable.shape)))
    return network


@lru_cache(maxsize=1)  # The configurations come one after the other.
def filled_network(configuration: str) -> keras.Model:
    return fill(build_network(settings_of(configuration, (65, 129))))


def differences(maps: Mapping[str, Any], expected: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Largest difference of each map, in standard deviations of the expected one."""
    found = {name: np.asarray(values) for name, values in maps.items()}
    for name, values in found.items():
        assert values.dtype == np.float32
        assert values.shape == expected[name].shape, name
        assert np.isfinite(values).all(), name
    return {name: float(np.abs(v - expected[name]).max() / expected[name].std()) for name, v in found.items()}


def assert_close(maps: Mapping[str, Any], expected: Mapping[str, np.ndarray]) -> None:
    assert set(maps) >= {"center_heatmap", "offset_map"}
    too_far = {name: d for name, d in differences(maps, expected).items() if not d < TOLERANCE}
    assert not too_far, f"differences in standard deviations: {too_far}"


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
class TestConfiguration:
    def test_variables_have_the_published_names_and_shapes(self, configuration: str) -> None:
        lines = (DATA / "variables" / f"mobilenet_v3_{configuration}.tsv").read_text().splitlines()
        expected = dict(line.split("\t") for line in lines)

        found = {
            key: "x".join(map(str, variable.shape))
            for key, variable in variables(filled_network(configuration)).items()
        }

        assert found == expected

    def test_every_variable_is_in_the_mapping(self, configuration: str) -> None:
        network = filled_network(configuration)

        assert {id(v) for v in variables(network).values()} == {id(v) for v in network.weights}

    @pytest.mark.parametrize("fold", [False, True])
    def test_maps_at_65x129(self, configuration: str, fold: bool) -> None:
        expected = golden(f"mobilenet_v3_{configuration}_65x129")
        network = filled_network(configuration)

        maps = (fold_batch_norm(network) if fold else network)(expected["image"][None])

        assert set(maps) == {"semantic_logits", "center_heatmap", "offset_map"}
        assert_close({name: values[0] for name, values in maps.items()}, expected)

    def test_maps_at_289x577(self, configuration: str) -> None:
        expected = golden(f"mobilenet_v3_{configuration}_289x577")
        image = golden("image_289x577")["image"]
        network = filled_network(configuration)
        stride = 32 if configuration.endswith("os32") else 16
        window = (288 // stride + 1, 576 // stride + 1)

        maps = at_size(network, (289, 577), window)(image[None].astype(np.float32))

        assert_close({name: values[0, ::4, ::4] for name, values in maps.items()}, expected)

    def test_end_points(self, configuration: str) -> None:
        expected = golden(f"mobilenet_v3_{configuration}_289x577")
        image = golden("image_289x577")["image"]
        encoder = fill(build_encoder(settings_of(configuration, (289, 577))))

        endpoints = encoder(image[None])

        assert list(endpoints) == ["res1", "res2", "res3", "res4", "res5"]
        for name, features in endpoints.items():
            *shape, mean, deviation = expected[f"feature_stats/{name}"]
            values = np.asarray(features[0], np.float64)
            assert values.shape == tuple(shape), name
            assert abs(values.mean() - mean) < TOLERANCE * deviation, name
            assert abs(values.std() - deviation) < TOLERANCE * deviation, name


def test_scales_and_mirroring() -> None:
    expected = golden("mobilenet_v3_small_os32_multiscale")
    expected["center_heatmap"] = expected["center_heatmap"][..., None]
    network = fold_batch_norm(filled_network("small_os32"))

    maps = MultiScaleNetwork(network, scales=(0.75, 1.0, 1.25), flip=True)(expected["image"][None])

    assert set(maps) == {"semantic_probs", "center_heatmap", "offset_map"}
    assert_close({name: values[0] for name, values in maps.items()}, expected)


def test_compiled_maps_of_a_batch() -> None:
    expected = golden("mobilenet_v3_small_os32_65x129")
    network = filled_network("small_os32")

    maps = compile_inference(network)(np.stack([expected["image"]] * 2))

    assert not any("batch_norm" in layer.name for layer in fold_batch_norm(network).layers)
    for index in (0, 1):
        assert_close({name: values[index] for name, values in maps.items()}, expected)

"""Axial attention against its definition, pair by pair; its strides, its limit, its inference form."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import zoo
from zoo.errors import UsageError
from zoo.model.backbones.axial_attention import HEADS, AttentionDepths, AxialAttention, axial_attention
from zoo.model.blocks import Style
from zoo.model.build import build_network
from zoo.model.checkpoint import variables
from zoo.model.folding import fold_batch_norm
from zoo.model.inference import at_size
from zoo.registry import load_registry

golden_values = runpy.run_path(str(Path(__file__).parents[1] / "golden_weights.py"))["values"]

STYLE = Style(SimpleNamespace(epsilon=0.001, momentum=0.99))
DEPTHS = AttentionDepths(2 * HEADS, 3 * HEADS)
SIZE = (5, 7)


def randomize(layer: keras.layers.Layer) -> None:
    rng = np.random.default_rng(0)
    for variable in layer.weights:
        is_positive = variable.name.rsplit(".", 1)[-1] in ("gamma", "moving_variance")
        low, high = (0.5, 1.5) if is_positive else (-1.0, 1.0)
        variable.assign(rng.uniform(low, high, variable.shape))


def by_definition(layer: AxialAttention, sequence: np.ndarray) -> np.ndarray:
    """Returns what a sequence [length, C] becomes, from the layer's variables, in float64."""
    at = {variable.name: np.asarray(variable, np.float64) for variable in layer.weights}

    def normalized(values: np.ndarray, name: str) -> np.ndarray:
        gamma, beta, mean, variance = (
            at[f"batch_norm_{name}.{leaf}"] for leaf in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return gamma * (values - mean) / np.sqrt(variance + layer.epsilon) + beta

    qkv = normalized(sequence @ at["qkv_kernel"], "qkv")
    query, key, value = np.split(qkv, [DEPTHS.key, 2 * DEPTHS.key], axis=-1)
    query, key, value = (part.reshape(len(sequence), HEADS, -1) for part in (query, key, value))
    length = len(sequence)
    similarity = np.zeros((3, 1, HEADS, length, length))
    for own in range(length):
        for other in range(length):
            row = other - own + 254
            similarity[:, 0, :, own, other] = (
                (query[own] * key[other]).sum(-1),
                query[own] @ at["query_rpe.embeddings"][row],
                key[other] @ at["key_rpe.embeddings"][row],
            )
    exponents = np.exp(normalized(similarity, "similarity").sum(0)[0])
    weights = exponents / exponents.sum(-1, keepdims=True)
    retrieved = np.zeros((2, 1, HEADS, length, value.shape[-1]))
    for own in range(length):
        positions = at["value_rpe.embeddings"][np.arange(length) - own + 254]
        retrieved[0, 0, :, own] = np.einsum("hm,mhd->hd", weights[:, own], value)
        retrieved[1, 0, :, own] = weights[:, own] @ positions
    summed = normalized(retrieved, "retrieved_output").sum(0)[0]
    return summed.transpose(1, 0, 2).reshape(length, -1)


@pytest.mark.parametrize("axis", [1, 2])
def test_attention_along_one_axis(axis: int) -> None:
    layer = AxialAttention(axis, DEPTHS, 0.001, name="place")
    features = np.random.default_rng(1).standard_normal((2, *SIZE, 6)).astype(np.float32)
    layer.build(features.shape)
    randomize(layer)

    found = layer(features)

    expected = np.apply_along_axis(
        lambda flat: by_definition(layer, flat.reshape(-1, 6)).ravel(),
        -1,
        np.moveaxis(features, axis, 2).reshape(2, SIZE[2 - axis], -1),
    )
    expected = np.moveaxis(expected.reshape(2, SIZE[2 - axis], SIZE[axis - 1], -1), 2, axis)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    products = 6 * (2 * DEPTHS.key + DEPTHS.value) + SIZE[axis - 1] * (3 * DEPTHS.key + 2 * DEPTHS.value)
    layer(keras.Input((*SIZE, 6)))
    assert layer.multiply_adds() == SIZE[0] * SIZE[1] * products


def test_with_a_stride_each_axis_attends_to_all_positions() -> None:
    images = keras.Input((*SIZE, 6))
    whole, strided = (
        keras.Model(images, axial_attention(images, DEPTHS, strides, STYLE, f"encoder.{strides}"))
        for strides in (1, 2)
    )
    for layer in whole.layers:
        randomize(layer)
    strided.set_weights(whole.get_weights())
    features = np.random.default_rng(1).standard_normal((1, *SIZE, 6)).astype(np.float32)

    np.testing.assert_allclose(strided(features), whole(features)[:, ::2, ::2], atol=1e-5)


def test_maps_that_are_too_large_are_refused_in_one_line() -> None:
    entry = "minicity/axial_swidernet_os16"
    network = build_network(load_registry().resolve(entry).network, (65, 129), random_values=False)

    for build in (lambda: zoo.build(entry, (17, 2065)), lambda: at_size(network, (17, 2065), (1, 1))):
        with pytest.raises(UsageError, match=r"expected at most 129 positions .* found 130; use") as caught:
            build()
        assert "\n" not in str(caught.value)


def test_a_folded_network_is_without_the_decoder_that_no_map_depends_on() -> None:
    settings = load_registry().resolve("cityscapes/max_deeplab_l_backbone_os16").network
    narrow = {"stem_width_multiplier": 0.125, "backbone_width_multiplier": 0.125}
    backbone = settings.backbone.model_copy(update=narrow)
    network = build_network(settings.model_copy(update={"backbone": backbone}), (65, 129))
    for key, variable in variables(network).items():
        variable.assign(golden_values(key, tuple(variable.shape)))
    image = np.random.default_rng(0).integers(0, 256, (1, 65, 129, 3)).astype(np.float32)

    folded = fold_batch_norm(network)

    assert any(key.startswith("encoder/_decoder_stage4/") for key in variables(network))
    assert not any("decoder_stage" in layer.name or "unread" in layer.name for layer in folded.layers)
    expected = network(image)
    for name, values in folded(image).items():
        np.testing.assert_allclose(values, expected[name], atol=1e-4 * np.std(expected[name]))

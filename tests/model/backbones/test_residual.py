"""Residual encoders: strides, atrous rates, multipliers, switchable convolutions, the inference form."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.errors import UsageError
from zoo.model.backbones.residual import variables_of_the_output_stride
from zoo.model.backbones.switchable_atrous import SwitchableAtrousConv2D, switchable_conv_bn
from zoo.model.backend import SharedZeros
from zoo.model.blocks import Kernel, Style
from zoo.model.build import build_encoder
from zoo.model.checkpoint import variables
from zoo.model.folding import fold_batch_norm
from zoo.model.layers import Conv2D

BATCH_NORM = SimpleNamespace(epsilon=0.001, momentum=0.99)
SIZE = (65, 97)


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A backbone of an eighth of the published width, unless a test says otherwise."""

    name: str = "resnet50"
    output_stride: int = 32
    use_squeeze_and_excite: bool = False
    stem_width_multiplier: float = 0.125
    backbone_width_multiplier: float = 0.125
    backbone_layer_multiplier: float = 1.0
    use_sac_beyond_stride: int = -1
    is_kmax: bool = False


def encoder_of(size: tuple[int, int] = SIZE, **changes: Any) -> keras.Model:
    settings = SimpleNamespace(backbone=Backbone(**changes), batch_norm=BATCH_NORM, train_crop_size=size)
    return build_encoder(settings)


def randomize(network: keras.Model, seed: int = 0) -> keras.Model:
    """Gives every variable values of a sensible size, the same for the same key and shape."""
    for key, variable in sorted(variables(network).items()):
        rng = np.random.default_rng([seed, len(key), *key.encode()])
        shape = tuple(variable.shape)
        leaf = key.rsplit("/", 1)[-1]
        if leaf in ("gamma", "moving_variance"):
            values = rng.uniform(0.5, 1.5, shape)
        elif "_switch/" in key or "_global_context/" in key:
            # Switches are products of features: with large ones, rounding grows from block to block.
            values = 0.02 * rng.standard_normal(shape)
        elif leaf == "kernel":
            values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))
        else:
            values = 0.1 * rng.standard_normal(shape)
        variable.assign(values)
    return network


def image(size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 255, (1, *size, 3)).astype(np.float32)


def convolutions(network: keras.Model) -> dict[str, tuple[int, int]]:
    """Name of each 3 x 3 convolution in the stages -> its stride and atrous rate."""
    return {
        layer.name.removeprefix("encoder."): (layer.strides[0], layer.dilation_rate[0])
        for layer in network.layers
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (3, 3) and "stage" in layer.name
    }


class TestStrides:
    @pytest.mark.parametrize(
        "name",
        [
            "resnet50",
            "resnet50_beta",
            "wide_resnet41",
            "swidernet",
            "axial_swidernet",
            "max_deeplab_l_backbone",
        ],
    )
    @pytest.mark.parametrize("output_stride", [8, 16, 32])
    def test_end_points(self, name: str, output_stride: int) -> None:
        endpoints = encoder_of(name=name, output_stride=output_stride).output

        channels = {"resnet50": 8, "resnet50_beta": 16}.get(name, 16)
        assert list(endpoints) == ["res1", "res2", "res3", "res4", "res5"]
        for level, features in enumerate(endpoints.values(), start=1):
            stride = min(2**level, output_stride)
            size = (64 // stride + 1, 96 // stride + 1)
            assert features.shape == (None, *size, channels if level == 1 else 8 * 2**level)

    def test_rates_replace_strides(self) -> None:
        found = convolutions(encoder_of(output_stride=8))

        assert found["stage3.block1.conv2_bn_act.conv"] == (2, 1)
        # A stage's first block works on features of the stage before, at their rate.
        assert found["stage4.block1.conv2_bn_act.conv"] == (1, 1)
        assert found["stage4.block2.conv2_bn_act.conv"] == (1, 2)
        assert found["stage5.block1.conv2_bn_act.conv"] == (1, 2)
        assert found["stage5.block3.conv2_bn_act.conv"] == (1, 4)

    def test_rates_in_basic_blocks(self) -> None:
        found = convolutions(encoder_of(name="wide_resnet41", output_stride=8))

        assert found["stage1.block1.conv1_bn_act.conv"] == (1, 1)
        assert found["stage2.block1.conv1_bn_act.conv"] == (2, 1)
        assert found["stage4.block1.conv1_bn_act.conv"] == (1, 1)
        assert found["stage4.block1.conv2_bn.conv"] == (1, 2)
        assert found["stage5.block1.conv2_bn_act.conv"] == (1, 2)

    @pytest.mark.parametrize("name", ["resnet50_beta", "wide_resnet41"])
    @pytest.mark.parametrize("output_stride", [8, 16])
    def test_a_smaller_stride_gives_the_same_features_more_densely(
        self, name: str, output_stride: int
    ) -> None:
        coarse, dense = (
            randomize(encoder_of(name=name, output_stride=stride))(image())["res5"]
            for stride in (32, output_stride)
        )

        step = 32 // output_stride
        np.testing.assert_allclose(dense[:, ::step, ::step], coarse, atol=1e-4 * np.std(coarse))


class TestMultipliers:
    @pytest.mark.parametrize(("multiplier", "blocks"), [(1, [3, 6, 3, 3]), (4.5, [13, 27, 13, 13])])
    def test_layers(self, multiplier: float, blocks: list[int]) -> None:
        names = {
            layer.name for layer in encoder_of(name="swidernet", backbone_layer_multiplier=multiplier).layers
        }

        found = [sum(f"encoder.stage{n}.block{b}.add" in names for b in range(1, 99)) for n in range(1, 6)]

        assert found == [3, *blocks]  # The stage at stride 2 is not scaled.

    def test_width(self) -> None:
        shapes = {
            key: tuple(variable.shape)
            for key, variable in variables(
                encoder_of(name="swidernet", stem_width_multiplier=0.5, backbone_width_multiplier=0.25)
            ).items()
        }

        assert shapes["encoder/_stem/_conv/kernel"] == (3, 3, 3, 32)
        assert shapes["encoder/_stage1/_block1/_conv2_bn/_conv/kernel"] == (3, 3, 64, 64)
        assert shapes["encoder/_stage2/_block1/_conv2_bn/_conv/kernel"] == (3, 3, 64, 64)
        assert shapes["encoder/_stage5/_block1/_conv1_bn_act/_conv/kernel"] == (1, 1, 256, 128)
        assert shapes["encoder/_stage5/_block1/_conv2_bn_act/_conv/kernel"] == (3, 3, 128, 256)
        assert shapes["encoder/_stage5/_block1/_conv3_bn/_conv/kernel"] == (1, 1, 256, 512)

    def test_shortcut_without_convolution_takes_every_second_pixel(self) -> None:
        encoder = encoder_of(name="swidernet", stem_width_multiplier=0.25)  # Both stages have 32 channels.
        randomize(encoder)

        assert not any("stage2/_block1/_shortcut" in key for key in variables(encoder))
        layer = encoder.get_layer("encoder.stage2.block1.subsample")
        features = np.random.default_rng(0).standard_normal((1, 33, 48, 32)).astype(np.float32)
        np.testing.assert_array_equal(layer(features), features[:, ::2, ::2])


class TestSwitchableConvolution:
    @staticmethod
    def block(strides: int = 1, atrous_rate: int = 1) -> keras.Model:
        inputs = keras.Input((9, 11, 4))
        style = Style(BATCH_NORM)
        outputs = switchable_conv_bn(inputs, 6, Kernel(3, strides, atrous_rate), style, "encoder.place")
        return randomize(keras.Model(inputs, outputs))

    @pytest.mark.parametrize("atrous_rate", [1, 2])
    def test_equals_its_definition(self, atrous_rate: int) -> None:
        network = self.block(atrous_rate=atrous_rate)
        features = np.random.default_rng(2).standard_normal((2, 9, 11, 4)).astype(np.float32)
        at = {key.removeprefix("encoder/_place/"): v.numpy() for key, v in variables(network).items()}

        def context(x: tf.Tensor, name: str) -> tf.Tensor:
            mean = tf.reduce_mean(x, [1, 2], keepdims=True)
            kernel, bias = (
                at[f"_{name}_global_context/convolution/kernel"],
                at[f"_{name}_global_context/convolution/bias"],
            )
            return x + tf.nn.conv2d(mean, kernel, 1, "SAME") + bias

        x = context(tf.constant(features), "pre")
        average = tf.nn.avg_pool2d(x, 5, 1, "SAME")
        switch = tf.nn.conv2d(average, at["_conv/_switch/kernel"], 1, "SAME") + at["_conv/_switch/bias"]
        small, large = (
            tf.nn.conv2d(x, at["_conv/kernel"], 1, "SAME", dilations=rate)
            for rate in (atrous_rate, 3 * atrous_rate)
        )
        x = context(switch * large + (1 - switch) * small, "post")
        scale = at["_batch_norm/gamma"] / np.sqrt(at["_batch_norm/moving_variance"] + 0.001)
        expected = (x - at["_batch_norm/moving_mean"]) * scale + at["_batch_norm/beta"]

        np.testing.assert_allclose(network(features), expected, atol=1e-5)

    def test_no_switch_where_there_is_a_stride(self) -> None:
        network = self.block(strides=2)

        assert not any("_switch" in key for key in variables(network))
        assert sum("_global_context/" in key for key in variables(network)) == 4
        assert type(network.get_layer("encoder.place.conv")) is Conv2D

    @pytest.mark.parametrize(("beyond", "stages"), [(-1, []), (0, []), (32, [5]), (16, [4, 5])])
    def test_stages_that_have_it(self, beyond: int, stages: list[int]) -> None:
        encoder = encoder_of(name="swidernet", use_sac_beyond_stride=beyond, output_stride=16)

        found = {
            layer.name.split(".")[1] for layer in encoder.layers if isinstance(layer, SwitchableAtrousConv2D)
        }

        assert found == {f"stage{n}" for n in stages}

    def test_switches_that_depend_on_the_output_stride(self) -> None:
        keys = {
            stride: set(
                variables(encoder_of(name="swidernet", use_sac_beyond_stride=16, output_stride=stride))
            )
            for stride in (8, 16, 32)
        }

        for stride in (8, 16):
            assert keys[stride] > keys[32]
            assert keys[stride] - keys[32] == variables_of_the_output_stride(keys[stride])
        assert variables_of_the_output_stride(keys[32]) == set()

    def test_squeeze_and_excite_is_refused(self) -> None:
        with pytest.raises(UsageError, match="resnet50: use_squeeze_and_excite: expected false"):
            encoder_of(use_squeeze_and_excite=True)


class TestFolding:
    @pytest.mark.parametrize("output_stride", [16, 32])
    @pytest.mark.parametrize("consume", [False, True])
    def test_switchable_network(self, output_stride: int, consume: bool) -> None:
        encoder = randomize(
            encoder_of(name="swidernet", use_sac_beyond_stride=16, output_stride=output_stride)
        )
        expected = encoder(image())

        folded = fold_batch_norm(encoder, consume=consume)

        assert not any("batch_norm" in layer.name for layer in folded.layers)
        for name, values in folded(image()).items():
            np.testing.assert_allclose(
                values, expected[name], atol=1e-4 * np.std(expected[name]), err_msg=name
            )
        if not consume:
            np.testing.assert_array_equal(encoder(image())["res5"], expected["res5"])

    def test_a_channel_that_normalisation_makes_constant(self) -> None:
        network = TestSwitchableConvolution.block()
        gamma = network.get_layer("encoder.place.batch_norm").gamma
        gamma.assign(np.array([1, 1, 0, 1, 1, 1], np.float32))
        features = np.random.default_rng(2).standard_normal((1, 9, 11, 4)).astype(np.float32)

        folded = fold_batch_norm(network)

        # Its mean still reaches the other channels: nothing can be folded.
        assert any("batch_norm" in layer.name for layer in folded.layers)
        np.testing.assert_allclose(folded(features), network(features), atol=1e-6)


def test_a_network_to_be_restored_takes_no_memory_for_its_kernels() -> None:
    zeros = SharedZeros()

    first, second = zeros((3, 3, 8, 8)), zeros((1, 1, 16, 4))

    assert (first.shape, second.shape) == ((3, 3, 8, 8), (1, 1, 16, 4))
    assert not np.any(first)
    assert not np.any(second)
    addresses = {np.asarray(memoryview(tensor)).ctypes.data for tensor in (first, second)}
    assert len(addresses) == 1

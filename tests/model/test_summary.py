"""The stages of a network, against TensorFlow's own count of operations and against the network itself."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.model.build import build_encoder, build_network
from zoo.model.summary import summarize_encoder, summarize_network
from zoo.registry import load_registry
from zoo.registry.network_options import NetworkOptions

# The last maps have even sides: TensorFlow then pads nothing more around atrous depthwise convolutions.
SIZE = (81, 113)
ENCODER = ("res1", "res2", "res3", "res4", "res5")
OTHERS = (
    "semantic_decoder.aspp",
    "semantic_decoder",
    "semantic_head",
    "instance_decoder.aspp",
    "instance_decoder",
    "center_head",
    "regression_head",
)


def options(name: str, **backbone: float) -> NetworkOptions:
    """Options of an entry, with multipliers that make it small."""
    network = load_registry().resolve(name).network
    return network.model_copy(update={"backbone": network.backbone.model_copy(update=backbone)})


NARROW = {"stem_width_multiplier": 0.25, "backbone_width_multiplier": 0.25}
NETWORKS = {
    "mobilenet": lambda: options("minicity/mobilenet_v3_small_os16"),
    "bottlenecks": lambda: options("cityscapes/resnet50_beta_os32", **NARROW),
    "switchable": lambda: options("cityscapes/swidernet_sac_1_1_1_os16", **NARROW),
    "axial": lambda: options("minicity/axial_swidernet_os16"),
}


@pytest.mark.parametrize("kind", ["mobilenet", "bottlenecks", "switchable"])
def test_multiply_adds_are_half_of_the_operations_that_tensorflow_counts(kind: str) -> None:
    settings = NETWORKS[kind]()
    network = build_network(settings, SIZE, random_values=False)
    images = tf.TensorSpec((1, *SIZE, 3), tf.float32)
    graph = (
        tf.function(lambda x: network(x, training=False), autograph=False).get_concrete_function(images).graph
    )
    profiler = tf.compat.v1.profiler
    counting = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
    counting.with_accounted_types(["Conv2D", "DepthwiseConv2dNative"]).with_empty_output()
    operations = profiler.profile(graph, options=counting.build(), cmd="op").total_float_ops

    summary = summarize_network(settings, SIZE)

    assert summary.multiply_adds == operations / 2
    assert summary.parameters == network.count_params()


@pytest.mark.parametrize("kind", NETWORKS)
def test_stages_are_the_end_points_then_decoders_and_heads(kind: str) -> None:
    settings = NETWORKS[kind]()
    summary, alone = summarize_network(settings, SIZE), summarize_encoder(settings, SIZE)
    encoder = build_encoder(settings, SIZE, random_values=False)

    assert tuple(stage.name for stage in summary.stages) == (*ENCODER, *OTHERS)
    assert summary.stages[:5] == alone.stages
    assert {stage.name: (None, *stage.output_size, stage.output_channels) for stage in alone.stages} == {
        name: tuple(tensor.shape) for name, tensor in encoder.output.items()
    }
    assert alone.parameters == encoder.count_params()
    sizes = {stage.name: (stage.output_size, stage.output_channels) for stage in summary.stages}
    at_stride_4 = (21, 29)
    assert sizes["semantic_head"] == (at_stride_4, 19)
    assert sizes["center_head"] == (at_stride_4, 1)
    assert sizes["regression_head"] == (at_stride_4, 2)
    assert sizes["semantic_decoder.aspp"][0] == sizes["res5"][0]
    assert all(stage.parameters > 0 and stage.multiply_adds > 0 for stage in summary.stages)


def test_what_no_output_depends_on_is_not_computed() -> None:
    with_decoder, without = (
        summarize_network(options(f"cityscapes/{name}_os16", **NARROW), SIZE)
        for name in ("max_deeplab_l_backbone", "axial_swidernet_1_1_1")
    )

    (unread,) = (stage for stage in with_decoder.stages if stage.name == "unread")
    assert unread.multiply_adds == 0
    assert unread.parameters == with_decoder.parameters - without.parameters > 0
    assert [stage for stage in with_decoder.stages if stage != unread] == list(without.stages)


def test_stages_of_kmax() -> None:
    settings = load_registry().resolve("coco/kmax_resnet50").network

    summary = summarize_network(settings, SIZE)

    stages = {stage.name: stage for stage in summary.stages}
    # In each k-means layer, the class head that only a training reads.
    assert (stages["unread"].parameters, stages["unread"].multiply_adds) == (6 * (256 + 1) * 134, 0)
    assert tuple(stages) == (
        *ENCODER,
        "unread",
        "semantic_decoder.aspp",
        "semantic_decoder",
        "semantic_head",
        "pixel_decoder",
        "transformer_decoder",
        "pixel_space_head",
        "mask_head",
        "class_head",
    )
    at_stride_4, slots = (21, 29), 128
    pixels = at_stride_4[0] * at_stride_4[1]
    assert stages["mask_head"].output_size == at_stride_4
    assert stages["mask_head"].multiply_adds == slots * 256 * 128 + pixels * 128 * slots
    assert (stages["class_head"].output_size, stages["class_head"].output_channels) == ((1, slots), 134)
    assert stages["class_head"].multiply_adds == slots * 256 * 134
    # Both layers at each of three strides: sums over the pixels, and attention among the slots.
    layers = [2 * (h * w) for h, w in ((3, 4), (6, 8), (11, 15))]
    products = sum(layers) * slots * (256 + 128) + 6 * slots**2 * (128 + 256)
    assert stages["transformer_decoder"].multiply_adds > products
    assert summary.parameters == 72_650_796


def test_a_summary_leaves_no_trace() -> None:
    """Networks built before and after have their values; the summary's own take no memory."""
    before = keras.layers.Dense(3)
    before(np.ones((1, 2), np.float32))
    kernel = np.asarray(before.kernel)

    summarize_network(options("cityscapes/swidernet_sac_1_1_4.5_os16"), SIZE)

    np.testing.assert_array_equal(before.kernel, kernel)
    after = keras.layers.Dense(3)
    assert after(np.ones((1, 2), np.float32)).shape == (1, 3)
    assert keras.config.floatx() == "float32"

"""Writes the layers that only ConvNeXt and kMaX-DeepLab have, as parts of an ONNX graph."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from zoo.model.backbones.convnext import GroupedDepthwiseConv2D, LayerScale
from zoo.model.backend import values_of
from zoo.model.decoders.kmeans_transformer import (
    MEMORY_DEPTHS,
    MEMORY_HEADS,
    ClusterCenters,
    KMeansUpdate,
    MemoryAttention,
)
from zoo.model.decoders.mask_predictor import SHORTEST, ClassLogits, MaskLogits, UnitLength
from zoo.model.layers import Dense, factor_and_shift
from zoo.runtimes.onnx_nodes import Graph, Inputs, Shapes, Writer


def _activation(graph: Graph, layer: Any, inputs: Inputs, shapes: Shapes) -> str:
    return graph.activate(layer.activation, inputs[0], layer.name)


def _dense(graph: Graph, layer: Any, inputs: Inputs, shapes: Shapes) -> str:
    """Writes a product with a kernel: of slots, or of features as a convolution."""
    name, kernel = layer.name, values_of(layer.kernel).reshape(layer.kernel.shape[-2:])
    bias = [] if layer.bias is None else [graph.constant(values_of(layer.bias), f"{name}.bias")]
    if len(shapes[0]) == 4:
        found = graph.add(
            "Conv", [*inputs, graph.kernel(kernel.T[:, :, None, None], f"{name}.kernel"), *bias], name
        )
    else:
        found = graph.add("MatMul", [*inputs, graph.kernel(kernel, f"{name}.kernel")], f"{name}.product")
        found = graph.add("Add", [found, *bias], name) if bias else found
    return graph.activate(layer.activation, found, f"{name}.activated")


def _class_logits(graph: Graph, layer: Any, inputs: Inputs, shapes: Shapes) -> str:
    void = graph.constant(layer.prior(), f"{layer.name}.prior")
    return graph.add("Add", [_dense(graph, layer, inputs, shapes), void], f"{layer.name}.logits")


def _grouped_depthwise(graph: Graph, layer: Any, inputs: Inputs, shapes: Shapes) -> str:
    # [y, x, 1, channels] to [channels, 1, y, x].
    kernel = graph.kernel(values_of(layer.kernel).transpose(3, 2, 0, 1), f"{layer.name}.kernel")
    return graph.convolve(layer, inputs[0], kernel, layer.name, groups=shapes[0][3])


def _layer_norm(graph: Graph, layer: Any, inputs: Inputs, shapes: Shapes) -> str:
    name = layer.name
    features = graph.add("Transpose", inputs, f"{name}.channels_last", perm=[0, 2, 3, 1])
    variables = [
        graph.constant(values_of(each), f"{name}.{part}")
        for part, each in (("gamma", layer.gamma), ("beta", layer.beta))
    ]
    normalized = graph.add(
        "LayerNormalization", [features, *variables], f"{name}.normalized", axis=-1, epsilon=layer.epsilon
    )
    return graph.add("Transpose", [normalized], name, perm=[0, 3, 1, 2])


def _batch_norm(graph: Graph, layer: Any, inputs: Inputs, shapes: Shapes) -> str:
    """Writes one that no convolution absorbs."""
    gamma, beta, mean, variance = (
        values_of(each).astype(np.float64)
        for each in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    )
    factor = gamma / np.sqrt(variance + layer.epsilon)
    return _scaled_and_shifted(graph, inputs[0], factor, beta - mean * factor, layer.name, len(shapes[0]))


def _layer_scale(graph: Graph, layer: Any, inputs: Inputs, shapes: Shapes) -> str:
    factors = graph.constant(values_of(layer.factors).reshape(-1, 1, 1), f"{layer.name}.factors")
    return graph.add("Mul", [*inputs, factors], layer.name)


def _scaled_and_shifted(
    graph: Graph, values: str, factor: np.ndarray, shift: np.ndarray, name: str, axes: int = 3
) -> str:
    """Appends a factor and a shift, of each channel of features (4 axes), or as they are (3)."""
    shape = (-1, 1, 1) if axes == 4 else np.shape(factor)
    factors, shifts = (
        graph.constant(np.reshape(each, shape).astype(np.float32), f"{name}.{part}")
        for part, each in (("factor", factor), ("shift", shift))
    )
    scaled = graph.add("Mul", [values, factors], f"{name}.scaled")
    return graph.add("Add", [scaled, shifts], name)


def _zero_padding(graph: Graph, layer: Any, inputs: Inputs, shapes: Shapes) -> str:
    (above, below), (left, right) = layer.padding
    around = graph.constant(np.array([0, 0, above, left, 0, 0, below, right]), f"{layer.name}.around")
    return graph.add("Pad", [*inputs, around], layer.name)


def _unit_length(graph: Graph, layer: Any, inputs: Inputs, shapes: Shapes) -> str:
    shortest = graph.constant(np.float32(SHORTEST), f"{layer.name}.shortest")
    length = graph.add("ReduceL2", inputs, f"{layer.name}.length", axes=[1])
    divisor = graph.add("Max", [length, shortest], f"{layer.name}.divisor")
    return graph.add("Div", [*inputs, divisor], f"{layer.name}.divided")  # An output has the layer's name.


def _reshape(graph: Graph, values: str, shape: tuple[int, ...], name: str) -> str:
    return graph.add("Reshape", [values, graph.constant(np.array(shape), f"{name}.shape")], name)


def _mask_logits(graph: Graph, layer: Any, inputs: Inputs, shapes: Shapes) -> str:
    (pixels, slots), (_, height, width, channels), name = inputs, shapes[0], layer.name
    factor, shift = map(keras.ops.convert_to_numpy, factor_and_shift(layer.normalization, layer.epsilon))
    flat = _reshape(graph, pixels, (1, channels, height * width), f"{name}.pixels")
    product = graph.add("MatMul", [slots, flat], f"{name}.product")
    logits = _scaled_and_shifted(graph, product, factor, shift, f"{name}.normalized")
    return _reshape(graph, logits, (1, -1, height, width), name)


def _cluster_centers(graph: Graph, layer: Any, inputs: Inputs, shapes: Shapes) -> str:
    return graph.kernel(values_of(layer.centers), layer.name)


def _kmeans_update(graph: Graph, layer: Any, inputs: Inputs, shapes: Shapes) -> str:
    (logits, values), (_, height, width, slots), name = inputs, shapes[0], layer.name
    flat = _reshape(graph, logits, (1, slots, height * width), f"{name}.logits")
    strongest = graph.add("ArgMax", [flat], f"{name}.strongest", axis=1, keepdims=1)
    numbers = graph.constant(np.arange(slots)[None, :, None], f"{name}.slots")
    is_of_slot = graph.add("Equal", [strongest, numbers], f"{name}.is_of_slot")
    belongs = graph.add("Cast", [is_of_slot], f"{name}.belongs", to=1)
    flat = _reshape(graph, values, (1, -1, height * width), f"{name}.values")
    rows = graph.add("Transpose", [flat], f"{name}.rows", perm=[0, 2, 1])
    return graph.add("MatMul", [belongs, rows], name)


def _memory_attention(graph: Graph, layer: Any, inputs: Inputs, shapes: Shapes) -> str:
    name, slots = layer.name, shapes[0][1]
    ends = np.cumsum([0, *MEMORY_DEPTHS])
    parts = []
    for part, first, end, axes in zip(
        ("query", "key", "value"), ends, ends[1:], ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=False
    ):
        bounds = [graph.constant(np.array([each]), f"{name}.{part}.{each}") for each in (first, end)]
        axis = graph.constant(np.array([2]), f"{name}.{part}.axis")
        cut = graph.add("Slice", [*inputs, *bounds, axis], f"{name}.{part}.cut")
        heads = _reshape(graph, cut, (1, slots, MEMORY_HEADS, -1), f"{name}.{part}.heads")
        parts.append(graph.add("Transpose", [heads], f"{name}.{part}", perm=axes))
    query, key, value = parts
    factor, _ = factor_and_shift(layer.similarity, layer.epsilon)
    factors = graph.constant(keras.ops.convert_to_numpy(factor).reshape(MEMORY_HEADS, 1, 1), f"{name}.factor")
    query = graph.add("Mul", [query, factors], f"{name}.scaled_query")
    similarity = graph.add("MatMul", [query, key], f"{name}.similarity")
    weights = graph.add("Softmax", [similarity], f"{name}.weights", axis=-1)
    retrieved = graph.add("MatMul", [weights, value], f"{name}.retrieved")
    scale, shift = map(keras.ops.convert_to_numpy, factor_and_shift(layer.retrieved, layer.epsilon))
    retrieved = _scaled_and_shifted(graph, retrieved, scale, shift, f"{name}.normalized")
    of_slots = graph.add("Transpose", [retrieved], f"{name}.of_slots", perm=[0, 2, 1, 3])
    return _reshape(graph, of_slots, (1, slots, -1), name)


KMAX_WRITERS: dict[type, Writer] = {
    keras.layers.Activation: _activation,
    keras.layers.BatchNormalization: _batch_norm,
    keras.layers.LayerNormalization: _layer_norm,
    keras.layers.ZeroPadding2D: _zero_padding,
    GroupedDepthwiseConv2D: _grouped_depthwise,
    LayerScale: _layer_scale,
    Dense: _dense,
    ClassLogits: _class_logits,
    UnitLength: _unit_length,
    MaskLogits: _mask_logits,
    ClusterCenters: _cluster_centers,
    KMeansUpdate: _kmeans_update,
    MemoryAttention: _memory_attention,
}
"""What writes a layer of each kind; beside these, they have those of Panoptic-DeepLab's networks."""

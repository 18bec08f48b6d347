"""Writes a Keras network as an ONNX graph, layer by layer, with channels before height and width.

Every size is fixed. Resizes are written by size: by scale, readers round sizes in different ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import onnx
from onnx import TensorProto, helper

from zoo.model.backbones.axial_attention import HEADS, AxialAttention
from zoo.model.backbones.switchable_atrous import LARGE_RATE, SwitchableAtrousConv2D
from zoo.model.backend import values_of
from zoo.model.layers import Conv2D, DepthwiseConv2D, HardSwish, NormalizeImage, ResizeLike, WindowAverage
from zoo.runtimes.onnx_kmax import KMAX_WRITERS
from zoo.runtimes.onnx_nodes import Graph, Inputs, Shapes, Writer

_OPSET, _IR_VERSION = 17, 8
"""Of 2022: read by every ONNX Runtime, OpenVINO and TensorRT since."""

_TO_CHANNELS_FIRST, _TO_CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


def onnx_model(
    network: keras.Model, size: tuple[int, int], metadata: Mapping[str, str], *, half_weights: bool = False
) -> onnx.ModelProto:
    """Returns a network of `zoo.model.build`, folded or not at all normalised, as an ONNX model.

    Args:
      network: its batch normalisation is folded.
      size: (height, width) of the image.
      metadata: what the file says of itself.
      half_weights: whether kernels are stored in float16; they are float32 again before they are used.

    Returns:
      A model of `images` [1, H, W, 3] float32, RGB 0..255, to the network's maps, in its shapes, float32.

    Raises:
      UsageError: a layer that cannot be written.
    """
    graph = Graph(_WRITERS | KMAX_WRITERS, half_weights)
    images = keras.Input((*size, 3), batch_size=1, name="images")
    graph.names[id(images)] = "images"
    graph.tensors.append(images)
    clone = keras.models.clone_model(
        network, input_tensors=images, clone_function=lambda layer: layer, call_function=graph.call
    )
    outputs = []
    for name, tensor in clone.output.items():
        if len(tensor.shape) == 4:
            graph.add("Transpose", [graph.names[id(tensor)]], name, perm=_TO_CHANNELS_LAST)
        else:
            graph.add("Identity", [graph.names[id(tensor)]], name)
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(tensor.shape)))
    argument = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, *size, 3])
    model = helper.make_model(
        helper.make_graph(graph.nodes, network.name, [argument], outputs, graph.weights),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="panoptic-zoo",
    )
    helper.set_model_props(model, dict(metadata))
    return model


def _normalize(graph: Graph, layer: Any, inputs: Inputs, shapes: Shapes) -> str:
    images = graph.add("Transpose", inputs, f"{layer.name}.channels_first", perm=_TO_CHANNELS_FIRST)
    half = graph.constant(np.float32(127.5), f"{layer.name}.half")
    one = graph.constant(np.float32(1.0), f"{layer.name}.one")
    scaled = graph.add("Div", [images, half], f"{layer.name}.scaled")
    return graph.add("Sub", [scaled, one], layer.name)


def _convolution(graph: Graph, layer: Any, inputs: Inputs, shapes: Shapes) -> str:
    # [y, x, in, out] to [out, in, y, x].
    kernel = graph.kernel(values_of(layer.kernel).transpose(3, 2, 0, 1), f"{layer.name}.kernel")
    convolved = graph.convolve(layer, inputs[0], kernel, layer.name)
    return graph.activate(layer.activation, convolved, f"{layer.name}.activated")


def _depthwise(graph: Graph, layer: Any, inputs: Inputs, shapes: Shapes) -> str:
    # [y, x, channels, 1] to [channels, 1, y, x].
    kernel = graph.kernel(values_of(layer.kernel).transpose(2, 3, 0, 1), f"{layer.name}.kernel")
    return graph.convolve(layer, inputs[0], kernel, layer.name, groups=shapes[0][3])


def _switchable(graph: Graph, layer: Any, inputs: Inputs, shapes: Shapes) -> str:
    features, switch = inputs
    name = layer.name
    kernel = graph.kernel(values_of(layer.kernel).transpose(3, 2, 0, 1), f"{name}.kernel")
    small = graph.convolve(layer, features, kernel, f"{name}.small")
    large = graph.convolve(layer, features, kernel, f"{name}.large", rate=LARGE_RATE)
    one = graph.constant(np.float32(1.0), f"{name}.one")
    rest = graph.add("Sub", [one, switch], f"{name}.rest")
    switched = [
        graph.add("Mul", [switch, large], f"{name}.large_part"),
        graph.add("Mul", [rest, small], f"{name}.small_part"),
    ]
    return graph.add("Add", switched, name)


def _axial_attention(graph: Graph, layer: Any, inputs: Inputs, shapes: Shapes) -> str:
    """Writes the products of `AxialAttention.call`, of queries, keys and values [heads, depth, h, w]."""
    name, (height, width) = layer.name, shapes[0][1:3]
    own, other = ("hdln", "hdmn") if layer.axis == 1 else ("hdnl", "hdnm")
    tensors = layer.factors_and_shifts()
    kernel, bias = map(keras.ops.convert_to_numpy, layer.projection(*tensors))
    factors = {key: keras.ops.convert_to_numpy(values) for key, values in tensors[0].items()}
    rows = graph.constant(layer.rows_by_distance(shapes[0][layer.axis]), f"{name}.rows")
    projected, positions = [], []
    for part, (first, end) in zip(("query", "key", "value"), layer.parts_of_channels(), strict=True):
        weights = graph.kernel(kernel.T[first:end, :, None, None], f"{name}.{part}.kernel")
        shift = graph.constant(bias[first:end], f"{name}.{part}.bias")
        flat = graph.add("Conv", [*inputs, weights, shift], f"{name}.{part}.flat")
        shape = graph.constant(np.array([HEADS, -1, height, width]), f"{name}.{part}.shape")
        projected.append(graph.add("Reshape", [flat, shape], f"{name}.{part}"))
        table = graph.kernel(values_of(layer.positions[part]), f"{name}.{part}.table")
        positions.append(graph.add("Gather", [table, rows], f"{name}.{part}.positions"))

    def scaled(values: str, factor: np.ndarray, part: str) -> str:
        return graph.add("Mul", [values, graph.constant(factor, f"{name}.{part}.factor")], f"{name}.{part}")

    def product(equation: str, first: str, second: str, part: str) -> str:
        return graph.add("Einsum", [first, second], f"{name}.{part}", equation=equation)

    query, key, value = projected
    content, by_query, by_key = factors["similarity"].reshape(3, HEADS, 1, 1, 1)
    query_content = scaled(query, content, "query_content")
    query_place, key_place = scaled(query, by_query, "query_place"), scaled(key, by_key, "key_place")
    similarities = [
        product(f"{own},{other}->nhlm", query_content, key, "by_content"),
        product(f"{own},lmd->nhlm", query_place, positions[0], "by_query"),
        product(f"{other},lmd->nhlm", key_place, positions[1], "by_key"),
    ]
    similarity = graph.add("Sum", similarities, f"{name}.similarity")
    attention = graph.add("Softmax", [similarity], f"{name}.weights", axis=-1)
    retrieved_places = product(f"nhlm,lmd->{own}", attention, positions[2], "retrieved_places")
    of_places = factors["retrieved_output"][1].reshape(HEADS, -1, 1, 1)
    retrieved = [
        product(f"nhlm,{other}->{own}", attention, value, "retrieved_values"),
        scaled(retrieved_places, of_places, "retrieved_positions"),
    ]
    total = graph.add("Add", retrieved, f"{name}.retrieved")
    shape = graph.constant(np.array([1, -1, height, width]), f"{name}.shape")
    return graph.add("Reshape", [total, shape], name)


def _resize(graph: Graph, layer: Any, inputs: Inputs, shapes: Shapes) -> str:
    before, _, after = shapes
    sizes = graph.constant(np.array([1, after[3], *after[1:3]], np.int64), f"{layer.name}.size")
    if before[1:3] == (1, 1):
        return graph.add("Expand", [inputs[0], sizes], layer.name)
    return graph.add(
        "Resize",
        [inputs[0], "", "", sizes],
        layer.name,
        mode="linear",
        coordinate_transformation_mode="align_corners",
    )


def _window_average(graph: Graph, layer: Any, inputs: Inputs, shapes: Shapes) -> str:
    if shapes[-1][1:3] == (1, 1):
        return graph.add("GlobalAveragePool", inputs, layer.name)
    height, width = (before - after + 1 for before, after in zip(shapes[0][1:3], shapes[1][1:3], strict=True))
    rows = graph.add("AveragePool", inputs, f"{layer.name}.rows", kernel_shape=[height, 1])
    return graph.add("AveragePool", [rows], layer.name, kernel_shape=[1, width])


def _sum(graph: Graph, layer: Any, inputs: Inputs, shapes: Shapes) -> str:
    return graph.add("Add" if len(inputs) == 2 else "Sum", inputs, layer.name)


def _pooling(operation: str) -> Writer:
    def write(graph: Graph, layer: Any, inputs: Inputs, shapes: Shapes) -> str:
        around = [(side - 1) // 2 if layer.padding == "same" else 0 for side in layer.pool_size]
        assert layer.padding == "valid" or max(layer.strides) == 1, layer.name
        return graph.add(
            operation,
            inputs,
            layer.name,
            kernel_shape=list(layer.pool_size),
            strides=list(layer.strides),
            pads=around * 2,
        )

    return write


def _operation(operation: str, **attributes: Any) -> Writer:
    def write(graph: Graph, layer: Any, inputs: Inputs, shapes: Shapes) -> str:
        return graph.add(operation, inputs, layer.name, **attributes)

    return write


_WRITERS: dict[type, Writer] = {
    NormalizeImage: _normalize,
    Conv2D: _convolution,
    keras.layers.Conv2D: _convolution,
    DepthwiseConv2D: _depthwise,
    SwitchableAtrousConv2D: _switchable,
    AxialAttention: _axial_attention,
    ResizeLike: _resize,
    WindowAverage: _window_average,
    HardSwish: _operation("HardSwish"),
    keras.layers.ReLU: _operation("Relu"),
    keras.layers.Add: _sum,
    keras.layers.Multiply: _operation("Mul"),
    keras.layers.Concatenate: _operation("Concat", axis=1),
    keras.layers.GlobalAveragePooling2D: _operation("GlobalAveragePool"),
    keras.layers.AveragePooling2D: _pooling("AveragePool"),
    keras.layers.MaxPooling2D: _pooling("MaxPool"),
}
"""What writes a layer of each kind."""

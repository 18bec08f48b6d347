"""What is written of an ONNX graph: its nodes, its weights, and the names of its values.

Features are [1, channels, height, width]; a row of slots is [1, slots, channels], as in Keras.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from zoo.errors import UsageError
from zoo.model.backend import values_of

Inputs: TypeAlias = list[str]
"""The names of a layer's inputs."""

Shapes: TypeAlias = list[tuple[int, ...]]
"""Of the inputs, channels last, and at the end that of the output."""

Writer: TypeAlias = "Callable[[Graph, Any, Inputs, Shapes], str]"
"""Writes a layer, and returns the name of its output."""

_ACTIVATIONS = {"linear": None, "relu": "Relu", "sigmoid": "Sigmoid"}


class Graph:
    """The nodes and weights written so far, and the name of each Keras tensor's value."""

    def __init__(self, writers: Mapping[type, Writer], half_weights: bool) -> None:
        """Begins an empty graph.

        Args:
          writers: what writes a layer of each kind.
          half_weights: whether kernels are stored in float16.
        """
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.names: dict[int, str] = {}
        self.tensors: list[Any] = []  # kept, so that no other takes the place and number of one
        self._writers = writers
        self._half_weights = half_weights

    def call(self, layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        """Calls a layer with tensors of Keras, and writes it."""
        kwargs.pop("training", None)
        inputs = [each for each in keras.tree.flatten((args, kwargs)) if each is not None]  # no mask
        output = layer(*args, **kwargs)
        write = next((self._writers[kind] for kind in type(layer).__mro__ if kind in self._writers), None)
        if write is None:
            raise UsageError(
                f"layer {layer.name} of type {type(layer).__name__} cannot be written as ONNX; "
                "--to openvino, litert or saved_model writes it"
            )
        names, shapes = [self.names[id(each)] for each in inputs], [each.shape for each in (*inputs, output)]
        self.names[id(output)] = write(self, layer, names, shapes)
        self.tensors.append(output)
        return output

    def add(self, operation: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """Appends a node of one output, `name`, and returns that."""
        self.nodes.append(helper.make_node(operation, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, values: Any, name: str) -> str:
        """Appends small values that are never rounded, and returns their name."""
        self.weights.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def kernel(self, values: np.ndarray, name: str) -> str:
        """Appends a kernel, in the precision of the file, and returns the name of its float32 values."""
        if not self._half_weights:
            return self.constant(np.ascontiguousarray(values, np.float32), name)
        half = self.constant(np.ascontiguousarray(values, np.float16), f"{name}.half")
        return self.add("Cast", [half], name, to=TensorProto.FLOAT)

    def activate(self, activation: Callable[..., Any], values: str, name: str) -> str:
        """Appends an activation of Keras, and returns the name of its values; for none, `values`."""
        kind = activation.__name__
        if kind == "gelu":
            return self._gelu(values, name)
        operation = _ACTIVATIONS[kind]
        return self.add(operation, [values], name) if operation else values

    def _gelu(self, values: str, name: str) -> str:
        # The operations, and their order, that ONNX Runtime knows and joins.
        root, one, half = (
            self.constant(np.float32(value), f"{name}.{part}")
            for part, value in (("root", math.sqrt(2.0)), ("one", 1.0), ("half", 0.5))
        )
        divided = self.add("Div", [values, root], f"{name}.divided")
        error = self.add("Erf", [divided], f"{name}.error")
        raised = self.add("Add", [error, one], f"{name}.raised")
        product = self.add("Mul", [values, raised], f"{name}.product")
        return self.add("Mul", [product, half], name)

    def convolve(
        self, layer: Any, features: str, kernel: str, name: str, *, rate: int = 1, groups: int = 1
    ) -> str:
        """Appends the convolution of a layer with a kernel that is written, and its bias."""
        rates = [rate * each for each in layer.dilation_rate]
        around = [
            (side - 1) * each // 2 if layer.padding == "same" else 0
            for side, each in zip(layer.kernel_size, rates, strict=True)
        ]
        bias = [self.constant(values_of(layer.bias), f"{name}.bias")] if layer.bias is not None else []
        return self.add(
            "Conv",
            [features, kernel, *bias],
            name,
            strides=list(layer.strides),
            dilations=rates,
            pads=around * 2,
            group=groups,
        )

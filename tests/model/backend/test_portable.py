"""The portable forms equal TensorFlow's own, which the goldens hold to the reference implementation."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.model.backend import portable, tensorflow, zeros_apart
from zoo.model.layers import Conv2D, DepthwiseConv2D

MODEL = Path(__file__).parents[3] / "model"
SIDES = st.integers(1, 20)


def features_of(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


@settings(max_examples=40)
@given(source=st.tuples(SIDES, SIDES), target=st.tuples(SIDES, SIDES))
def test_resize(source: tuple[int, int], target: tuple[int, int]) -> None:
    features = features_of(2, *source, 3)

    found = portable.resize(features, target)

    np.testing.assert_allclose(found, tensorflow.resize(features, target), atol=1e-6)


@settings(max_examples=25)
@given(
    size=st.tuples(SIDES, SIDES),
    kernel_size=st.sampled_from([1, 3, 5]),
    strides_and_rate=st.sampled_from([(1, 1), (2, 1), (1, 2), (1, 3)]),
    kind=st.sampled_from(["conv2d", "depthwise_conv2d"]),
)
def test_convolutions(
    size: tuple[int, int], kernel_size: int, strides_and_rate: tuple[int, int], kind: str
) -> None:
    strides, rate = strides_and_rate
    layer = DepthwiseConv2D(kernel_size) if kind == "depthwise_conv2d" else Conv2D(4, kernel_size)
    padding = "same" if strides == 1 else "valid"
    features = features_of(1, *(side + 12 for side in size), 3)
    layer.build(features.shape)
    arguments = features, layer.kernel, (strides, strides), padding, (rate, rate)

    found = getattr(portable, kind)(*arguments)

    np.testing.assert_allclose(found, getattr(tensorflow, kind)(*arguments), atol=1e-5)


@pytest.mark.parametrize("form", [portable, tensorflow])
def test_values_are_given_up_and_taken(form: Any) -> None:
    variable = keras.Variable(form.SharedZeros(), shape=(3, 5), dtype="float32")
    values = zeros_apart((3, 5))
    values[:] = features_of(3, 5)

    form.give_up_values(variable)
    form.take_values(variable, values, copy=False)

    np.testing.assert_array_equal(form.values_of(variable), features_of(3, 5))


def test_only_what_is_tensorflow_s_own_imports_it_at_the_top() -> None:
    def imports_it(path: Path) -> bool:
        nodes = ast.parse(path.read_text()).body
        names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        return "tensorflow" in names

    found = {str(path.relative_to(MODEL)) for path in MODEL.rglob("*.py") if imports_it(path)}

    assert found == {"backend/tensorflow.py", "postprocess/center_offset_graph.py"}

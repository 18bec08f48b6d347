"""What networks need of Keras on JAX, where that is not `zoo.model.backend.portable`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras


def after(computed: Sequence[Any], value: Any) -> Any:
    """Returns `value`, for computations that begin once those of `computed` are finished."""
    import jax

    return jax.lax.optimization_barrier((value, *computed))[0]


def compiled(function: Callable[[Any], Any], network: keras.Model) -> Callable[[Any], Any]:
    """Returns `function` of a batch of images as one compiled graph for each size of a batch.

    `network`'s variables are those that the function reads; their values are read at every call.
    """
    import jax

    variables = network.variables

    @jax.jit
    def graph(values: list[Any], images: Any) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return function(images)

    return lambda images: graph([each.value for each in variables], keras.ops.cast(images, "float32"))

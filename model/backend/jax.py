"""What networks need of Keras on JAX, where that is not `zoo.model.backend.portable`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from zoo.model.backend.portable import unchanged


def compute_in_full_precision() -> None:
    """Lets GPUs and TPUs multiply float32 numbers with all digits, which is not their default."""
    import jax

    jax.config.update("jax_default_matmul_precision", "highest")


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


def compiled_per_image(
    function: Callable[..., Any], dtype: np.dtype[Any], then: Callable[[Any], Any] = unchanged
) -> Callable[..., Any]:
    """Returns the function of `portable.compiled_per_image`.

    `function` is compiled for each pair of sizes, which takes a fraction of a second; `then` is not.
    """
    import jax

    resized = jax.jit(function, static_argnums=1)
    return lambda image, size: then(resized(image, tuple(map(int, size))))

"""What differs between Keras' backends: a backend's own form where it has a faster one, else the portable."""

import keras

from zoo.model.backend.portable import (
    SharedZeros,
    after,
    argmax,
    as_array,
    compiled_per_image,
    conv2d,
    depthwise_conv2d,
    gelu,
    give_up_values,
    resize,
    take_values,
    values_of,
    zeros_apart,
)

if keras.backend.backend() == "tensorflow":
    from zoo.model.backend.tensorflow import (
        SharedZeros,
        after,
        argmax,
        as_array,
        compiled,
        compiled_per_image,
        compute_in_full_precision,
        conv2d,
        depthwise_conv2d,
        gelu,
        give_up_values,
        resize,
        take_values,
        values_of,
    )
elif keras.backend.backend() == "jax":
    from zoo.model.backend.jax import after, compiled, compiled_per_image, compute_in_full_precision
else:
    from zoo.model.backend.torch import (
        as_array,
        compiled,
        compute_in_full_precision,
        name_parameters_without_dots,
        values_of,
    )

    name_parameters_without_dots()

compute_in_full_precision()

__all__ = [
    "SharedZeros",
    "after",
    "argmax",
    "as_array",
    "compiled",
    "compiled_per_image",
    "conv2d",
    "depthwise_conv2d",
    "gelu",
    "give_up_values",
    "resize",
    "take_values",
    "values_of",
    "zeros_apart",
]

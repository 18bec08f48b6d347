"""What networks need of Keras on PyTorch, where that is not `zoo.model.backend.portable`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np


def compute_in_full_precision() -> None:
    """Lets GPUs multiply float32 numbers with all digits, which is not their default."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def name_parameters_without_dots() -> None:
    """Lets layers have dots in their names, as ours do: PyTorch refuses them in the name of a parameter.

    Keras names a parameter by its variable's path; each dot of that becomes a colon.
    """

    import torch

    def track_variables(layer: keras.layers.Layer) -> None:
        named = {variable.path.replace(".", ":"): variable.value for variable in layer.variables}
        layer._torch_params = torch.nn.ParameterDict(named)

    keras.layers.Layer._track_variables = track_variables


def as_array(tensor: Any) -> np.ndarray:
    """Returns the values of a tensor, wherever it is."""
    return tensor.detach().cpu().numpy()


def values_of(variable: keras.Variable) -> np.ndarray:
    """Returns the values of a variable, not to be written to."""
    return as_array(variable.value)


def compiled(function: Callable[[Any], Any], network: keras.Model) -> Callable[[Any], Any]:
    """Returns `function` of a batch of images, without what only a training needs.

    The values of variables are read at every call.
    """

    import torch

    def call(images: Any) -> Any:
        with torch.no_grad():
            return function(keras.ops.cast(images, "float32"))

    return call

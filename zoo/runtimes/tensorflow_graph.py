"""A Keras network as the graph that TensorFlow's own converters read: one image of one size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2


def tensorflow_variables(network: keras.Model) -> list[tf.Variable]:
    """Returns the variables of a network, for an object that is saved in its place.

    Of a saved Keras network, TensorFlow Serving and `saved_model_cli` restore other variables than its
    functions read.
    """
    return [variable.value for variable in network.variables]


class OneImageGraph(tf.Module):
    """A network of one batch size and image size, with the variables that its function reads.

    Attributes:
      function: concrete, of `images` [1, H, W, 3] float32, RGB 0..255, to the network's maps.
    """

    def __init__(
        self, maps: Callable[[tf.Tensor], dict[str, tf.Tensor]], size: tuple[int, int], network: Any = None
    ) -> None:
        """Traces a function of an image of `size` (height, width), which reads the variables of `network`."""
        super().__init__()
        self.own_variables = tensorflow_variables(network) if network is not None else []
        self._size = size
        image = tf.TensorSpec((1, *size, 3), tf.float32, name="images")
        self.function = tf.function(maps, input_signature=[image], autograph=False).get_concrete_function()

    @classmethod
    def of_network(cls, network: keras.Model, size: tuple[int, int]) -> OneImageGraph:
        """Returns the graph of a network of `zoo.model.build`."""
        return cls(lambda images: network(images, training=False), size, network)

    def frozen(self) -> OneImageGraph:
        """Returns the graph with constants in place of variables."""
        constant = convert_variables_to_constants_v2(self.function)
        outputs = self.function.structured_outputs
        return OneImageGraph(lambda images: tf.nest.pack_sequence_as(outputs, constant(images)), self._size)

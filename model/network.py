"""Networks of images of one size, which say what is wrong with other images."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from zoo.errors import UsageError


@keras.saving.register_keras_serializable(package="zoo")
class ImageNetwork(keras.Model):
    """A Keras network of one batch of images, checked before Keras sees it."""

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls the network as Keras does.

        Raises:
          UsageError: something that is no batch of images of the network's input size.
        """
        check_images(self, inputs)
        return super().__call__(inputs, *args, **kwargs)


def check_images(network: Any, images: Any) -> None:
    """Checks that images are a batch of a network's input size, as far as their shape is known.

    Args:
      network: whose `input_shape` and `entry` are read.
      images: an array or a tensor, symbolic or not, alone in a structure or by itself.

    Raises:
      UsageError: they are not, or not of numbers.
    """
    leaves = keras.tree.flatten(images)
    tensor = leaves[0] if len(leaves) == 1 else images
    remedies = ["give a batch of RGB images"]
    if hasattr(tensor, "shape") and hasattr(tensor, "dtype"):
        shape = tf.TensorShape(tensor.shape)
        # The name of a type, whichever library the array is of.
        dtype = str(getattr(tensor.dtype, "name", tensor.dtype))
        is_number = "int" in dtype or "float" in dtype
        if shape.rank is None or (is_number and shape.is_compatible_with(network.input_shape)):
            return
        found = f"{dtype} {list(shape)}"
        if is_number and shape.rank == 4 and shape[3] == 3:
            remedies = [f"load the network with `zoo.load(..., input_size=({shape[1]}, {shape[2]}))`"]
    else:
        found = type(tensor).__name__
    if hasattr(network, "predict_panoptic"):
        remedies.append("use `predict_panoptic`, which takes one image of any size")
    entry = getattr(network, "entry", None)
    expected = ", ".join(str(side) for side in network.input_shape[1:])
    raise UsageError(
        f"{entry.name if entry else network.name}: expected RGB images [B, {expected}], found {found}; "
        f"{', or '.join(remedies)}"
    )

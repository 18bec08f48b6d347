"""Summarises a network stage by stage, without computing or holding any of its values."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import keras

from zoo.model.backbones.switchable_atrous import SwitchableAtrousConv2D
from zoo.model.build import build_encoder, build_network
from zoo.model.layers import Unread
from zoo.registry.network_options import EncoderOptions, KMaxOptions, NetworkOptions

_UNREAD = "unread"

# After the encoder: the first part of a layer's name, or the first two for ASPP -> stage.
_STAGES = {
    "semantic_decoder.aspp": "semantic_decoder.aspp",
    "semantic_decoder": "semantic_decoder",
    "semantic_head_without_last_layer": "semantic_head",
    "semantic_last_layer": "semantic_head",
    "instance_decoder.aspp": "instance_decoder.aspp",
    "instance_decoder": "instance_decoder",
    "instance_center_head_without_last_layer": "center_head",
    "instance_center_head_last_layer": "center_head",
    "instance_regression_head_without_last_layer": "regression_head",
    "instance_regression_head_last_layer": "regression_head",
    "pixel_decoder": "pixel_decoder",
    "transformer_decoder": "transformer_decoder",
    **dict.fromkeys(
        ("pixel_space_head", "pixel_space_feature_batch_norm", "pixel_features"), "pixel_space_head"
    ),
    **dict.fromkeys(("transformer_mask_head", "pixel_space_mask_batch_norm"), "mask_head"),
    "transformer_class_head": "class_head",
}


@dataclass(frozen=True)
class Stage:
    """A part of a network."""

    # `res1` to `res5` for what leads to that end point of the encoder, else the decoder or head; `unread` for
    # what no output depends on.
    name: str
    output_size: tuple[int, int]  # (height, width), in px of that map
    output_channels: int
    parameters: int  # values in its variables
    multiply_adds: int  # of its convolutions and products, for one image; see `multiply_adds`


@dataclass(frozen=True)
class Summary:
    """The stages of a network, in the order of computation; together they are the whole network."""

    input_size: tuple[int, int]  # (height, width) in px
    stages: tuple[Stage, ...]

    @property
    def parameters(self) -> int:
        """Values in all variables."""
        return sum(stage.parameters for stage in self.stages)

    @property
    def multiply_adds(self) -> int:
        """Of all convolutions and products, for one image."""
        return sum(stage.multiply_adds for stage in self.stages)


def summarize_network(options: NetworkOptions | KMaxOptions, input_size: tuple[int, int]) -> Summary:
    """Returns the stages of a network for images of `input_size` (height, width) in px.

    Raises:
      UsageError: as `build_network`.
    """
    return _summarize(options, input_size, build_network)


def summarize_encoder(options: EncoderOptions, input_size: tuple[int, int]) -> Summary:
    """Returns the stages of an encoder alone, like `summarize_network`."""
    return _summarize(options, input_size, build_encoder)


def multiply_adds(layer: keras.layers.Layer) -> int:
    """Returns how often a convolution or a product multiplies and adds for an image; else 0.

    Each element of the kernel once for each position of the output, where it meets padding too. A switchable
    convolution computes both of its atrous rates. Attention and k-means count their own products. Not
    counted are normalisation, activations and resizing: they are not part of these, or are folded into one.
    """
    if own := getattr(layer, "multiply_adds", None):
        return int(own())
    kernel = getattr(layer, "kernel", None)
    if kernel is None:
        return 0
    positions = math.prod(layer.output.shape[1:-1])
    rates = 2 if isinstance(layer, SwitchableAtrousConv2D) else 1
    return int(positions * math.prod(kernel.shape) * rates)


def _summarize(
    options: EncoderOptions, input_size: tuple[int, int], build: Callable[..., keras.Model]
) -> Summary:
    """Builds a network whose variables know their shapes alone: the largest would take 2 GB."""

    def stages() -> tuple[Stage, ...]:
        with keras.StatelessScope(initialize_variables=False):
            encoder = build_encoder(options, input_size)
            network = encoder if build is build_encoder else build(options, input_size)
            place = _encoder_stages(encoder)
            read = _read_layers(network)
            return _stages(
                (place.get(each.name) or _stage_of(each.name) if each.name in read else _UNREAD, each)
                for each in network.layers
            )

    # Keras keeps a list of such variables, to initialise them later; the list ends with the thread.
    with ThreadPoolExecutor(1, thread_name_prefix="summary") as thread:
        return Summary(input_size, thread.submit(stages).result())


def _encoder_stages(encoder: keras.Model) -> dict[str, str]:
    """Returns for each layer of an encoder that an end point depends on the first such end point."""
    place: dict[str, str] = {}
    for endpoint in sorted(encoder.output):
        place.update(dict.fromkeys(_above(encoder.output[endpoint], place), endpoint))
    return place


def _read_layers(network: keras.Model) -> set[str]:
    """Returns the names of the layers that an output depends on."""
    found: set[str] = set()
    for output in network.output.values():
        found |= _above(output, found)
    return found


def _above(output: keras.KerasTensor, known: Collection[str]) -> set[str]:
    """Returns the names of the layers, other than those `known`, that `output` depends on."""
    found: set[str] = set()
    waiting = [output]
    while waiting:
        layer = waiting.pop()._keras_history.operation
        if layer.name not in known and layer.name not in found:
            found.add(layer.name)
            for node in layer._inbound_nodes:
                inputs = node.input_tensors
                waiting.extend(inputs[:1] if isinstance(layer, Unread) else inputs)
    return found


def _stage_of(name: str) -> str:
    first, _, rest = name.partition(".")
    with_second = f"{first}.{rest.partition('.')[0]}"
    return _STAGES.get(with_second) or _STAGES[first]


def _stages(placed: Iterable[tuple[str, keras.layers.Layer]]) -> tuple[Stage, ...]:
    members: dict[str, list[keras.layers.Layer]] = {}
    for name, layer in placed:
        members.setdefault(name, []).append(layer)
    order = [*sorted(name for name in members if name not in _STAGES.values()), *_STAGES.values()]
    stages = []
    for name in dict.fromkeys(order):
        if name in members:
            # Layers come in the order of computation, so the last one's output is the stage's.
            # Slots stand in one row.
            _, height, width, channels = (*(None, 1), *members[name][-1].output.shape[1:])[-4:]
            parameters = sum(layer.count_params() for layer in members[name])
            operations = 0 if name == _UNREAD else sum(map(multiply_adds, members[name]))
            stages.append(Stage(name, (height, width), channels, parameters, operations))
    return tuple(stages)

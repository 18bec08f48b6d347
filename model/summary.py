"""Summarises a network stage by stage, without computing or holding any of its values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import keras

from zoo.model.backbones.axial_attention import AxialAttention
from zoo.model.backbones.stacked_decoder import Unread
from zoo.model.backbones.switchable_atrous import SwitchableAtrousConv2D
from zoo.model.build import build_encoder, build_network
from zoo.registry.network_options import EncoderOptions, NetworkOptions

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
    multiply_adds: int  # of its convolutions and attention, for one image; see `multiply_adds`


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
        """Of all convolutions and attention, for one image."""
        return sum(stage.multiply_adds for stage in self.stages)


def summarize_network(options: NetworkOptions, input_size: tuple[int, int]) -> Summary:
    """Returns the stages of a Panoptic-DeepLab network for images of `input_size` (height, width) in px.

    Raises:
      UsageError: as `build_network`.
    """
    return _summarize(options, input_size, build_network)


def summarize_encoder(options: EncoderOptions, input_size: tuple[int, int]) -> Summary:
    """Returns the stages of an encoder alone, like `summarize_network`."""
    return _summarize(options, input_size, build_encoder)


def multiply_adds(layer: keras.layers.Layer) -> int:
    """Returns how often a convolution or attention multiplies and adds for an image; else 0.

    Each element of the kernel once for each position of the output, where it meets padding too. A switchable
    convolution computes both of its atrous rates. For attention see `AxialAttention.multiply_adds`. Not
    counted are normalisation, activations and resizing: they are not part of these, or are folded into one.
    """
    if isinstance(layer, AxialAttention):
        return layer.multiply_adds(layer.output.shape[1:3])
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
            return _stages((place.get(each.name) or _stage_of(each.name), each) for each in network.layers)

    # Keras keeps a list of such variables, to initialise them later; the list ends with the thread.
    with ThreadPoolExecutor(1, thread_name_prefix="summary") as thread:
        return Summary(input_size, thread.submit(stages).result())


def _encoder_stages(encoder: keras.Model) -> dict[str, str]:
    """Returns for each layer of an encoder the first end point that depends on it, or `_UNREAD`."""
    place: dict[str, str] = {}
    unread: list[keras.KerasTensor] = []
    starts = [(endpoint, [encoder.output[endpoint]]) for endpoint in sorted(encoder.output)]
    for endpoint, waiting in (*starts, (_UNREAD, unread)):
        while waiting:
            layer = waiting.pop()._keras_history.operation
            if layer.name not in place:
                place[layer.name] = endpoint
                for node in layer._inbound_nodes:
                    inputs = list(node.input_tensors)
                    if isinstance(layer, Unread):
                        unread.append(inputs.pop())
                    waiting.extend(inputs)
    return place


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
            _, height, width, channels = members[name][-1].output.shape
            parameters = sum(layer.count_params() for layer in members[name])
            operations = 0 if name == _UNREAD else sum(map(multiply_adds, members[name]))
            stages.append(Stage(name, (height, width), channels, parameters, operations))
    return tuple(stages)

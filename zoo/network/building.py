"""Builds the Keras network that an entry declares, panoptic or an ImageNet backbone."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypedDict

from zoo.errors import UsageError
from zoo.files.keras_backend import choose_backend, chosen_backend, import_backend
from zoo.registry.network_options import BackboneOptions, BatchNormOptions, EncoderOptions
from zoo.registry.schema import Backbone, Entry
from zoo.runtimes.choice import check_runtime, refuse_options

if TYPE_CHECKING:
    import keras

BACKBONE_INPUT_SIZE = (225, 225)
"""(height, width) in px of a backbone's images where none is asked for: about ImageNet's, one past 7 * 32."""
BACKBONE_OUTPUT_STRIDE = 32

_OF_ANY_RUNTIME = ("input_size", "optimize", "device", "runtime", "model")
"""The options of `LoadOptions` that a model file does not decide by itself; it is always folded."""


@dataclass(frozen=True)
class LoadOptions:
    """What a caller may choose about a network; see `zoo.load`."""

    input_size: tuple[int, int] | None = None
    precision: str = "float32"
    optimize: bool = False
    output_stride: int | None = None
    scales: Sequence[float] = (1.0,)
    flip: bool = False
    device: str | None = None
    runtime: str | None = None
    model: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        runtime = self.runtime or chosen_backend()
        check_runtime(runtime, self.model)
        self.refuse_for(runtime)

    def refuse_for(self, runtime: str) -> None:
        """Raises a `UsageError` where a runtime cannot follow these options; see `refuse_options`."""
        refuse_options(runtime, [name for name in self.chosen() if name not in _OF_ANY_RUNTIME], self.device)

    def checked(self, entry: Entry | Backbone) -> LoadOptions:
        """Returns the options with the input size as two integers, as they go with an entry.

        Raises:
          UsageError: a side below 2, or scales or mirroring that the entry's family does not average.
        """
        if entry.kind == "panoptic":
            from zoo.model.families import family_of

            family_of(entry).refuse_averages(entry.name, self.scales, self.flip)
        if self.input_size is None:
            return self
        try:
            height, width = map(operator.index, self.input_size)
        except (TypeError, ValueError):
            height, width = 0, 0
        if min(height, width) < 2:
            raise UsageError(
                f"{entry.name}: input_size: expected (height, width), two whole numbers of at least 2 px, "
                f"found {self.input_size!r}"
            )
        return replace(self, input_size=(height, width))

    def choose_backend(self) -> None:
        """Makes Keras compute with the runtime, or with what `KERAS_BACKEND` names.

        Raises:
          UsageError: it is not installed, or Keras computes with another already.
        """
        choose_backend(self.runtime or chosen_backend())

    def chosen(self) -> list[str]:
        """Returns the names of the options that are not the default."""
        return [each.name for each in fields(self) if getattr(self, each.name) != each.default]


class LoadKeywords(TypedDict, total=False):
    """The fields of `LoadOptions` that `zoo.load` passes on, for editors."""

    precision: str
    optimize: bool
    output_stride: int | None
    scales: Sequence[float]
    flip: bool
    device: str | None
    runtime: str | None
    model: str | os.PathLike[str] | None


def build_keras_model(
    entry: Entry | Backbone, options: LoadOptions, *, random_values: bool = True
) -> keras.Model:
    """Builds the Keras network of an entry with the input size, precision and output stride of `options`.

    `random_values=False` makes kernels of zeros: cheaper, where a checkpoint follows.

    Raises:
      UsageError: a precision, input size or output stride that cannot be built.
    """
    import_backend()
    from zoo.model.build import build_encoder, build_network

    stride, size = options.output_stride, options.input_size
    settings: dict[str, Any] = {"precision": options.precision, "random_values": random_values}
    if entry.kind == "backbone":
        return build_encoder(encoder_settings(entry, stride or BACKBONE_OUTPUT_STRIDE), size, **settings)
    if stride not in (None, entry.output_stride):
        raise UsageError(
            f"{entry.name}: output_stride: expected {entry.output_stride}, found {stride}; "
            "only an ImageNet backbone can be given another one"
        )
    return build_network(entry.network, size or entry.evaluation.crop_size, **settings)


def encoder_settings(backbone: Backbone, output_stride: int) -> EncoderOptions:
    """Returns what `build_encoder` reads, with what an ImageNet checkpoint does not decide.

    Raises:
      UsageError: an output stride that is not 8, 16 or 32.
    """
    if output_stride not in (8, 16, 32):
        raise UsageError(f"{backbone.name}: output_stride: expected 8, 16 or 32, found {output_stride}")
    architecture = backbone.network.backbone
    options = BackboneOptions(
        **architecture.model_dump(),
        output_stride=output_stride,  # type: ignore[arg-type]
        drop_path_keep_prob=1.0,
        drop_path_schedule="constant",
        low_level_endpoints="block_output" if architecture.name.startswith("mobilenet_v3") else None,
    )
    return EncoderOptions(
        backbone=options,
        batch_norm=BatchNormOptions(epsilon=0.001, momentum=0.99),
        train_crop_size=BACKBONE_INPUT_SIZE,
    )

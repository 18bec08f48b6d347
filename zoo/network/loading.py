"""From a registry name to a ready network: a panoptic one, or an ImageNet backbone as a feature extractor."""

from __future__ import annotations

import dataclasses
import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from zoo.errors import ArchiveError, CheckpointError, UsageError
from zoo.files.keras_backend import BACKENDS, import_backend
from zoo.files.signatures import showing_options_of
from zoo.files.tensorflow import import_tensorflow
from zoo.network.building import LoadOptions, build_keras_model
from zoo.network.network import Network
from zoo.network.weights import WeightsFile
from zoo.registry.dataset_info import DatasetInfo
from zoo.registry.lookup import Registry, RegistryLike, load_registry
from zoo.registry.network_options import BackboneArchitecture
from zoo.registry.schema import Backbone, Entry, RemoteFile
from zoo.runtimes.choice import FILE_RUNTIMES, check_runtime, refuse_options

if TYPE_CHECKING:
    from typing import TypeAlias

    import keras
    from typing_extensions import Unpack

    from zoo.fetch.fetcher import Fetched, Fetcher
    from zoo.model.checkpoint import Receipt
    from zoo.network.building import LoadKeywords
    from zoo.network.network import Runtime
    from zoo.runtimes.model_file import CheckpointRecord, ModelFile

    # What a network's values come from: a checkpoint, what a model file says of the one that it holds, or a
    # file of `zoo convert`.
    Weights: TypeAlias = Fetched | CheckpointRecord | WeightsFile


class CheckpointFile(NamedTuple):
    """A checkpoint on disk: whose it is, its path without `.index`, and the SHA-256 of its archive."""

    owner: str
    prefix: Path
    sha256: str | None = None

    def restore_into(self, model: keras.Model, part: str = "") -> Receipt:
        """Restores a Keras network, or only the part whose keys start with `part`, such as "encoder/".

        Raises:
          CheckpointError: the checkpoint does not restore all of that, or is corrupt.
        """
        from zoo.model.backbones.residual import variables_of_the_output_stride
        from zoo.model.checkpoint import restore, variables

        may_lack = variables_of_the_output_stride(variables(model)) if part else ()
        try:
            receipt = restore(model, str(self.prefix), part=part, may_lack=may_lack)
        except CheckpointError as error:
            raise CheckpointError(f"{self.owner}: {error}") from error
        return dataclasses.replace(receipt, archive_sha256=self.sha256)


@showing_options_of(LoadOptions)
def load(
    name: str,
    checkpoint: str | os.PathLike[str] | None = None,
    input_size: tuple[int, int] | None = None,
    registry: RegistryLike | None = None,
    source: str = "checkpoint",
    weights: str | os.PathLike[str] | None = None,
    **options: Unpack[LoadKeywords],
) -> Network:
    """Builds the network of an entry and restores it completely from its checkpoint.

    Each tensor goes from the file straight into its variable: memory holds the variables once.

    Args:
      name: of the entry, full, or short where that is unambiguous; or of an ImageNet backbone.
      checkpoint: to restore instead of the entry's own: a prefix (`.../ckpt-60000`), a folder that holds one
        checkpoint, an archive, or the URL of an archive.
      weights: a file of `zoo convert`, to read instead of a checkpoint: it needs no TensorFlow where
        `KERAS_BACKEND` names jax or torch.
      input_size: (height, width) of images in px; None for the entry's published crop, 225 x 225 for a
        backbone.
      registry: where to look the name up: registry files, one path or several, beside the built-in one and
        those of `ZOO_REGISTRY`, which count anyway; or a loaded registry.
      source: "checkpoint", or "saved_model" for the SavedModel that was published beside it, as it is.
      **options: any of these:
        precision: "float32", or "bfloat16" for convolutions in bfloat16.
        optimize: True to fold batch normalisation into the convolutions: faster, equal up to rounding.
        output_stride: of a backbone: 8, 16 or 32 (the default); an entry has its own.
        scales, flip: the factors of the image size, and the mirroring, that `network.predict` averages over.
        device: "cpu", "gpu", "gpu:0", "tpu", or "auto" for all GPUs, else the CPU; by default Keras'
          backend chooses. JAX and PyTorch take one GPU.
        runtime, model: "tensorflow", "jax" or "torch", which must be chosen before Keras is imported (the
          default is what `KERAS_BACKEND` names); `model` then means the same as `weights`. Or "onnx",
          "openvino", "litert" or "saved_model", and the file of `zoo export` that it runs, in place of a
          checkpoint. Such a file is a program: load none that you do not trust.

    Returns:
      A network: `network(images)` gives the maps that `zoo.model.build.build_network`
      describes, for a backbone the end points `res1` ... `res5` of `build_encoder`; `network.predict(image)`
      the prediction that `zoo reproduce` scores; `network.receipt` says what was read, and
      `network.keras_model` is the Keras network.

    Raises:
      UnknownNameError: the name matches no entry, or several.
      UsageError: a precision, input size, output stride, scale or device that makes no sense.
      CheckpointError: the checkpoint does not restore the whole network, or is corrupt.
      ZooError: it could not be fetched or verified.
    """
    declared = load_registry(registry)
    entry = declared.find(name)
    chosen = LoadOptions(input_size, **options).checked(entry)
    given = [name for name, file in (("checkpoint", checkpoint), ("weights", weights)) if file is not None]
    if chosen.runtime in FILE_RUNTIMES:
        refuse_options(chosen.runtime, given)
        return _on_its_dataset(_load_model_file(entry, chosen), declared)
    if source == "saved_model":
        network = _load_saved_model(entry, [*given, *chosen.chosen()])
        return _on_its_dataset(network, declared)
    if source != "checkpoint":
        raise UsageError(f"{entry.name}: source: expected checkpoint or saved_model, found {source!r}")
    chosen.choose_backend()
    weights = chosen.model if weights is None else weights
    if weights is None:
        found: CheckpointFile | WeightsFile = find_checkpoint_of(entry, checkpoint)
    elif checkpoint is None:
        found = WeightsFile(entry.name, Path(weights))
    else:
        raise UsageError(f"{entry.name}: weights: cannot be given with a checkpoint; give one of the two")
    return _on_its_dataset(_restored(entry, found, chosen), declared)


def load_entry(
    entry: Entry, checkpoint: Weights, *, classes: DatasetInfo | None = None, **options: Any
) -> Network:
    """Restores an entry's network, as `load` does, from a checkpoint that was fetched, or loads a model file.

    `classes` are those that it predicts, None for those of the entry's evaluation.

    Raises:
      ZooError: as `load`.
    """
    chosen = LoadOptions(**options)
    if chosen.runtime in FILE_RUNTIMES:
        return _load_model_file(entry, chosen, classes=classes)
    chosen.choose_backend()
    if isinstance(checkpoint, WeightsFile):
        return _restored(entry, checkpoint, chosen, classes)
    fetched = cast("Fetched", checkpoint)
    return _restored(entry, CheckpointFile(entry.name, fetched.path, fetched.sha256), chosen, classes)


def weights_of(entry: Entry, weights: Path | None, fetcher: Fetcher) -> Fetched | WeightsFile:
    """Returns a file of `zoo convert`, after a look at what it says of itself, or fetches the checkpoint.

    Raises:
      ZooError: as `load`.
    """
    if weights is None:
        return fetcher.checkpoint(entry)
    file = WeightsFile(entry.name, weights)
    file.about()
    return file


def model_file_of(entry: Entry, runtime: str, model: str | os.PathLike[str] | None) -> ModelFile | None:
    """Returns the file of `zoo export` that a runtime is given, read and checked; None for Keras' runtimes.

    Raises:
      UsageError: they do not go together, there is no such file, or it is for another entry.
      ArchiveError: it was not written by `zoo export`, or is damaged.
    """
    check_runtime(runtime, model)
    if model is None or runtime in BACKENDS:
        return None
    from zoo.runtimes.model_file import read_model_file

    return read_model_file(runtime, Path(model), entry)


def kind_of_device_for(runtime: str, device: str) -> str:
    """Returns `cpu`, `gpu` or `tpu`: what `device` means for a runtime.

    Raises:
      UsageError: there is no such device, or the runtime does not run on it.
      EvaluationError: it is not on this machine.
    """
    from zoo.network.devices import kind_of_device

    refuse_options(runtime, (), device)
    return "cpu" if runtime in FILE_RUNTIMES else kind_of_device(device)


def build(
    name: str,
    input_size: tuple[int, int] | None = None,
    registry: RegistryLike | None = None,
    precision: str = "float32",
    backbone_weights: str | os.PathLike[str] | None = None,
    output_stride: int | None = None,
) -> Network:
    """Builds the network of an entry, not loaded.

    Args:
      name: as for `load`, like the arguments that are not described here.
      input_size: (height, width) of images in px.
      registry: where to look the name up.
      precision: "float32" or "bfloat16".
      backbone_weights: what to restore the encoder from, as a training starts: an ImageNet backbone
        ("imagenet/resnet50_beta"), or a checkpoint of one, given as for `load`. The rest stays random.
      output_stride: of a backbone.

    Returns:
      A network as of `load`, but `network.receipt` is None; `network.backbone_receipt` says what came from
      `backbone_weights`.

    Raises:
      ZooError: as `load`; `UsageError` for weights of another kind of backbone too.
    """
    declared = load_registry(registry)
    entry = declared.find(name)
    options = LoadOptions(input_size, precision, output_stride=output_stride).checked(entry)
    weights = None if backbone_weights is None else _find_backbone_weights(entry, backbone_weights, declared)
    model = build_keras_model(entry, options)
    from zoo.network.keras_runtime import KerasRuntime

    receipt = weights.restore_into(model, "encoder/") if weights else None
    return _on_its_dataset(Network(entry, KerasRuntime(model, entry), backbone_receipt=receipt), declared)


def _on_its_dataset(network: Network, registry: Registry) -> Network:
    if network.entry.kind == "panoptic":
        network.dataset = registry.dataset(network.entry.dataset)
    return network


def find_checkpoint_of(
    entry: Entry | Backbone, chosen: str | os.PathLike[str] | None = None
) -> CheckpointFile:
    """Returns an entry's own checkpoint, fetched and verified, or the one `chosen` as for `load`."""
    from zoo.fetch.archive import find_checkpoint
    from zoo.fetch.fetcher import Fetcher

    if chosen is not None and "://" in os.fspath(chosen):
        entry = entry.model_copy(update={"checkpoint": RemoteFile(url=os.fspath(chosen))})
        chosen = None
    if chosen is None:
        fetched = Fetcher().checkpoint(entry)
        return CheckpointFile(entry.name, fetched.path, fetched.sha256)
    path = Path(chosen)
    prefix = path.with_name(path.name.removesuffix(".index"))
    if prefix.with_name(f"{prefix.name}.index").is_file():
        return CheckpointFile(entry.name, prefix)
    if path.is_dir():
        return CheckpointFile(entry.name, find_checkpoint(path))
    if path.is_file():
        return CheckpointFile(entry.name, *Fetcher().own_checkpoint(path))
    raise CheckpointError(
        f"{entry.name}: no checkpoint {chosen}: expected {path.name}.index beside its data files, "
        "a folder with one checkpoint, or an archive of one"
    )


def _find_backbone_weights(
    entry: Entry | Backbone, weights: str | os.PathLike[str], registry: Registry
) -> CheckpointFile:
    """Returns the checkpoint that `backbone_weights` means: of an ImageNet backbone by name, or a file."""
    text = os.fspath(weights)
    is_file = "://" in text or os.path.lexists(text) or os.path.lexists(f"{text}.index")
    if is_file and all(text != backbone.name for backbone in registry.backbones):
        return find_checkpoint_of(entry, weights)
    backbone = registry.find(text)
    for name in BackboneArchitecture.model_fields:
        expected, found = (getattr(each.network.backbone, name) for each in (entry, backbone))
        if expected != found:
            raise UsageError(
                f"{entry.name}: backbone_weights {backbone.name}: {name}: expected {expected}, "
                f"found {found}; choose the backbone of this network"
            )
    return find_checkpoint_of(backbone)


def _load_saved_model(entry: Entry | Backbone, options: list[str]) -> Network:
    if entry.kind == "backbone":
        raise UsageError(f"{entry.name}: source: expected checkpoint, found saved_model: backbones have none")
    if options:
        raise UsageError(
            f'{entry.name}: {", ".join(options)}: expected none of these with source="saved_model", which is '
            'taken as it was published; use source="checkpoint"'
        )
    import_tensorflow()
    from zoo.fetch.fetcher import Fetcher
    from zoo.network.saved_model import SavedModelRuntime

    return Network(entry, SavedModelRuntime(entry, Fetcher().saved_model(entry)))


def _load_model_file(
    entry: Entry | Backbone,
    options: LoadOptions,
    classes: DatasetInfo | None = None,
) -> Network:
    """Loads a file of `zoo export`, which knows its own size and precision."""
    if entry.kind == "backbone":
        raise UsageError(
            f"{entry.name}: --runtime {options.runtime}: expected a panoptic network; backbones have no file"
        )
    assert options.runtime is not None
    file = model_file_of(entry, options.runtime, options.model)
    assert file is not None
    if options.input_size:
        file.require_size(options.input_size)
    import_backend()
    from zoo.model.checkpoint import Receipt

    try:
        receipt = Receipt.from_json(file.about.checkpoint.receipt, str(file.path))
    except (KeyError, ValueError) as error:
        raise ArchiveError(
            f"--model {file.path}: its receipt is damaged ({error}); write it again with `zoo export`"
        ) from error
    return Network(entry, runtime_of(entry, file), receipt=receipt, own_classes=classes)


def runtime_of(entry: Entry, file: ModelFile) -> Runtime:
    """Returns what runs a file of `zoo export`.

    Raises:
      ArchiveError: the runtime refuses it.
    """
    from zoo.network.devices import describe_processor

    if file.about.with_post_processing:
        from zoo.network.saved_model import SavedModelRuntime

        return SavedModelRuntime(entry, file.path, file.about.input_size, describe_processor())
    from zoo.runtimes.exported import ExportedRuntime

    return ExportedRuntime(entry, file, describe_processor())


def _restored(
    entry: Entry | Backbone,
    checkpoint: CheckpointFile | WeightsFile,
    options: LoadOptions,
    classes: DatasetInfo | None = None,
) -> Network:
    import_backend()
    from zoo.model.folding import fold_batch_norm
    from zoo.network.devices import strategy_for
    from zoo.network.keras_runtime import KerasRuntime

    strategy = strategy_for(options.device) if options.device else None
    with strategy.scope() if strategy else nullcontext():
        model = build_keras_model(entry, options, random_values=False)
        receipt = checkpoint.restore_into(model, "encoder/" if entry.kind == "backbone" else "")
        if options.optimize:
            model = fold_batch_norm(model, consume=True)
    runtime = KerasRuntime(model, entry, scales=options.scales, flip=options.flip, strategy=strategy)
    return Network(entry, runtime, receipt=receipt, own_classes=classes)

"""Options and arguments that several commands share, and what they stand for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from zoo.errors import UsageError, ZooError
from zoo.files.keras_backend import BACKENDS, chosen_backend
from zoo.remote.path import is_url, path_at
from zoo.runtimes.choice import AUTO, DEFAULT, FILE_RUNTIMES, RUNTIMES, check_runtime, refuse_options

if TYPE_CHECKING:
    from zoo.network.predicting import PredictOptions
    from zoo.registry import Entry, Registry
    from zoo.repro.cluster.workers import Workers
    from zoo.repro.run.settings import RunSettings

_Settings = TypeVar("_Settings", "RunSettings", "PredictOptions")

registry_files: list[str] = []
"""What `--registry` named in the call that is running."""

RegistryFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--registry",
        metavar="FILE",
        help="A registry file of your own, or its URL, beside the built-in one and the files of the "
        "environment variable ZOO_REGISTRY. May be given more than once.",
    ),
]


def _complete_name(incomplete: str) -> list[str]:
    try:
        registry = chosen_registry()
    except ZooError:
        return []
    known = [entry.name for entry in (*registry.entries, *registry.backbones)]
    return [name for name in known if name.startswith(incomplete)]


Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="An entry, as `zoo list` prints it.", autocompletion=_complete_name),
]
Names = Annotated[
    list[str],
    typer.Argument(
        metavar="NAME", help="Entries or globs, e.g. `'cityscapes/*'`.", autocompletion=_complete_name
    ),
]
Records = Annotated[
    list[Path],
    typer.Argument(metavar="RECORD", help="Run records, the folders of runs, or folders above them."),
]
Precision = Enum("Precision", {"float32": "float32", "bfloat16": "bfloat16"}, type=str)
PrecisionName = Annotated[Precision, typer.Option("--precision", help="What convolutions compute in.")]
Scales = Annotated[str, typer.Option("--scales", help="Scales to average over, e.g. 0.75,1,1.25.")]
Flip = Annotated[bool, typer.Option("--flip", help="Average with the mirrored image.")]
DeviceName = Annotated[str, typer.Option("--device", help="auto, cpu, gpu, gpu:N, tpu, or tpu:NAME.")]
RuntimeName = Annotated[
    str,
    typer.Option(
        "--runtime",
        metavar="NAME",
        help=f"What runs the network: {', '.join(RUNTIMES[:-1])}, or {RUNTIMES[-1]}; all but "
        f"{', '.join(BACKENDS)} run a file of `zoo export`. `reproduce` and `predict` take auto too: the one "
        "that is fastest here of those that are installed, measured the first time.",
    ),
]
DEFAULT_RUNTIME = chosen_backend()
"""What `KERAS_BACKEND` names, else TensorFlow."""
ModelPath = Annotated[
    Path | None,
    typer.Option(
        *("--model", "--weights"),
        metavar="FILE",
        help="The file of `zoo convert` that tensorflow, jax or torch loads in place of a checkpoint, or the "
        "file of `zoo export` that another runtime runs, a program: one that was not exported here needs "
        "--trust.",
    ),
]
Trust = Annotated[
    bool,
    typer.Option("--trust", help="Run a model that was not exported here: it may read and write your files."),
]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, help="Only the first N images, with 95 % intervals for all.")
]
DataCache = Annotated[
    str | None,
    typer.Option(
        "--data-cache",
        metavar="SIZE",
        help="The most that data fetched from a URL may take on this disk; ZOO_DATA_CACHE, else 20GB.",
    ),
]
RunsFolder = Annotated[
    str | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Where the run keeps its files: a folder, or one of a bucket. The default is in the cache.",
    ),
]
Restart = Annotated[bool, typer.Option("--restart", help="Discard an unfinished run instead of resuming it.")]
KeepGoing = Annotated[
    bool,
    typer.Option("--keep-going", help="Leave out images that cannot be used; claims are not judged then."),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Exit code 4 where a claim was not judged, or nothing published.")
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print JSON alone on stdout: one object, or a list from `list` and for several names.",
    ),
]


RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Deal the images to workers of a Ray cluster: local starts one on this machine; HOST:PORT or "
        "ray://HOST:PORT names one; auto, or nothing, takes RAY_ADDRESS or the one that runs here.",
    ),
]
GpusPerActor = Annotated[
    float | None,
    typer.Option("--gpus-per-actor", help="GPUs of each worker; by default 1 where there are any."),
]


@dataclass(frozen=True)
class RuntimeOptions:
    """The options that say what runs the network, and where."""

    device: DeviceName = "auto"
    runtime: RuntimeName = DEFAULT_RUNTIME
    model: ModelPath = None
    trust: Trust = False

    def settings(self) -> dict[str, Any]:
        """Returns the options as the settings of a run name them, without TensorFlow's import.

        Raises:
          UsageError: they make no sense, the runtime is not installed, or there is no such file.
        """
        from zoo.network.devices import parse_device

        parse_device(self.device)
        model = chosen_model(self.runtime, self.model, trust=self.trust)
        return {"device": self.device, "runtime": self.runtime, "model": model}


@dataclass(frozen=True)
class NetworkOptions(RuntimeOptions):
    """The options that say how the network is run."""

    precision: PrecisionName = Precision.float32
    scales: Scales = "1"
    flip: Flip = False

    def settings(self) -> dict[str, Any]:
        """Returns the options as `RuntimeOptions` does, without `auto`: see `on_the_fastest`."""
        precision, scales = self.precision.value, parse_scales(self.scales)
        if self.runtime == AUTO:
            self._require_defaults()
            return replace(self, runtime=DEFAULT).settings()
        return {**super().settings(), "precision": precision, "scales": scales, "flip": self.flip}

    def _require_defaults(self) -> None:
        """Raises a UsageError for what the files that `auto` may take cannot follow."""
        if self.model is not None:
            raise UsageError(
                f"--model {self.model}: expected none with --runtime {AUTO}, which writes its own"
            )
        options = ("precision", "scales", "flip")
        changed = [f"--{name}" for name in options if getattr(self, name) != getattr(NetworkOptions, name)]
        refuse_options(AUTO, changed, self.device)

    def on_the_fastest(self, settings: _Settings, entry: Entry, registry: Registry) -> _Settings:
        """Returns `settings` with the runtime that `--runtime auto` stands for with an entry.

        Raises:
          ZooError: its network cannot be restored and measured.
        """
        if self.runtime != AUTO:
            return settings
        from zoo.network.fastest import find_fastest

        fastest = find_fastest(entry, registry)
        return replace(settings, runtime=fastest.runtime, model=fastest.model)


@dataclass(frozen=True)
class RayOptions:
    """The options that deal images to workers."""

    ray: RayAddress = None
    actors: Annotated[
        int | None, typer.Option("--actors", help="How many workers; by default, what fits.")
    ] = None
    cpus_per_actor: Annotated[
        float | None,
        typer.Option("--cpus-per-actor", help="CPUs of each worker, and threads of its network."),
    ] = None

    def workers(self, gpus_per_actor: float | None = None) -> Workers | None:
        """Returns what they and `--gpus-per-actor`, where a command has it, stand for; None without `--ray`.

        Raises:
          UsageError: they make no sense, or there are others without `--ray`.
        """
        from zoo.repro.cluster.workers import Workers

        if self.ray is not None:
            return Workers(self.ray, self.actors, self.cpus_per_actor, gpus_per_actor)
        given = {
            "actors": self.actors,
            "cpus-per-actor": self.cpus_per_actor,
            "gpus-per-actor": gpus_per_actor,
        }
        for name, value in given.items():
            if value is not None:
                raise UsageError(f"--{name} {value:g}: expected --ray too, e.g. --ray local")
        return None


def reads_registry(command: Callable[..., None]) -> Callable[..., None]:
    """Makes a command take `--registry FILE` after its name too, and no URL where it takes a path alone."""

    @wraps(command)
    def with_files(*, own_files: list[str] | None = None, **options: Any) -> None:
        registry_files.extend(own_files or [])
        for name, value in options.items():
            for path in value if isinstance(value, list) else [value]:
                _require_local(name, path)
        command(**options)

    own = inspect.Parameter(
        "own_files", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=RegistryFiles
    )
    return _taking(with_files, [*inspect.signature(command, eval_str=True).parameters.values(), own])


def _require_local(name: str, value: Any) -> None:
    # A path holds no two slashes in a row.
    if isinstance(value, Path) and is_url(url := str(value).replace(":/", "://", 1)):
        raise UsageError(f"{name} {url}: expected a file or folder on this machine, found a URL")


def takes_fields(command: Callable[..., None]) -> Callable[..., None]:
    """Makes a command take the fields of its parameters that are dataclasses, each as an option."""
    parameters = inspect.signature(command, eval_str=True).parameters
    groups: dict[str, Any] = {
        name: each.annotation for name, each in parameters.items() if is_dataclass(each.annotation)
    }

    @wraps(command)
    def with_fields(**options: Any) -> None:
        for name, group in groups.items():
            options[name] = group(**{field.name: options.pop(field.name) for field in fields(group)})
        command(**options)

    taken: list[inspect.Parameter] = []
    for name, each in parameters.items():
        own = inspect.signature(groups[name], eval_str=True).parameters if name in groups else {name: each}
        taken += [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in own.values()]
    return _taking(with_fields, taken)


def _taking(command: Callable[..., None], parameters: list[inspect.Parameter]) -> Callable[..., None]:
    """Tells Typer which parameters a command takes."""
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command


def chosen_registry() -> Registry:
    """Returns the registry with the files of `ZOO_REGISTRY` and `--registry`.

    Raises:
      RegistryError: a file does not follow the schema.
    """
    from zoo.registry import load_registry

    return load_registry(registry_files)


def data_folders(
    texts: Sequence[str], registry: Registry, only_needed: str | None = None, data_cache: str | None = None
) -> dict[str, Path]:
    """Returns data set -> its folder, from the `DATASET=DIR` of `--data`.

    The folder of `only_needed`, where one data set alone is needed, may be given without its name. A folder
    may be a URL, of whose files `data_cache` is the most that may take space here.

    Raises:
      UsageError: another form, an unknown data set, or two folders of one.
    """
    folders: dict[str, Path] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if only_needed is not None and (not equals or is_url(text) or Path(text).expanduser().exists()):
            name, folder = only_needed, text
        elif not (name and equals and folder):
            raise UsageError(f"--data {text}: expected DATASET=DIR, e.g. cityscapes=~/cityscapes")
        name = registry.dataset(name).name
        if name in folders:
            raise UsageError(f"--data {text}: expected one folder of {name}, found {folders[name]} before")
        folders[name] = path_at(folder, data_cache).absolute()
    return folders


def chosen_model(runtime: str, model: Path | None, *, trust: bool) -> Path | None:
    """Returns the absolute path of `--model`, after a check that it and `--runtime` go together.

    Raises:
      UsageError: they do not, the runtime is not installed, there is no such file, or it is a program that
        was not exported here, and not to be trusted.
    """
    absolute = None if model is None else model.expanduser().absolute()
    check_runtime(runtime, absolute)
    if absolute is not None and runtime in FILE_RUNTIMES and not trust:
        from zoo.runtimes.own_exports import require_own_export

        require_own_export(runtime, absolute)
    return absolute


def check_svg_name(picture: Path | None) -> None:
    """Raises a UsageError where the value of `--picture` does not end in .svg."""
    if picture is not None and picture.suffix.lower() != ".svg":
        raise UsageError(f"--picture {picture}: expected a file name that ends in .svg")


def parse_scales(text: str) -> tuple[float, ...]:
    """Returns the numbers of `--scales`; raises a UsageError for anything else."""
    try:
        scales = tuple(float(part) for part in text.split(","))
    except ValueError:
        scales = ()
    if not scales or any(not 0.1 <= scale <= 4 for scale in scales):
        raise UsageError(
            f"--scales {text}: expected numbers from 0.1 to 4 with commas between, e.g. 0.75,1,1.25"
        )
    return scales

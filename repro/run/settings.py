"""What a user may choose about a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict

from zoo.errors import UsageError
from zoo.files.keras_backend import chosen_backend
from zoo.repro.cluster.workers import Workers
from zoo.repro.records.claim_words import EVALUATORS
from zoo.runtimes.choice import DEFAULT, FILE_RUNTIMES, check_runtime, refuse_options

FURTHER_METRICS = ("boundary",)
"""What `--metrics` adds to the internal metrics."""


@dataclass(frozen=True)
class RunSettings:
    """What a user may choose about a run.

    Raises:
      UsageError: there is no such precision or runtime, or no such model file.
    """

    limit: int | None = None  # evaluate only the first images
    device: str = "auto"  # see `zoo.network.devices.strategy_for`
    precision: str = "float32"  # or `bfloat16`, what convolutions compute in
    scales: tuple[float, ...] = (1.0,)  # image scales whose predictions are averaged
    flip: bool = False  # average with the predictions for the mirrored image too
    keep_going: bool = False  # leave out images that cannot be used, with a message, instead of an error
    restart: bool = False  # discard an unfinished run instead of resuming it
    runtime: str = ""  # what runs the network, of `RUNTIMES`; empty for what `KERAS_BACKEND` names
    model: Path | None = None  # the file of `zoo export` or `zoo convert` that it loads
    workers: Workers | None = None  # the processes of Ray that evaluate the images; None for this one

    def __post_init__(self) -> None:
        object.__setattr__(self, "runtime", self.runtime or chosen_backend())
        check_runtime(self.runtime, self.model)
        if self.precision not in ("float32", "bfloat16"):
            raise UsageError(f"--precision {self.precision}: expected float32 or bfloat16")
        refuse_options(self.runtime, self.changes_numbers(), self.device)
        if self.workers is not None:
            object.__setattr__(self, "workers", self._with_devices(self.workers))

    def _with_devices(self, workers: Workers) -> Workers:
        """Returns the workers with or without GPUs, as the device says."""
        if self.device not in ("auto", "cpu", "gpu"):
            raise UsageError(
                f"--device {self.device}: expected auto, cpu or gpu with --ray: each worker gets its own"
            )
        if self.device == "cpu" or self.runtime in FILE_RUNTIMES:
            return replace(workers, gpus_per_actor=0.0)
        return (
            replace(workers, gpus_per_actor=workers.gpus_per_actor or 1.0)
            if self.device == "gpu"
            else workers
        )

    def recorded(self) -> dict[str, Any]:
        """Returns the settings that the run record holds, as JSON values."""
        unrecorded = ("keep_going", "restart", "runtime", "model", "workers")
        settings = {key: value for key, value in asdict(self).items() if key not in unrecorded}
        return {**settings, "scales": list(self.scales)}

    def changes_numbers(self) -> list[str]:
        """Returns the options that differ from how the published numbers were measured."""
        options = {
            f"--precision {self.precision}": self.precision != "float32",
            f"--scales {','.join(f'{scale:g}' for scale in self.scales)}": self.scales != (1.0,),
            "--flip": self.flip,
        }
        return [option for option, is_changed in options.items() if is_changed]

    def folder_name(self, entry: str) -> str:
        """Returns the name of the run's folder: the entry, and each option that is not the default."""
        options = {
            f"limit{self.limit}": self.limit is not None,
            self.device.partition(":")[0]: self.device != "auto",
            self.precision: self.precision != "float32",
            f"scales{'_'.join(f'{scale:g}' for scale in self.scales)}": self.scales != (1.0,),
            "flip": self.flip,
            self.runtime: self.runtime != DEFAULT,
            self.model.stem if self.model else "": self.model is not None,
        }
        given = [name for name, is_given in options.items() if is_given]
        return "__".join([entry.replace("/", "__"), *given])


class RunKeywords(TypedDict, total=False):
    """The fields of `RunSettings`, for editors."""

    limit: int | None
    device: str
    precision: str
    scales: tuple[float, ...]
    flip: bool
    keep_going: bool
    restart: bool
    runtime: str
    model: Path | None
    workers: Workers | None


@dataclass(frozen=True)
class ScoreSettings:
    """What a user may choose about a run over predictions on disk.

    Attributes:
      form, divisor, ids: how the predictions are read; see `open_predictions`.
      name: what the predictions are called; None for the name of their folder or file.
      evaluators: whose numbers are measured, of "official" and "internal".
      metrics: what the internal evaluator measures besides PQ, mIoU and AP: "boundary".
      limit: evaluate only the first images.
      keep_going: leave out images that cannot be used, with a message, instead of an error.
      restart: discard an unfinished run instead of resuming it.
      workers: the processes of Ray that score the images; None for this one.

    Raises:
      UsageError: there is no such evaluator or metric.
    """

    form: str | None = None
    divisor: int | None = None
    ids: Literal["original", "train"] | None = None
    name: str | None = None
    evaluators: tuple[str, ...] = EVALUATORS
    metrics: tuple[str, ...] = ()
    limit: int | None = None
    keep_going: bool = False
    restart: bool = False
    workers: Workers | None = None

    def __post_init__(self) -> None:
        if self.workers is not None:
            object.__setattr__(self, "workers", replace(self.workers, gpus_per_actor=0.0))
        for given, known in ((self.evaluators, EVALUATORS), (self.metrics, FURTHER_METRICS)):
            for name in given:
                if name not in known:
                    raise UsageError(f"{name!r}: expected {' or '.join(known)}")
        if not self.evaluators:
            raise UsageError("evaluators: expected official, internal, or both, found none")

    def recorded(self) -> dict[str, Any]:
        """Returns the settings that the run record holds, as JSON values."""
        settings = {key: getattr(self, key) for key in ("limit", "form", "divisor", "ids")}
        return {**settings, "evaluators": " ".join(self.evaluators), "metrics": " ".join(self.metrics)}

    def folder_name(self, name: str) -> str:
        """Returns the name of the run's folder: the predictions', and each option that is not the default."""
        options = {
            f"limit{self.limit}": self.limit is not None,
            "_".join(self.evaluators): len(self.evaluators) == 1,
            "_".join(self.metrics): bool(self.metrics),
        }
        return "__".join(["score", name, *(option for option, is_given in options.items() if is_given)])


class ScoreKeywords(TypedDict, total=False):
    """The fields of `ScoreSettings`, for editors."""

    form: str | None
    divisor: int | None
    ids: Literal["original", "train"] | None
    name: str | None
    evaluators: tuple[str, ...]
    metrics: tuple[str, ...]
    limit: int | None
    keep_going: bool
    restart: bool
    workers: Workers | None

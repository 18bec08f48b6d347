"""Reproduces an entry: a run whose predictions come from its network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.files.keras_backend import BACKENDS, choose_backend, import_backend
from zoo.files.processes import environment
from zoo.files.signatures import showing_options_of
from zoo.network.loading import kind_of_device_for
from zoo.network.network import require_outputs
from zoo.remote.path import path_at
from zoo.repro.cluster.connection import choose_share, connected
from zoo.repro.cluster.crew import Crew
from zoo.repro.datasets.opening import OpenElsewhere, open_dataset
from zoo.repro.run.image_pass import CrewPass
from zoo.repro.run.images import choose_images
from zoo.repro.run.pipeline import MakePipeline, Pipeline, find_weights
from zoo.repro.run.run import Clock, Run
from zoo.repro.run.settings import RunSettings
from zoo.runtimes.choice import version_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from zoo.fetch.fetcher import Fetcher
    from zoo.network.loading import Weights
    from zoo.registry import Claim, Entry, Registry
    from zoo.registry.lookup import RegistryLike
    from zoo.repro.records.run_folder import RunFolder
    from zoo.repro.run.image_pass import ImagePass
    from zoo.repro.run.settings import RunKeywords
    from zoo.runtimes.model_file import ModelFile


@showing_options_of(RunSettings)
def reproduce(
    name: str,
    *,
    data: Path | str | None = None,
    out: Path | str | None = None,
    registry: RegistryLike | None = None,
    **options: Unpack[RunKeywords],
) -> dict[str, Any]:
    """Evaluates an entry as `zoo reproduce` does and returns its run record.

    Args:
      name: the entry; may be short where it is unambiguous.
      data: the data set's folder; None for a bundled data set.
      out: the folder for runs, or its URL in a bucket; None for the cache's.
      registry: as for `zoo.load`.
      **options: fields of `RunSettings`, as `limit=50`.

    Raises:
      ZooError: the run could not be made; one line says why.
    """
    from zoo.registry import load_registry

    declared = load_registry(registry)
    return reproduce_entry(
        declared.resolve(name),
        registry=declared,
        data=None if data is None else path_at(data),
        out=None if out is None else path_at(out),
        settings=RunSettings(**options),
    )


def reproduce_entry(
    entry: Entry,
    *,
    registry: Registry,
    data: Path | None = None,
    out: Path | None = None,
    settings: RunSettings | None = None,
    fetcher: Fetcher | None = None,
) -> dict[str, Any]:
    """Evaluates one entry and returns its run record, which is also written to the run's folder.

    Args:
      entry, registry: the entry, and where its data set is declared.
      data: the data set's folder; None for a bundled data set.
      out: the folder for runs, or None for the cache's; see `RunSettings.folder_name`.
      settings: what the user chose; None for what the published numbers were measured with.
      fetcher: fetches the checkpoint and knows the cache; None for the default one.

    Raises:
      ZooError: the run could not be made; one line says why.
    """
    from zoo.fetch.fetcher import Fetcher
    from zoo.files.cache import RUNS
    from zoo.model.families import family_of

    clock = Clock()
    settings, fetcher = settings or RunSettings(), fetcher or Fetcher()
    if settings.runtime in BACKENDS:
        choose_backend(settings.runtime)
    family_of(entry).refuse_averages(entry.name, settings.scales, settings.flip)
    declared = registry.dataset(entry.dataset)
    dataset = open_dataset(declared, data, fetcher, keep_going=settings.keep_going, needed_by=entry.name)
    require_outputs(entry, dataset.info)
    checkpoint, model = find_weights(entry, settings, fetcher)
    with _connected(settings, clock) as device:
        images = choose_images(entry.name, dataset, limit=settings.limit, keep_going=settings.keep_going)
        run = _Reproduction(entry.name, dataset, entry.dataset, images, clock)
        run.entry, run.checkpoint, run.settings, run.restart = entry, checkpoint, settings, settings.restart
        run.model, run.device, run.workers = model, device, settings.workers
        run.open_elsewhere = OpenElsewhere.like(dataset, declared, data, keep_going=settings.keep_going)
        return run.make((out or fetcher.cache.root / RUNS) / settings.folder_name(entry.name))


@contextmanager
def _connected(settings: RunSettings, clock: Clock) -> Iterator[str]:
    """Connects to the cluster whose workers evaluate the images, if any do; yields the kind of their device.

    Without workers, this process finds its device.
    """
    if settings.workers is None:
        import_backend()
        yield kind_of_device_for(settings.runtime, settings.device)
        return
    # This process leaves the memory of all GPUs to the workers.
    with connected(settings.workers), environment(CUDA_VISIBLE_DEVICES="-1"):
        clock.lap("ray_s")
        import_backend()
        yield "gpu" if choose_share(settings.workers).gpus else "cpu"


class _Reproduction(Run):
    """A run of an entry's network."""

    entry: Entry
    checkpoint: Weights
    settings: RunSettings
    model: ModelFile | None
    device: str  # what the network runs on: `cpu`, `gpu` or `tpu`

    def own_identity(self, fingerprint: str) -> dict[str, Any]:
        recorded = self.settings.recorded()
        return {
            "entry": self.entry.name,
            "entry_digest": self.entry.digest(),
            "checkpoint_sha256": self.checkpoint.sha256,
            "dataset_fingerprint": fingerprint,
            "settings": {key: recorded[key] for key in ("precision", "scales", "flip")},
            "device": self.device,
            "runtime": self._runtime,
        }

    def start(self, folder: RunFolder) -> ImagePass:
        if self.settings.workers is None:
            return Pipeline(self.entry, self.dataset, self.checkpoint, self.settings, folder)
        model = self.settings.model
        make_worker = MakePipeline(
            self.entry,
            replace(self.settings, workers=None, device=self.device, model=model and model.absolute()),
            self.open_elsewhere,
            self.checkpoint.sha256,
        )
        crew = Crew(make_worker, self.settings.workers, at_once=3, most=len(self.images.ids))
        return CrewPass(self.dataset, folder, self.new_scores(), crew, keep_going=self.settings.keep_going)

    def own_record(self, image_pass: ImagePass) -> dict[str, Any]:
        about = image_pass.about
        return {
            "post_processing": about["post_processing"],
            "device": about["device"],
            "runtime": self._runtime,
            "entry_digest": self.entry.digest(),
            "checkpoint": {
                "url": self.checkpoint.url,
                "sha256": self.checkpoint.sha256,
                "bytes": self.checkpoint.bytes,
                "receipt": about["receipt"],
            },
        }

    def recorded_settings(self) -> dict[str, Any]:
        return self.settings.recorded()

    def claims(self) -> Sequence[Claim]:
        return self.entry.published

    def changes_numbers(self) -> list[str]:
        precision = self.model.about.precision if self.model else "float32"
        return self.settings.changes_numbers() + [f"a model file of {precision}"] * (precision != "float32")

    @property
    def _runtime(self) -> dict[str, Any]:
        name = self.settings.runtime
        return self.model.to_json() if self.model else {"name": name, "version": version_of(name)}

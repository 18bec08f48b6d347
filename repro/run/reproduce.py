"""Reproduces an entry: a run whose predictions come from its network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.files.keras_backend import BACKENDS, choose_backend, import_backend
from zoo.files.signatures import showing_options_of
from zoo.network.loading import kind_of_device_for, model_file_of, weights_of
from zoo.network.network import require_outputs
from zoo.remote.path import path_at
from zoo.repro.datasets.opening import open_dataset
from zoo.repro.run.images import choose_images
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
    from zoo.repro.run.pipeline import Pipeline
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
      out: the folder for runs, or None for the cache's.
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
        out=None if out is None else Path(out),
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

    clock = Clock()
    settings, fetcher = settings or RunSettings(), fetcher or Fetcher()
    if settings.runtime in BACKENDS:
        choose_backend(settings.runtime)
    declared = registry.dataset(entry.dataset)
    dataset = open_dataset(declared, data, fetcher, keep_going=settings.keep_going, needed_by=entry.name)
    require_outputs(entry, dataset.info)
    model = model_file_of(entry, settings.runtime, settings.model)
    if model:
        model.require_size(entry.evaluation.crop_size)
    checkpoint = model.about.checkpoint if model else weights_of(entry, settings.model, fetcher)
    import_backend()
    images = choose_images(entry.name, dataset, limit=settings.limit, keep_going=settings.keep_going)
    run = _Reproduction(entry.name, dataset, entry.dataset, images, clock)
    run.entry, run.checkpoint, run.settings, run.restart = entry, checkpoint, settings, settings.restart
    run.model = model
    return run.make(Path(out or fetcher.cache.root / RUNS) / settings.folder_name(entry.name))


class _Reproduction(Run):
    """A run of an entry's network."""

    entry: Entry
    checkpoint: Weights
    settings: RunSettings
    model: ModelFile | None

    def own_identity(self, fingerprint: str) -> dict[str, Any]:
        recorded = self.settings.recorded()
        return {
            "entry": self.entry.name,
            "entry_digest": self.entry.digest(),
            "checkpoint_sha256": self.checkpoint.sha256,
            "dataset_fingerprint": fingerprint,
            "settings": {key: recorded[key] for key in ("precision", "scales", "flip")},
            "device": kind_of_device_for(self.settings.runtime, self.settings.device),
            "runtime": self._runtime,
        }

    def start(self, folder: RunFolder) -> Pipeline:
        from zoo.repro.run.pipeline import Pipeline

        return Pipeline(self.entry, self.dataset, self.checkpoint, self.settings, folder)

    def own_record(self, image_pass: ImagePass) -> dict[str, Any]:
        from zoo.repro.run.pipeline import Pipeline

        assert isinstance(image_pass, Pipeline)
        return {
            "post_processing": image_pass.options,
            "device": image_pass.device,
            "runtime": self._runtime,
            "entry_digest": self.entry.digest(),
            "checkpoint": {
                "url": self.checkpoint.url,
                "sha256": self.checkpoint.sha256,
                "bytes": self.checkpoint.bytes,
                "receipt": image_pass.receipt,
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

"""Reproduces an entry: one pass over the data, both evaluators, the run record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import DataError, EvaluationError, InterruptedRunError
from zoo.files.atomic import write_atomically
from zoo.files.json_files import write_json
from zoo.files.progress import say
from zoo.files.tensorflow import import_tensorflow
from zoo.files.words import counted
from zoo.network.devices import kind_of_device
from zoo.network.network import require_outputs
from zoo.reports.tables.claim_table import markdown
from zoo.repro.datasets.checking import require_headers, usable_images
from zoo.repro.datasets.dataset import images_in_dataset
from zoo.repro.datasets.opening import open_dataset
from zoo.repro.records.claims import judge_claims
from zoo.repro.records.record import SCHEMA_VERSION, finite
from zoo.repro.records.run_destination import RunDestination
from zoo.repro.records.software import code_digest, versions
from zoo.repro.records.statistics import image_quality
from zoo.repro.run.clock import Clock
from zoo.repro.run.efficiency import efficiency
from zoo.repro.run.intervals import intervals_for, numbers_so_far
from zoo.repro.run.pictures import write_pictures
from zoo.repro.run.scores import InternalScores
from zoo.repro.run.settings import AS_PUBLISHED, RunSettings

if TYPE_CHECKING:
    from zoo.fetch.fetcher import Fetched, Fetcher
    from zoo.registry import Entry, Registry
    from zoo.repro.datasets.dataset import Dataset
    from zoo.repro.official.scripts import OfficialScores
    from zoo.repro.records.run_folder import RunFolder
    from zoo.repro.run.pipeline import Pipeline


def reproduce_entry(
    entry: Entry,
    *,
    registry: Registry,
    data: Path | None = None,
    out: Path | None = None,
    settings: RunSettings = AS_PUBLISHED,
    fetcher: Fetcher | None = None,
) -> dict[str, Any]:
    """Evaluates one entry and returns its run record, which is also written to the run's folder.

    Args:
      entry, registry: the entry, and where its data set is declared.
      data: the data set's folder; None for a bundled data set.
      out: the folder for runs, or None for the cache's; see `RunSettings.folder_name`.
      settings: what the user chose.
      fetcher: fetches the checkpoint and knows the cache; None for the default one.

    Raises:
      ZooError: the run could not be made; one line says why.
    """
    from zoo.fetch.fetcher import Fetcher
    from zoo.files.cache import RUNS
    from zoo.repro.run.pipeline import Pipeline

    clock = Clock()
    fetcher = fetcher or Fetcher()
    declared = registry.dataset(entry.dataset)
    dataset = open_dataset(declared, data, fetcher, keep_going=settings.keep_going, needed_by=entry.name)
    require_outputs(entry, dataset.info)
    checkpoint = fetcher.checkpoint(entry)
    import_tensorflow()
    run = _Run(entry, dataset, checkpoint, settings, _choose_images(entry, dataset, settings), clock)
    identity = run.identity()
    destination = RunDestination(Path(out or fetcher.cache.root / RUNS) / settings.folder_name(entry.name))
    with destination.in_use():
        destination.check(identity, restart=settings.restart)
        say(f"{entry.name}: {run.images} of {entry.dataset}, their files checked")
        clock.lap("prepare_s")
        # Device and network first: without them there is nothing to begin.
        pipeline = Pipeline(entry, dataset, checkpoint, settings, destination.unfinished)
        clock.lap("load_s")
        folder = destination.open(identity, restart=settings.restart)
        official, images_computed = run.evaluate(pipeline, folder)
        record = run.record(identity, run.score(folder, official), pipeline)
        record["timings"] |= {"images_computed": images_computed, **pipeline.timings, **official.timings}
        record["timings"]["total_s"] = clock.total()
        record["efficiency"] = efficiency(entry, record["timings"], replicas=pipeline.device["replicas"])
        write_atomically(folder.root / "table.md", markdown([record]))
        write_json(folder.root / "record.json", record)
        if "failed" in official.provenance:
            raise EvaluationError(
                f"{entry.name}: {official.provenance['failed']}; the internal numbers and predictions are "
                f"kept in {folder.root}; run the same command again to resume at the scripts"
            )
        kept = destination.finish()
    if kept is not None:
        say(f"the last run here was of something else, and is kept in {kept}")
    say(f"run record: {destination.finished.root / 'record.json'}")
    return record


@dataclass(frozen=True)
class _Images:
    """The images that a run is over."""

    ids: list[str]  # in the order of the data set
    in_dataset: int  # how many the whole data set has
    skipped: dict[str, str]  # why images are left out, by name
    left_out: int = 0  # how many of the data set cannot be used, those that are missing included

    def __str__(self) -> str:
        return f"{len(self.ids)} of {self.in_dataset} images"

    @property
    def are_all(self) -> bool:
        return len(self.ids) >= self.in_dataset


def _choose_images(entry: Entry, dataset: Dataset, settings: RunSettings) -> _Images:
    """Checks the files of the images, and returns those that are evaluated."""
    ids, in_dataset = list(dataset.image_ids)[: settings.limit], images_in_dataset(dataset)
    if not settings.keep_going:
        require_headers(dataset, ids)
        return _Images(ids, in_dataset, dict(dataset.skipped))
    ids, unreadable = usable_images(dataset, ids)
    skipped = {**dataset.skipped, **unreadable}
    for reason in skipped.values():
        say(f"skipped: {reason}")
    missing = in_dataset - len(dataset) - len(dataset.skipped)
    if missing:
        say(f"missing: {missing} of {in_dataset} images, pictures and ground truth")
    if not ids:
        raise DataError(f"{entry.name}: none of {in_dataset} images can be used; the lines above say why")
    return _Images(ids, in_dataset, skipped, in_dataset - len(dataset) + len(unreadable))


@dataclass(frozen=True)
class _Run:
    """What a run is made of, and its steps."""

    entry: Entry
    dataset: Dataset
    checkpoint: Fetched
    settings: RunSettings
    images: _Images
    clock: Clock

    def identity(self) -> dict[str, Any]:
        """Returns what an unfinished run must have been made of to be resumed."""
        recorded = self.settings.recorded()
        return {
            "entry": self.entry.name,
            "entry_digest": self.entry.digest(),
            "checkpoint_sha256": self.checkpoint.sha256,
            "dataset_fingerprint": self.dataset.fingerprint(),
            "settings": {key: recorded[key] for key in ("precision", "scales", "flip")},
            "device": kind_of_device(self.settings.device),
            "versions": versions(),
            "code": code_digest(),
        }

    def evaluate(self, pipeline: Pipeline, folder: RunFolder) -> tuple[OfficialScores, int]:
        """Evaluates the images that are not done yet, runs the official scripts, and returns their scores.

        The second value is how many images were evaluated now.
        """
        from zoo.repro.datasets.predictions import missing_predictions
        from zoo.repro.official.scripts import start_official

        ids = self.images.ids
        done = folder.done(ids)
        done -= set(missing_predictions(folder.predictions, done))
        if done:
            say(f"resuming a run with {counted(len(done), 'image')} done in {folder.root}")
        with start_official(self.dataset, ids, folder.predictions, folder.official) as official:
            try:
                pipeline.run(ids, done)
                self.clock.lap("images_s")
                say("running the official scripts")
                scores = official.finish()
            except KeyboardInterrupt:
                raise self._interrupted(folder) from None
            if scores.metrics:
                scores.provenance["processes"] = official.processes
        self.clock.lap("official_s")
        return scores, len(ids) - len(done)

    def _interrupted(self, folder: RunFolder) -> InterruptedRunError:
        ids = self.images.ids
        done = folder.done(ids)
        kept = [image_id for image_id in ids if image_id in done]
        if kept:
            say(numbers_so_far(folder, kept, self.dataset.info, self.images.in_dataset))
        return InterruptedRunError(
            f"{self.entry.name}: interrupted with {len(kept)} of {len(ids)} images done; "
            f"run the same command again to resume (kept in {folder.root})",
            images_done=len(kept),
            images=len(ids),
        )

    def score(self, folder: RunFolder, official: OfficialScores) -> dict[str, Any]:
        """Returns the record's part that holds the numbers of both evaluators; draws some images."""
        scores = InternalScores(self.dataset.info)
        qualities: dict[str, float] = {}
        ids = self.images.ids
        for image_id, arrays in zip(ids, folder.read_statistics(ids), strict=True):
            scores.add(arrays)
            qualities[image_id] = image_quality(arrays)
        internal = scores.compute()
        official.take_semantic(internal.official_miou, internal.official_iou)
        self.clock.lap("internal_s")
        pictures = write_pictures(self.dataset, qualities, folder)
        self.clock.lap("pictures_s")
        measured: dict[str, Any] = {
            "metrics": {"official": finite(official.metrics), "internal": finite(internal.metrics)},
            "per_class": {"official": official.per_class, "internal": internal.per_class},
            "ap12": internal.ap12,
            "pictures": pictures,
            "official_scripts": official.provenance,
        }
        if not self.images.are_all:
            intervals = intervals_for(
                folder.read_statistics(ids), measured["metrics"], images_in_dataset=self.images.in_dataset
            )
            measured |= {"intervals": intervals} if intervals else {}
        self.clock.lap("intervals_s")
        return measured

    def record(
        self, identity: Mapping[str, Any], measured: Mapping[str, Any], pipeline: Pipeline
    ) -> dict[str, Any]:
        """Returns the run record, the timings of the images left out."""
        images = self.images
        reasons = [f"{images.left_out} of {images.in_dataset} images skipped"] if images.left_out else []
        if changes := self.settings.changes_numbers():
            reasons.append(f"measured with {' '.join(changes)}")
        claims = judge_claims(
            self.entry.published,
            measured["metrics"],
            not_judged=", ".join(reasons) or None,
            partial=None if images.are_all else str(images),
            intervals=measured.get("intervals"),
        )
        return {
            "schema": SCHEMA_VERSION,
            "entry": self.entry.name,
            "images": len(images.ids),
            "images_in_dataset": images.in_dataset,
            "skipped": images.skipped,
            "claims": claims,
            **measured,
            "post_processing": pipeline.options,
            "device": pipeline.device,
            "entry_digest": identity["entry_digest"],
            "checkpoint": {
                "url": self.checkpoint.url,
                "sha256": self.checkpoint.sha256,
                "bytes": self.checkpoint.bytes,
                "receipt": pipeline.receipt,
            },
            "dataset": {"name": self.entry.dataset, "fingerprint": identity["dataset_fingerprint"]},
            "settings": self.settings.recorded(),
            "versions": identity["versions"],
            "code": identity["code"],
            "timings": {"started": self.clock.started, **self.clock.laps},
        }

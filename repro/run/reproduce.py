"""Reproduces an entry: one pass over the data, both evaluators, the run record."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import DataError, EvaluationError, InterruptedRunError, UsageError
from zoo.files.atomic import write_atomically
from zoo.files.json_files import write_json
from zoo.files.tensorflow import import_tensorflow
from zoo.files.words import counted
from zoo.network.devices import kind_of_device
from zoo.reports.tables.claim_table import markdown
from zoo.repro.datasets.checking import require_headers, usable_images
from zoo.repro.datasets.dataset import images_in_dataset
from zoo.repro.datasets.opening import open_dataset
from zoo.repro.records.record import SCHEMA_VERSION, finite
from zoo.repro.records.run_destination import RunDestination
from zoo.repro.records.software import code_digest, versions
from zoo.repro.records.statistics import image_quality
from zoo.repro.run.claims import judge_claims
from zoo.repro.run.pictures import write_pictures
from zoo.repro.run.scores import InternalScores

if TYPE_CHECKING:
    from zoo.fetch.fetcher import Fetcher
    from zoo.files.cache import Cache
    from zoo.registry import Entry, Registry
    from zoo.repro.datasets.dataset import Dataset
    from zoo.repro.records.run_folder import RunFolder
    from zoo.repro.run.pipeline import Pipeline


@dataclass(frozen=True)
class RunSettings:
    """What a user may choose about a run.

    Attributes:
      limit: evaluate only the first `limit` images, or all where None.
      device: see `zoo.network.devices.strategy_for`.
      precision: `float32` or `bfloat16`, what convolutions compute in.
      scales: image scales whose predictions are averaged.
      flip: average with the predictions for the mirrored image too.
    """

    limit: int | None = None
    device: str = "auto"
    precision: str = "float32"
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

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
        }
        return "__".join(
            [entry.replace("/", "__"), *(name for name, is_given in options.items() if is_given)]
        )


def reproduce_entry(
    entry: Entry,
    *,
    registry: Registry,
    data: Path | None = None,
    out: Path | None = None,
    settings: RunSettings = RunSettings(),
    restart: bool = False,
    keep_going: bool = False,
    fetcher: Fetcher | None = None,
) -> dict[str, Any]:
    """Evaluates one entry and returns its run record, which is also written to the run's folder.

    Args:
      entry: the registry's entry.
      registry: where the entry's data set is declared.
      data: the data set's folder; None for a bundled data set.
      out: the folder for runs, or None for the cache's; see `RunSettings.folder_name`.
      settings: what the user chose.
      restart: discard an unfinished run instead of going on with it.
      keep_going: leave out images that cannot be used, and say so, instead of ending with an error.
      fetcher: fetches the checkpoint and knows the cache; None for the default one.

    Raises:
      ZooError: the run could not be made; one line says why.
    """
    if settings.precision not in ("float32", "bfloat16"):
        raise UsageError(f"--precision {settings.precision}: expected float32 or bfloat16")
    from zoo.fetch.fetcher import Fetcher
    from zoo.files.cache import RUNS
    from zoo.repro.run.pipeline import Pipeline

    clock = _Clock()
    fetcher = fetcher or Fetcher()
    dataset = open_dataset(
        registry.dataset(entry.dataset), data, fetcher, keep_going=keep_going, needed_by=entry.name
    )
    checkpoint = fetcher.checkpoint(entry)
    import_tensorflow()
    identity = {
        "entry": entry.name,
        "entry_digest": entry.digest(),
        "checkpoint_sha256": checkpoint.sha256,
        "dataset_fingerprint": dataset.fingerprint(),
        "settings": _json({k: v for k, v in asdict(settings).items() if k not in ("limit", "device")}),
        "device": kind_of_device(settings.device),
        "versions": versions(),
        "code": code_digest(),
    }
    image_ids = list(dataset.image_ids)[: settings.limit]
    skipped = dict(dataset.skipped)
    all_images = images_in_dataset(dataset)
    left_out = 0
    if keep_going:
        image_ids, unreadable = usable_images(dataset, image_ids)
        skipped |= unreadable
        for reason in skipped.values():
            say(f"skipped: {reason}")
        unnamed = all_images - len(dataset) - len(dataset.skipped)
        if unnamed:
            say(f"missing: {unnamed} of {all_images} images, pictures and ground truth")
        left_out = all_images - len(dataset) + len(unreadable)
        if not image_ids:
            raise DataError(f"{entry.name}: none of {all_images} images can be used; the lines above say why")
    else:
        require_headers(dataset, image_ids)
    destination = RunDestination(Path(out or fetcher.cache.root / RUNS) / settings.folder_name(entry.name))
    with destination.in_use():
        destination.check(identity, restart=restart)
        say(f"{entry.name}: {len(image_ids)} of {all_images} images of {entry.dataset}, their files checked")
        clock.lap("prepare_s")
        # Device and network first: without them there is nothing to begin.
        pipeline = Pipeline(entry, dataset, checkpoint, settings, destination.unfinished)
        clock.lap("load_s")
        folder = destination.open(identity, restart=restart)
        measured = _measure(entry.name, dataset, image_ids, pipeline, folder, fetcher.cache, clock)
        intervals = _intervals(folder, image_ids, measured["metrics"], all_images)
        clock.lap("intervals_s")
        receipt, timings = measured.pop("receipt"), measured.pop("timings")
        record = {
            "schema": SCHEMA_VERSION,
            "entry": entry.name,
            "images": len(image_ids),
            "images_in_dataset": all_images,
            "skipped": skipped,
            "claims": judge_claims(
                entry.published,
                measured["metrics"],
                not_judged=_why_not_judged(settings, left_out, all_images),
                partial=_how_partial(len(image_ids), all_images),
                intervals=intervals,
            ),
            **measured,
            **({"intervals": intervals} if intervals else {}),
            "entry_digest": identity["entry_digest"],
            "checkpoint": {
                "url": checkpoint.url,
                "sha256": checkpoint.sha256,
                "bytes": checkpoint.bytes,
                "receipt": receipt,
            },
            "dataset": {"name": entry.dataset, "fingerprint": identity["dataset_fingerprint"]},
            "settings": _json(asdict(settings)),
            "versions": identity["versions"],
            "code": identity["code"],
            "timings": {"started": clock.started, **clock.laps, **timings},
        }
        record["timings"]["total_s"] = clock.total()
        write_atomically(folder.root / "table.md", markdown([record]))
        write_json(folder.root / "record.json", record)
        failure = measured["official_scripts"].get("failed")
        if failure is not None:
            raise EvaluationError(
                f"{entry.name}: {failure}; the internal numbers and predictions are kept in {folder.root}; "
                "run the same command again to go on at the scripts"
            )
        kept = destination.finish()
    if kept is not None:
        say(f"the last run here was of something else, and is kept in {kept}")
    say(f"run record: {destination.finished.root / 'record.json'}")
    return record


def _measure(
    name: str,
    dataset: Dataset,
    image_ids: list[str],
    pipeline: Pipeline,
    folder: RunFolder,
    cache: Cache,
    clock: _Clock,
) -> dict[str, Any]:
    """Evaluates what is not done yet, runs both evaluators, and returns their part of the record."""
    from zoo.repro.datasets.predictions import missing_predictions
    from zoo.repro.official.scripts import start_official
    from zoo.repro.run.interrupted import numbers_so_far

    done = folder.done(image_ids)
    done -= set(missing_predictions(folder.predictions, done))
    if done:
        say(f"going on with {counted(len(done), 'image')} of an interrupted run in {folder.root}")
    official = start_official(dataset, image_ids, folder.predictions, folder.official)
    try:
        with pipeline:
            pipeline.run(image_ids, done)
        clock.lap("images_s")
        say("running the official scripts")
        official_scores = official.finish()
        if official_scores.metrics:
            official_scores.provenance["processes"] = official.processes
        clock.lap("official_s")
    except KeyboardInterrupt:
        done = folder.done(image_ids)
        kept = [image_id for image_id in image_ids if image_id in done]
        if kept:
            say(numbers_so_far(folder, kept, dataset.info, images_in_dataset(dataset)))
        raise InterruptedRunError(
            f"{name}: interrupted with {len(kept)} of {len(image_ids)} images done; "
            f"run the same command again to go on (kept in {folder.root})",
            images_done=len(kept),
            images=len(image_ids),
        ) from None
    finally:
        official.close()

    scores = InternalScores(dataset.info)
    qualities: dict[str, float] = {}
    for image_id, arrays in zip(image_ids, folder.read_statistics(image_ids), strict=True):
        scores.add(arrays)
        qualities[image_id] = image_quality(arrays)
    internal = scores.compute()
    official_scores.take_semantic(internal.official_miou, internal.official_iou)
    clock.lap("internal_s")
    pictures = write_pictures(dataset, qualities, folder)
    clock.lap("pictures_s")
    return {
        "metrics": {"official": finite(official_scores.metrics), "internal": finite(internal.metrics)},
        "per_class": {"official": official_scores.per_class, "internal": internal.per_class},
        "ap12": internal.ap12,
        "pictures": pictures,
        "post_processing": pipeline.options,
        "official_scripts": official_scores.provenance,
        "device": pipeline.device,
        "receipt": pipeline.receipt,
        "timings": {
            "images_computed": len(image_ids) - len(done),
            **pipeline.timings,
            **official_scores.timings,
        },
    }


def _intervals(
    folder: RunFolder, image_ids: list[str], metrics: dict[str, Any], images_in_dataset: int
) -> dict[str, Any]:
    """Returns where the metrics of the whole data set lie, for a run over a part of it."""
    if len(image_ids) >= images_in_dataset:
        return {}
    from zoo.repro.run.intervals import intervals_for

    statistics = folder.read_statistics(image_ids)
    intervals: dict[str, Any] = _json(intervals_for(statistics, metrics, images_in_dataset=images_in_dataset))
    return intervals


def _why_not_judged(settings: RunSettings, left_out: int, all_images: int) -> str | None:
    reasons = [f"{left_out} of {all_images} images skipped"] if left_out else []
    changes = settings.changes_numbers()
    if changes:
        reasons.append(f"measured with {' '.join(changes)}")
    return ", ".join(reasons) or None


def _how_partial(images: int, all_images: int) -> str | None:
    return f"{images} of {all_images} images" if images < all_images else None


def say(message: str) -> None:
    """Prints progress for a person; stdout is kept for data."""
    print(f"zoo: {message}", file=sys.stderr, flush=True)


class _Clock:
    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self.started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = now - self._last
        self._last = now

    def total(self) -> float:
        return time.perf_counter() - self._start


def _json(value: Any) -> Any:
    return json.loads(json.dumps(value))

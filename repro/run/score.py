"""Scores predictions of any model: a run whose predictions are read from disk."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import DataError, UsageError
from zoo.files.cache import Cache
from zoo.files.progress import say
from zoo.files.signatures import showing_options_of
from zoo.files.words import counted
from zoo.remote.path import path_at
from zoo.repro.cluster.connection import connected
from zoo.repro.cluster.crew import Crew
from zoo.repro.datasets.opening import OpenElsewhere, open_dataset
from zoo.repro.predictions.check import PredictionsCheck, all_findings, summarize_findings
from zoo.repro.predictions.finding import FindingError
from zoo.repro.predictions.predictions import Predictions, open_predictions
from zoo.repro.records.run_store import destination_at
from zoo.repro.run.folder_pass import FolderPass, MakeFolderPass
from zoo.repro.run.image_pass import CrewPass
from zoo.repro.run.images import NoImageError, choose_images
from zoo.repro.run.own_claims import joined_claims, parse_claim
from zoo.repro.run.run import Clock, Run
from zoo.repro.run.settings import ScoreSettings

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from zoo.registry import Claim
    from zoo.registry.lookup import RegistryLike
    from zoo.repro.records.run_folder import RunFolder
    from zoo.repro.run.image_pass import ImagePass
    from zoo.repro.run.images import RunImages
    from zoo.repro.run.settings import ScoreKeywords

# Folders whose name says nothing of the model.
_PLAIN_NAMES = {"predictions", "panoptic", "results", "output", "out", "semantic", "inference"}


class UnsoundPredictionsError(DataError):
    """Predictions with something wrong in them; `check` says what."""

    def __init__(self, name: str, check: PredictionsCheck) -> None:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in check.counts.items())
        found = counted(sum(check.counts.values()), "finding")
        remedy = "mend them, or leave out images that cannot be scored with --keep-going"
        if any(finding.fixable for finding in check.findings):
            remedy = f"--fix DIR writes a corrected copy, or {remedy}"
        super().__init__(f"{name}: {found}, so nothing was scored: {kinds}; {remedy}")
        self.check = check


@showing_options_of(ScoreSettings)
def score(
    predictions: Path | str,
    *,
    dataset: str,
    data: Path | str | None = None,
    out: Path | str | None = None,
    claims: Iterable[Claim | str] = (),
    registry: RegistryLike | None = None,
    **options: Unpack[ScoreKeywords],
) -> dict[str, Any]:
    """Checks and scores predictions as `zoo score` does and returns the run record.

    Args:
      predictions: a folder, a run's folder, a .zip, or a JSON file beside its folder.
      dataset: name of the data set whose images were predicted.
      data: the data set's folder; None for a bundled data set.
      out: the folder for runs, or its URL in a bucket; None for the cache's.
      claims: numbers to compare with, as "pq=58.1" or "internal.miou=70.25".
      registry: as for `zoo.load`.
      **options: fields of `ScoreSettings`, as `divisor=1000`.

    Raises:
      UnsoundPredictionsError: something is wrong with the predictions.
      ZooError: the run could not be made; one line says why.
    """
    from zoo.fetch.fetcher import Fetcher
    from zoo.files.cache import RUNS
    from zoo.registry import load_registry

    clock, settings, fetcher = Clock(), ScoreSettings(**options), Fetcher()
    path, out = Path(predictions), path_at(out or fetcher.cache.root / RUNS)
    _require_apart(path, out)
    judged = joined_claims(
        parse_claim(each, settings.evaluators) if isinstance(each, str) else each for each in claims
    )
    declared = load_registry(registry).dataset(dataset)
    folder = None if data is None else path_at(data)
    opened = open_dataset(declared, folder, fetcher, keep_going=settings.keep_going, needed_by=str(path))
    name = settings.name or _name_of(path)
    found = open_predictions(path, opened, form=settings.form, divisor=settings.divisor, ids=settings.ids)
    _say_what_is_measured(name, found)
    images = choose_images(name, opened, limit=settings.limit, keep_going=settings.keep_going)
    run = _Scoring(name, opened, declared.name, _without_known_problems(name, found, images, settings), clock)
    run.predictions, run.settings, run.judged = found, settings, judged
    run.restart, run.evaluators, run.metrics = settings.restart, settings.evaluators, settings.metrics
    run.holds = found.holds | ({"semantic"} if "panoptic" in found.holds else set())
    run.workers = settings.workers
    run.open_elsewhere = OpenElsewhere.like(opened, declared, folder, keep_going=settings.keep_going)
    with connected(settings.workers) if settings.workers else nullcontext():
        return run.make(out / settings.folder_name(re.sub(r"[^\w.-]+", "_", name)))


def _require_apart(predictions: Path, out: Path) -> None:
    if isinstance(out, Path) and predictions.is_dir() and out.resolve().is_relative_to(predictions.resolve()):
        raise UsageError(f"--out {out}: expected a folder outside of the predictions, {predictions}")


def _name_of(path: Path) -> str:
    path = Path(os.path.realpath(path))
    name = path.stem if path.is_file() else path.name
    return name if name not in _PLAIN_NAMES else f"{path.parent.name}_{name}".strip("_")


def _say_what_is_measured(name: str, predictions: Predictions) -> None:
    held = predictions.holds
    notes = [
        ("panoptic" not in held, "no PQ, as there are no panoptic maps"),
        ("semantic" not in held and "panoptic" in held, "mIoU of the panoptic maps, as there are no others"),
        (not held & {"panoptic", "semantic"}, "no mIoU, as there are no maps"),
        ("instances" not in held, "no AP, as there are neither scores nor masks"),
        (
            "panoptic" in held and predictions.parts.masks is not None,
            "AP of the masks, where these are not the segments of the panoptic map",
        ),
    ]
    say("; ".join([f"{name}: reading {predictions.form}", *(note for holds, note in notes if holds)]))


def _without_known_problems(
    name: str, predictions: Predictions, images: RunImages, settings: ScoreSettings
) -> RunImages:
    """Returns the images that can be scored, as far as is known before they are read.

    Raises:
      FindingError: something is wrong as a whole, so that no image can be scored.
      UnsoundPredictionsError: something is wrong, and images are not to be left out.
    """
    evaluated = set(images.ids)
    problems = [each for each in predictions.problems if each.image_id in evaluated or not each.image_id]
    if problems and not settings.keep_going:
        findings = [*predictions.problems, *all_findings(predictions, images.ids)]
        raise UnsoundPredictionsError(name, summarize_findings(predictions, findings))
    wrong: dict[str, str] = {}
    for finding in problems:
        if not finding.blocks:
            say(f"passed over: {finding}")
        elif finding.image_id:
            wrong.setdefault(finding.image_id, str(finding))
        else:
            raise FindingError(finding)
    return images.without(name, {each: wrong[each] for each in images.ids if each in wrong})


class _Scoring(Run):
    """A run over predictions on disk."""

    predictions: Predictions
    settings: ScoreSettings
    judged: Sequence[Claim] = ()

    def own_identity(self, fingerprint: str) -> dict[str, Any]:
        recorded = self.settings.recorded()
        return {
            "entry": None,
            "predictions_sha256": self.predictions.digest,
            "dataset_fingerprint": fingerprint,
            "settings": {key: recorded[key] for key in ("form", "divisor", "ids", "metrics")},
        }

    def start(self, folder: RunFolder) -> FolderPass:
        scores, keep_going = self.new_scores(), self.settings.keep_going
        shared = None
        if self.workers is not None:
            make_worker = MakeFolderPass(
                self.predictions.path.resolve(),
                replace(self.settings, workers=None),
                self.open_elsewhere,
                frozenset(self.holds),
            )
            crew = Crew(make_worker, self.workers, at_once=2, most=len(self.images.ids))
            shared = CrewPass(self.dataset, folder, scores, crew, keep_going=keep_going)
        return FolderPass(
            self.dataset,
            folder,
            scores,
            self.predictions,
            writes="official" in self.evaluators,
            keep_going=keep_going,
            shared=shared,
        )

    def make(self, path: Path) -> dict[str, Any]:
        """Makes the run; leaves nothing where nothing could be scored."""
        try:
            return super().make(path)
        except (UnsoundPredictionsError, NoImageError):
            destination_at(path, Cache().root).discard()
            raise

    def accept(self, image_pass: ImagePass) -> None:
        assert isinstance(image_pass, FolderPass)
        if not self.settings.keep_going and image_pass.findings:
            raise UnsoundPredictionsError(
                self.name, summarize_findings(self.predictions, image_pass.findings)
            )
        for finding in image_pass.findings:
            if not finding.blocks:
                say(f"passed over: {finding}")

    def own_record(self, image_pass: ImagePass) -> dict[str, Any]:
        found = self.predictions
        return {
            "predictions": {
                "name": self.name,
                "path": str(found.path.resolve()),
                "form": found.form,
                "sha256": found.digest,
                "holds": sorted(found.holds),
                "semantic_from_panoptic": "panoptic" in found.holds and "semantic" not in found.holds,
            },
            "post_processing": {"thing_class_ids": list(self.dataset.info.thing_class_ids)},
        }

    def recorded_settings(self) -> dict[str, Any]:
        return self.settings.recorded()

    def claims(self) -> Sequence[Claim]:
        return self.judged

"""One evaluation run, wherever predictions come from: one pass over the data, both evaluators, the record."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import EvaluationError, InterruptedRunError
from zoo.files.atomic import write_atomically
from zoo.files.cache import Cache
from zoo.files.json_files import write_json
from zoo.files.progress import say
from zoo.files.words import counted, utc_now
from zoo.reports.tables.claim_table import markdown
from zoo.repro.cluster.official_parts import look_at_parts
from zoo.repro.datasets.predictions import EVERYTHING, missing_predictions
from zoo.repro.official.scripts import OfficialRun, OfficialScores, start_official
from zoo.repro.records.claims import judge_claims
from zoo.repro.records.record import SCHEMA_VERSION, finite
from zoo.repro.records.run_store import destination_at
from zoo.repro.records.software import code_digest, versions
from zoo.repro.run.efficiency import efficiency
from zoo.repro.run.intervals import intervals_for, numbers_so_far
from zoo.repro.run.pictures import write_pictures
from zoo.repro.run.scores import InternalScores

if TYPE_CHECKING:
    from zoo.registry import Claim, Entry
    from zoo.repro.cluster.workers import Workers
    from zoo.repro.datasets.dataset import Dataset
    from zoo.repro.records.run_folder import RunFolder
    from zoo.repro.run.image_pass import ImagePass
    from zoo.repro.run.images import RunImages


class Clock:
    """Measures the parts of a run."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self.started = utc_now()
        self.laps: dict[str, float] = {}  # seconds of each part that has ended

    def lap(self, name: str) -> None:
        """Ends a part: what was done since the last one ended."""
        now = time.perf_counter()
        self.laps[name] = now - self._last
        self._last = now

    def total(self) -> float:
        """Returns the seconds since the clock was made."""
        return time.perf_counter() - self._start


class Run(ABC):
    """What a run is made of, and its steps.

    Attributes:
      name: what messages call the run.
      entry: whose network makes the predictions; None where they were made elsewhere.
      holds: what is predicted for each image.
      evaluators: whose numbers are in the record.
      metrics: what the internal evaluator measures besides PQ, mIoU and AP.
      restart: whether an unfinished run is discarded instead of resumed.
      workers: the processes of Ray that share the work; None for this process alone.
      open_elsewhere: opens the data set in another process, if there are workers.
    """

    entry: Entry | None = None
    holds: Collection[str] = EVERYTHING
    evaluators: Collection[str] = ("official", "internal")
    metrics: Collection[str] = ()
    restart: bool = False
    workers: Workers | None = None
    open_elsewhere: Callable[[], Dataset]

    def __init__(
        self, name: str, dataset: Dataset, dataset_name: str, images: RunImages, clock: Clock
    ) -> None:
        self.name = name
        self.dataset = dataset
        self.dataset_name = dataset_name
        self.images = images
        self.clock = clock

    # ---- what each kind of run adds ----

    @abstractmethod
    def own_identity(self, fingerprint: str) -> dict[str, Any]:
        """Returns what an unfinished run must have been made of to be resumed, the software apart.

        `fingerprint` is the data set's.
        """

    @abstractmethod
    def start(self, folder: RunFolder) -> ImagePass:
        """Loads what makes the predictions."""

    @abstractmethod
    def own_record(self, image_pass: ImagePass) -> dict[str, Any]:
        """Returns what the record says of where the predictions came from."""

    @abstractmethod
    def recorded_settings(self) -> dict[str, Any]:
        """Returns what the user chose, as JSON values."""

    def accept(self, image_pass: ImagePass) -> None:  # noqa: B027 - a network's predictions are sound
        """Raises a ZooError where predictions were found to be unsound."""

    def claims(self) -> Sequence[Claim]:
        """Returns the numbers that are compared with what is measured."""
        return ()

    def changes_numbers(self) -> list[str]:
        """Returns the options because of which no claim is judged."""
        return []

    # ---- the steps ----

    def new_scores(self) -> InternalScores:
        """Returns the internal metrics of no image yet."""
        return InternalScores(self.dataset.info, self.holds, boundary="boundary" in self.metrics)

    def make(self, path: Path) -> dict[str, Any]:
        """Makes the run, and returns its record, which is also written to the folder `path`.

        Raises:
          ZooError: the run could not be made; one line says why.
        """
        identity = self.identity()
        destination = destination_at(path, Cache().root)
        with destination.in_use():
            destination.check(identity, restart=self.restart)
            say(f"{self.name}: {self.images} of {self.dataset_name}, their files checked")
            self.clock.lap("prepare_s")
            # Before the folder is opened: without a device or a network there is nothing to begin.
            image_pass = self.start(destination.unfinished)
            self.clock.lap("load_s")
            with closing(image_pass):
                folder = destination.open(identity, restart=self.restart)
                with destination.sending() as image_pass.sends:
                    official, computed = self._evaluate(image_pass, folder)
            record = self._record(identity, self._score(folder, official, image_pass), image_pass)
            record["timings"] |= {"images_computed": computed, **image_pass.timings, **official.timings}
            record["timings"]["total_s"] = self.clock.total()
            replicas = record.get("device", {}).get("replicas", 1) * record.get("workers", {}).get(
                "actors", 1
            )
            record["efficiency"] = efficiency(self.entry, record["timings"], replicas=replicas)
            write_atomically(folder.root / "table.md", markdown([record]))
            write_json(folder.root / "record.json", record)
            if "failed" in official.provenance:
                raise EvaluationError(
                    f"{self.name}: {official.provenance['failed']}; the internal numbers and predictions are "
                    f"kept in {folder.root}; run the same command again to resume at the scripts"
                )
            kept = destination.finish()
        if kept is not None:
            say(f"the last run here was of something else, and is kept in {kept}")
        say(f"run record: {destination.place}/record.json")
        return record

    def identity(self) -> dict[str, Any]:
        """Returns what an unfinished run must have been made of to be resumed."""
        return {
            **self.own_identity(self.dataset.fingerprint()),
            "versions": versions(),
            "code": code_digest(),
        }

    def _evaluate(self, image_pass: ImagePass, folder: RunFolder) -> tuple[OfficialScores, int]:
        """Evaluates the images that are not done yet, runs the official scripts, and returns their scores.

        The second value is how many images were evaluated now.
        """
        ids = self.images.ids
        begun = [image_id for image_id in ids if folder.statistics_path(image_id).exists()]
        if "official" in self.evaluators:
            missing = set(missing_predictions(folder.predictions, begun, self.holds))
            begun = [image_id for image_id in begun if image_id not in missing]
        done = image_pass.resume(begun)
        if done:
            say(f"resuming a run with {counted(len(done), 'image')} done in {folder.root}")
        with ExitStack() as stack:
            official = stack.enter_context(self._start_official(folder))
            try:
                image_pass.run(ids, done)
                self.accept(image_pass)
                self.clock.lap("images_s")
                if image_pass.given_up:
                    self.images = self.images.without(self.name, image_pass.given_up)
                    official.close()
                    official = stack.enter_context(self._start_official(folder))
                if "official" in self.evaluators:
                    say("running the official scripts")
                    self._share_official(official, folder)
                scores = official.finish()
            except KeyboardInterrupt:
                raise self._interrupted(folder) from None
            if scores.metrics:
                scores.provenance["processes"] = official.processes
        self.clock.lap("official_s")
        return scores, len(ids) - len(done) - len(image_pass.given_up)

    def _start_official(self, folder: RunFolder) -> OfficialRun:
        return start_official(
            self.dataset,
            self.images.ids,
            folder.predictions,
            folder.official,
            holds=self.holds,
            skipped=None if "official" in self.evaluators else "the official scripts were not asked for",
        )

    def _share_official(self, official: OfficialRun, folder: RunFolder) -> None:
        """Lets workers, if there are any, do what the official scripts do image by image."""
        if self.workers is not None and self.dataset.official_obstacle is None:
            look_at_parts(
                official,
                self.images.ids,
                folder.predictions,
                open_dataset=self.open_elsewhere,
                holds=self.holds,
                workers=self.workers,
            )

    def _interrupted(self, folder: RunFolder) -> InterruptedRunError:
        ids = self.images.ids
        done = folder.done(ids)
        kept = [image_id for image_id in ids if image_id in done]
        if kept:
            scores = self.new_scores()
            say(numbers_so_far(folder, kept, scores, self.images.in_dataset))
        return InterruptedRunError(
            f"{self.name}: interrupted with {len(kept)} of {len(ids)} images done; "
            f"run the same command again to resume (kept in {folder.root})",
            images_done=len(kept),
            images=len(ids),
        )

    def _score(self, folder: RunFolder, official: OfficialScores, image_pass: ImagePass) -> dict[str, Any]:
        """Returns the record's part that holds the numbers of both evaluators; draws some images."""
        internal = image_pass.scores.compute()
        official.take_semantic(internal.official_miou, internal.official_iou)
        self.clock.lap("internal_s")
        pictures = write_pictures(
            self.dataset,
            image_pass.qualities,
            folder,
            image_pass.predicted_map,
            has_segments="panoptic" in self.holds,
        )
        self.clock.lap("pictures_s")
        numbers = {"official": finite(official.metrics), "internal": finite(internal.metrics)}
        measured: dict[str, Any] = {
            "metrics": {name: found for name, found in numbers.items() if name in self.evaluators},
            "per_class": {"official": official.per_class, "internal": internal.per_class},
            "ap12": internal.ap12,
            "pictures": pictures,
            "official_scripts": official.provenance,
        }
        if not self.images.are_all:
            intervals = intervals_for(
                folder.read_statistics(self.images.ids),
                measured["metrics"],
                images_in_dataset=self.images.in_dataset,
            )
            measured |= {"intervals": intervals} if intervals else {}
        self.clock.lap("intervals_s")
        return measured

    def _record(
        self, identity: Mapping[str, Any], measured: Mapping[str, Any], image_pass: ImagePass
    ) -> dict[str, Any]:
        """Returns the run record, the timings of the images left out."""
        images = self.images
        reasons = [f"{images.left_out} of {images.in_dataset} images skipped"] if images.left_out else []
        if changes := self.changes_numbers():
            reasons.append(f"measured with {' '.join(changes)}")
        claims = judge_claims(
            self.claims(),
            measured["metrics"],
            not_judged=", ".join(reasons) or None,
            partial=None if images.are_all else str(images),
            intervals=measured.get("intervals"),
        )
        return {
            "schema": SCHEMA_VERSION,
            "entry": identity.get("entry"),
            "images": len(images.ids),
            "images_in_dataset": images.in_dataset,
            "skipped": images.skipped,
            "claims": claims,
            **measured,
            **self.own_record(image_pass),
            **({"workers": image_pass.workers} if image_pass.workers else {}),
            "dataset": {"name": self.dataset_name, "fingerprint": identity["dataset_fingerprint"]},
            "settings": self.recorded_settings(),
            "versions": identity["versions"],
            "code": identity["code"],
            "timings": {"started": self.clock.started, **self.clock.laps},
        }

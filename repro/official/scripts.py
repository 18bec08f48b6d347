"""Official scores of a run: the unmodified scripts on files on disk, and their unrounded results."""

from __future__ import annotations

import json
import math
import shutil
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import EvaluationError
from zoo.files.json_files import read_json
from zoo.files.processes import available_cores
from zoo.registry.formats import load_class
from zoo.repro.datasets.predictions import (
    EVERYTHING,
    PANOPTIC,
    assemble_panoptic_json,
    missing_predictions,
)
from zoo.repro.official import panoptic_job
from zoo.repro.official.jobs import Jobs, ScriptError
from zoo.repro.official.per_image import FOUND

if TYPE_CHECKING:
    from zoo.registry.dataset_info import DatasetInfo
    from zoo.repro.datasets.dataset import Dataset

# A script that takes longer than this is stuck: some twenty times what it takes on one slow core.
_PATIENCE_S = 300.0
_PATIENCE_S_PER_IMAGE = 20.0

RESULT = "result.json"
"""The file in which a script's job leaves its numbers."""


@dataclass(frozen=True)
class OfficialScores:
    """What the official scripts say."""

    # In percent, unrounded: `pq`, `sq`, `rq`, each also with `_things` and `_stuff`; `ap` and `ap50` of the
    # instances; `miou`, and for Cityscapes `iiou`. NaN where no class of a kind occurs. Empty where the
    # scripts could not run.
    metrics: dict[str, float] = field(default_factory=dict)
    # Metric -> class name -> percent, or None where the class does not occur (for PQ the script says 0).
    per_class: dict[str, dict[str, float | None]] = field(default_factory=dict)
    # Packages, scripts with digests, where the ground truth came from, and what had to be handled; or why
    # the scripts could not run (`skipped`), or which failed (`failed`) with what it printed last (`output`).
    provenance: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)  # seconds of each script

    def take_panoptic(self, result: Mapping[str, Any], info: DatasetInfo) -> None:
        """Takes the panoptic script's numbers, fractions by category id."""
        for group, suffix in (("All", ""), ("Things", "_things"), ("Stuff", "_stuff")):
            for metric in ("pq", "sq", "rq"):
                self.metrics[metric + suffix] = 100.0 * result[group][metric]
        for metric in ("pq", "sq", "rq"):
            self.per_class[metric] = {
                name: percent(result["per_class"][str(original_id)][metric])
                for name, original_id in zip(info.class_names, info.original_ids, strict=True)
                if str(original_id) in result["per_class"]
            }

    def take_semantic(self, miou: float | None, iou: Mapping[str, float | None]) -> None:
        """Takes mean IoU from the run's own statistics where no official script measures it, as for COCO.

        Its definition is that of COCO's panoptic API, whose converter makes semantic ground truth from the
        panoptic annotations: crowd regions keep their category, void is left out. Both are in percent, `iou`
        by class name; None stands for what was not measured.
        """
        if {"skipped", "failed"} & self.provenance.keys() or "miou" in self.metrics or miou is None:
            return
        self.metrics["miou"] = miou
        self.per_class["iou"] = dict(iou)
        reason = self.provenance.get("not_measured", {}).pop("miou", "there is no official script")
        self.provenance["miou"] = (
            "semantic head against the categories of the panoptic annotations, crowd regions included, void "
            f"left out; {reason}, so zoo counts the pixels"
        )


class OfficialRun(ABC):
    """The official scripts of one run; ground truth may be prepared while predictions are being made."""

    def __init__(
        self,
        dataset: Dataset,
        image_ids: Sequence[str],
        predictions: Path,
        folder: Path,
        processes: int | None,
        holds: Collection[str],
    ) -> None:
        """Starts to prepare; see `start_official`."""
        self._holds = holds
        self._dataset = dataset
        self._image_ids = list(image_ids)
        self._predictions = predictions
        self._folder = folder
        self._processes = processes or available_cores()
        self._patience_s = _PATIENCE_S + _PATIENCE_S_PER_IMAGE * len(self._image_ids)
        self._jobs = Jobs(folder)
        self._keeps = False
        shutil.rmtree(self._found, ignore_errors=True)
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="official")
        self._prepare()

    def _prepare(self) -> None:  # noqa: B027 - not every data set has something to prepare
        """Starts what can be done while predictions are being made."""

    def finish(self) -> OfficialScores:
        """Runs the scripts, all at once, on the predictions that are now complete.

        Where a script fails, the scores are empty, and their provenance says why.

        Raises:
          EvaluationError: predictions are missing.
        """
        missing = missing_predictions(self._predictions, self._image_ids, self._holds)
        if missing:
            raise EvaluationError(
                f"{self._predictions}: {len(missing)} of {len(self._image_ids)} predictions missing, "
                f"first: {missing[0]}; run again to make them"
            )
        try:
            return self._score()
        except ScriptError as error:
            return OfficialScores(provenance={"failed": str(error), "output": error.output})

    def finish_part(self) -> dict[str, bytes]:
        """Runs the scripts on a part of a run's images, and returns what each script found in them.

        Raises:
          EvaluationError: predictions are missing.
          ScriptError: a script failed.
        """
        self._keeps = True
        provenance = self.finish().provenance
        if "failed" in provenance:
            raise ScriptError(provenance["failed"], provenance["output"])
        return {path.parent.name: path.read_bytes() for path in self._folder.glob(f"*/{FOUND}")}

    def take_part(self, part: int, found: Mapping[str, bytes]) -> None:
        """Takes what `finish_part` returned for a part of the images, for `finish` to go on with."""
        folder = self._found / str(part)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in found.items():
            (folder / name).write_bytes(content)

    @property
    def _found(self) -> Path:
        return self._folder / "found"

    @property
    def processes(self) -> int:
        """The number of processes of each script, and of parts in which the panoptic script adds up."""
        return max(1, min(self._processes, len(self._image_ids)))

    @abstractmethod
    def _score(self) -> OfficialScores:
        """Runs the scripts on complete predictions."""

    def close(self) -> None:
        """Ends what still runs; harmless after `finish`."""
        self._jobs.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> OfficialRun:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _panoptic(
        self,
        truth: Path,
        folder: Path,
        official_ids: Mapping[str, int | str] | None = None,
        script: Mapping[str, str] = panoptic_job.PANOPTIC_JOB,
    ) -> tuple[Path, float]:
        """Runs a panoptic script on ground truth in the COCO format, annotations and a folder of PNG files.

        `official_ids` is by what number the ground truth calls each image; None where by its name.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        selected = self._folder / "panoptic_ground_truth.json"
        names = [official_ids[name] for name in self._image_ids] if official_ids else self._image_ids
        _select_annotations(truth, names, selected, self._dataset.info)
        predicted = assemble_panoptic_json(self._predictions, self._image_ids, official_ids)
        job = {
            **script,
            "gt_json": str(selected.resolve()),
            "gt_folder": str(folder.resolve()),
            "prediction_json": str(predicted.resolve()),
            "prediction_folder": str((self._predictions / PANOPTIC).resolve()),
            "result": RESULT,
            "parts": self.processes,
        }
        return self._run("panoptic", job)

    def _run(
        self, name: str, job: Mapping[str, Any], environment: Mapping[str, str] | None = None
    ) -> tuple[Path, float]:
        """Runs a script; what was found in images elsewhere is not looked for again."""
        found = sorted(str(path.resolve()) for path in self._found.glob(f"*/{name}"))
        shared = {"processes": self.processes, "found": found, "keeps": self._keeps}
        return self._jobs.run(name, {**job, **shared}, environment=environment, patience_s=self._patience_s)

    def _note(self, scores: OfficialScores, parts: Mapping[str, tuple[Path, float]]) -> None:
        """Adds to the scores how long each script took, what had to be handled, and what was not measured."""
        handled = scores.provenance.setdefault("handled", [])
        if self._dataset.not_measured:
            scores.provenance["not_measured"] = dict(self._dataset.not_measured)
        for name, (work, seconds) in parts.items():
            handled += json.loads((work / "handled.json").read_text(encoding="utf-8"))
            scores.timings[f"official_{name}_s"] = seconds


def start_official(
    dataset: Dataset,
    image_ids: Sequence[str],
    predictions: Path,
    folder: Path,
    processes: int | None = None,
    holds: Collection[str] = EVERYTHING,
    skipped: str | None = None,
) -> OfficialRun:
    """Starts the official scoring of a run and returns at once.

    What the data set lacks for it is made in the background. Call `finish` when all predictions are written,
    and `close` in any case.

    Args:
      dataset: the data set; where its `official_obstacle` is set, `finish` gives no metrics.
      image_ids: the images that are evaluated; fewer than all restrict the ground truth too.
      predictions: folder in which `write_predictions` writes.
      folder: folder for the scripts' own files: results, output, links.
      processes: how many processes to use at once; None for one on each core.
      holds: what the predictions hold; scripts for something else are not run.
      skipped: why the scripts are not to run; None where they are.
    """
    skipped = skipped or dataset.official_obstacle
    if skipped is not None:
        return _NoOfficialRun(skipped)
    run: type[OfficialRun] = load_class(dataset.official_run)
    return run(dataset, image_ids, predictions, folder, processes, holds)


class _NoOfficialRun(OfficialRun):
    """For runs that the official scripts cannot score, or are not asked to."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def finish(self) -> OfficialScores:
        return self._score()

    def close(self) -> None:
        pass

    def _score(self) -> OfficialScores:
        return OfficialScores(provenance={"skipped": self._reason})


def _select_annotations(source: Path, image_ids: Sequence[int | str], path: Path, info: DatasetInfo) -> None:
    """Writes the part of a panoptic annotation file that belongs to some images, in their order.

    Where the file does not list its categories, those of `info` are written.
    """
    content = json.loads(source.read_text(encoding="utf-8"))
    content["categories"] = content.get("categories") or categories_of(info)
    for key, name in (("images", "id"), ("annotations", "image_id")):
        by_id = {element[name]: element for element in content[key]}
        content[key] = [by_id[image_id] for image_id in image_ids]
    path.write_text(json.dumps(content), encoding="utf-8")


def categories_of(info: DatasetInfo) -> list[dict[str, Any]]:
    """Returns classes as the `categories` of a panoptic annotation file."""
    return [
        {
            "id": original_id,
            "name": info.class_names[train_id],
            "isthing": int(train_id in info.thing_class_ids),
        }
        for original_id, train_id in info.train_ids.items()
    ]


def script_result(work: Path) -> dict[str, Any]:
    """Returns the numbers that a script's job left in its folder; raises a ScriptError if there are none."""
    found = read_json(work / RESULT)
    if found is None:
        raise ScriptError(f"{work / RESULT}: the script left no results; see log.txt beside it", [])
    return dict(found)


def percent(value: float | None) -> float | None:
    """Returns a fraction as percent, NaN and None as None."""
    return None if value is None or math.isnan(value) else 100.0 * value

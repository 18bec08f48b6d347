"""Official Cityscapes scores: the unmodified scripts on files on disk, and their unrounded results."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import EvaluationError
from zoo.repro.cityscapes import CityscapesDataset
from zoo.repro.official_ground_truth import PanopticGroundTruth, panoptic_ground_truth
from zoo.repro.official_jobs import Jobs, available_cores, mirror_files, provenance
from zoo.repro.predictions import (
    INSTANCE,
    PANOPTIC,
    SEMANTIC,
    assemble_panoptic_json,
    missing_predictions,
)

if TYPE_CHECKING:
    from zoo.repro.dataset import CacheOrFolder, Dataset, DatasetInfo

# A script that takes longer than this is stuck: some twenty times what it takes on one slow core.
_PATIENCE_S = 300.0
_PATIENCE_S_PER_IMAGE = 20.0


@dataclass(frozen=True)
class OfficialScores:
    """What the official scripts say.

    Attributes:
      metrics: in percent, unrounded: `pq`, `sq`, `rq`, each also with `_things` and `_stuff`; `miou` and
        `iiou` of the pixel-level script; `ap` and `ap50` of the instance-level script. NaN where no class
        of a kind occurs. Empty where the scripts could not run.
      per_class: metric -> class name -> percent, or None where the class does not occur (for PQ the script
        says 0 instead).
      provenance: package, scripts with digests, where the panoptic ground truth came from, and what had to
        be handled; or why the scripts could not run.
      timings: seconds of each script.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    per_class: dict[str, dict[str, float | None]] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)


class OfficialRun:
    """The official scripts of one run; ground truth is prepared while predictions are still being made."""

    def __init__(
        self,
        dataset: Dataset,
        image_ids: Sequence[str],
        predictions: Path,
        folder: Path,
        *,
        cache: CacheOrFolder = None,
        processes: int | None = None,
    ) -> None:
        """Starts to prepare; see `start_official`."""
        self._image_ids = list(image_ids)
        self._predictions = predictions
        self._folder = folder
        self._processes = processes or available_cores()
        self._patience_s = _PATIENCE_S + _PATIENCE_S_PER_IMAGE * len(self._image_ids)
        self._jobs = Jobs(folder)
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="official")
        self.obstacle = dataset.official_obstacle
        if self.obstacle is None and not isinstance(dataset, CityscapesDataset):
            self.obstacle = f"there are no official Cityscapes scores for {dataset.info.name}"
        self._ground_truth: Future[PanopticGroundTruth] | None = None
        if self.obstacle is None:
            assert isinstance(dataset, CityscapesDataset)
            self._dataset = dataset
            self._ground_truth = self._threads.submit(
                panoptic_ground_truth,
                dataset,
                self._image_ids,
                self._jobs,
                cache=cache,
                processes=max(1, self._processes // 2),
                patience_s=self._patience_s,
            )

    def finish(self) -> OfficialScores:
        """Runs the scripts, all at once, on the predictions that are now complete.

        Raises:
          EvaluationError: predictions are missing, or a script failed.
        """
        if self._ground_truth is None:
            return OfficialScores(provenance={"skipped": self.obstacle})
        missing = missing_predictions(self._predictions, self._image_ids)
        if missing:
            raise EvaluationError(
                f"{self._predictions}: {len(missing)} of {len(self._image_ids)} predictions missing, "
                f"first: {missing[0]}; run again to make them"
            )
        self._link_ground_truth()
        pixel = self._threads.submit(self._pixel)
        instance = self._threads.submit(self._instance)
        ground_truth = self._ground_truth.result()
        panoptic = self._threads.submit(self._panoptic, ground_truth)
        parts = {"panoptic": panoptic.result(), "pixel": pixel.result(), "instance": instance.result()}
        scores = OfficialScores(
            provenance={**provenance(), "panoptic_ground_truth": ground_truth.source, "handled": []},
            timings={"official_ground_truth_s": ground_truth.seconds},
        )
        info = self._dataset.info
        _take_panoptic(scores, _result(parts["panoptic"][0]), info)
        _take_pixel(scores, _result(parts["pixel"][0]), info)
        _take_instance(scores, _result(parts["instance"][0]), info)
        for name, (work, seconds) in parts.items():
            scores.provenance["handled"] += json.loads((work / "handled.json").read_text(encoding="utf-8"))
            scores.timings[f"official_{name}_s"] = seconds
        return scores

    def close(self) -> None:
        """Ends what still runs; harmless after `finish`."""
        self._jobs.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> OfficialRun:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _link_ground_truth(self) -> None:
        """Makes a folder with the evaluated images' ground truth alone: the scripts take all they find."""
        import shutil

        folder = self._folder / "ground_truth"
        shutil.rmtree(folder, ignore_errors=True)
        names = [
            self._dataset.ground_truth_name(image_id, kind)
            for image_id in self._image_ids
            for kind in ("labelIds", "instanceIds")
        ]
        mirror_files({name: self._dataset.root / name for name in names}, folder)

    def _search(self, kind: str) -> str:
        # Relative, because the scripts search with patterns, and a path may hold characters that mean more.
        return os.path.join("..", "ground_truth", "gtFine", self._dataset.split, "*", f"*_gtFine_{kind}.png")

    def _pixel(self) -> tuple[Path, float]:
        job = {"kind": "pixel", "search": self._search("labelIds"), "result": os.path.join(".", _RESULT)}
        return self._jobs.run(
            "pixel", job, environment=self._environment(SEMANTIC), patience_s=self._patience_s
        )

    def _instance(self) -> tuple[Path, float]:
        job = {
            "kind": "instance",
            "search": self._search("instanceIds"),
            "result": os.path.join(".", _RESULT),
            # It takes longer than the other two together.
            "processes": max(1, min(self._processes, len(self._image_ids))),
        }
        return self._jobs.run(
            "instance", job, environment=self._environment(INSTANCE), patience_s=self._patience_s
        )

    def _panoptic(self, ground_truth: PanopticGroundTruth) -> tuple[Path, float]:
        selected = self._folder / "ground_truth" / "panoptic.json"
        ground_truth.select(self._image_ids, selected)
        job = {
            "kind": "panoptic",
            "gt_json": str(selected.resolve()),
            "gt_folder": str(ground_truth.folder.resolve()),
            "prediction_json": str(assemble_panoptic_json(self._predictions, self._image_ids).resolve()),
            "prediction_folder": str((self._predictions / PANOPTIC).resolve()),
            "result": _RESULT,
            "processes": max(1, min(self._processes, len(self._image_ids))),
        }
        return self._jobs.run("panoptic", job, patience_s=self._patience_s)

    def _environment(self, predictions: str) -> dict[str, str]:
        return {
            "CITYSCAPES_DATASET": os.path.join("..", "ground_truth"),
            "CITYSCAPES_RESULTS": str((self._predictions / predictions).resolve()),
            "CITYSCAPES_EXPORT_DIR": ".",
        }


def start_official(
    dataset: Dataset,
    image_ids: Sequence[str],
    predictions: Path,
    folder: Path,
    *,
    cache: CacheOrFolder = None,
    processes: int | None = None,
) -> OfficialRun:
    """Starts the official scoring of a run and returns at once.

    Panoptic ground truth is found or made in the background. Call `finish` when all predictions are written,
    and `close` in any case.

    Args:
      dataset: the data set; where its `official_obstacle` is set, `finish` gives no metrics.
      image_ids: the images that are evaluated; fewer than all restrict the ground truth too.
      predictions: folder in which `write_predictions` writes.
      folder: folder for the scripts' own files: results, output, links.
      cache: where panoptic ground truth is kept; None for the default cache.
      processes: how many processes to use at once; None for one on each core.
    """
    return OfficialRun(dataset, image_ids, predictions, folder, cache=cache, processes=processes)


_RESULT = "result.json"


def _result(work: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((work / _RESULT).read_text(encoding="utf-8"))
    return found


def _percent(value: float) -> float | None:
    return None if math.isnan(value) else 100.0 * value


def _take_panoptic(scores: OfficialScores, result: dict[str, Any], info: DatasetInfo) -> None:
    for group, suffix in (("All", ""), ("Things", "_things"), ("Stuff", "_stuff")):
        for metric in ("pq", "sq", "rq"):
            scores.metrics[metric + suffix] = 100.0 * result[group][metric]
    for metric in ("pq", "sq", "rq"):
        scores.per_class[metric] = {
            name: _percent(result["per_class"][str(original_id)][metric])
            for name, original_id in zip(info.class_names, info.original_ids, strict=True)
        }


def _take_pixel(scores: OfficialScores, result: dict[str, Any], info: DatasetInfo) -> None:
    scores.metrics["miou"] = 100.0 * result["averageScoreClasses"]
    scores.metrics["iiou"] = 100.0 * result["averageScoreInstClasses"]
    scores.per_class["iou"] = {name: _percent(result["classScores"][name]) for name in info.class_names}
    scores.per_class["iiou"] = {
        info.class_names[i]: _percent(result["classInstScores"][info.class_names[i]])
        for i in info.thing_class_ids
    }


def _take_instance(scores: OfficialScores, result: dict[str, Any], info: DatasetInfo) -> None:
    averages = result["averages"]
    for metric, key, class_key in (("ap", "allAp", "ap"), ("ap50", "allAp50%", "ap50%")):
        scores.metrics[metric] = 100.0 * averages[key]
        scores.per_class[metric] = {
            info.class_names[i]: _percent(averages["classes"][info.class_names[i]][class_key])
            for i in info.thing_class_ids
        }

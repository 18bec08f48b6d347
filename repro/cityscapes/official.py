"""Official Cityscapes scores: panoptic, pixel-level and instance-level scripts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.repro.datasets.predictions import INSTANCE, PANOPTIC, SEMANTIC, assemble_panoptic_json
from zoo.repro.official.ground_truth import PanopticGroundTruth, panoptic_ground_truth
from zoo.repro.official.jobs import CITYSCAPES_SCRIPTS, mirror_files, provenance
from zoo.repro.official.scripts import RESULT, OfficialRun, OfficialScores, percent, script_result

if TYPE_CHECKING:
    from zoo.registry.dataset_info import DatasetInfo
    from zoo.repro.cityscapes.dataset import CityscapesDataset
    from zoo.repro.datasets.dataset import CacheOrFolder


class CityscapesRun(OfficialRun):
    """The scripts of `cityscapesscripts`; panoptic ground truth is made while predictions are."""

    def __init__(
        self,
        dataset: CityscapesDataset,
        image_ids: Sequence[str],
        predictions: Path,
        folder: Path,
        *,
        cache: CacheOrFolder = None,
        processes: int | None = None,
    ) -> None:
        """Starts to prepare; see `zoo.repro.official.scripts.start_official`."""
        super().__init__(image_ids, predictions, folder, processes=processes)
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

    def _score(self) -> OfficialScores:
        self._link_ground_truth()
        pixel = self._threads.submit(self._pixel)
        instance = self._threads.submit(self._instance)
        ground_truth = self._ground_truth.result()
        panoptic = self._threads.submit(self._panoptic, ground_truth)
        parts = {"panoptic": panoptic.result(), "pixel": pixel.result(), "instance": instance.result()}
        scores = OfficialScores(
            provenance={**provenance(CITYSCAPES_SCRIPTS), "panoptic_ground_truth": ground_truth.source},
            timings={"official_ground_truth_s": ground_truth.seconds},
        )
        info = self._dataset.info
        scores.take_panoptic(script_result(parts["panoptic"][0]), info)
        _take_pixel(scores, script_result(parts["pixel"][0]), info)
        _take_instance(scores, script_result(parts["instance"][0]), info)
        self._note(scores, parts)
        return scores

    def _link_ground_truth(self) -> None:
        """Makes a folder with the evaluated images' ground truth alone: the scripts take all they find."""
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
        job = {"kind": "pixel", "search": self._search("labelIds"), "result": os.path.join(".", RESULT)}
        return self._jobs.run(
            "pixel", job, environment=self._environment(SEMANTIC), patience_s=self._patience_s
        )

    def _instance(self) -> tuple[Path, float]:
        job = {
            "kind": "instance",
            "search": self._search("instanceIds"),
            "result": os.path.join(".", RESULT),
            # It takes longer than the other two together.
            "processes": max(1, min(self._processes, len(self._image_ids))),
        }
        return self._jobs.run(
            "instance", job, environment=self._environment(INSTANCE), patience_s=self._patience_s
        )

    def _panoptic(self, ground_truth: PanopticGroundTruth) -> tuple[Path, float]:
        selected = self._folder / "ground_truth" / "panoptic.json"
        ground_truth.select(self._image_ids, selected)
        predicted = assemble_panoptic_json(self._predictions, self._image_ids)
        return self._panoptic_job(selected, ground_truth.folder, predicted, self._predictions / PANOPTIC)

    def _environment(self, predictions: str) -> dict[str, str]:
        return {
            "CITYSCAPES_DATASET": os.path.join("..", "ground_truth"),
            "CITYSCAPES_RESULTS": str((self._predictions / predictions).resolve()),
            "CITYSCAPES_EXPORT_DIR": ".",
        }


def _take_pixel(scores: OfficialScores, result: dict[str, Any], info: DatasetInfo) -> None:
    scores.metrics["miou"] = 100.0 * result["averageScoreClasses"]
    scores.metrics["iiou"] = 100.0 * result["averageScoreInstClasses"]
    scores.per_class["iou"] = {name: percent(result["classScores"][name]) for name in info.class_names}
    scores.per_class["iiou"] = {
        info.class_names[i]: percent(result["classInstScores"][info.class_names[i]])
        for i in info.thing_class_ids
    }


def _take_instance(scores: OfficialScores, result: dict[str, Any], info: DatasetInfo) -> None:
    averages = result["averages"]
    for metric, key, class_key in (("ap", "allAp", "ap"), ("ap50", "allAp50%", "ap50%")):
        scores.metrics[metric] = 100.0 * averages[key]
        scores.per_class[metric] = {
            info.class_names[i]: percent(averages["classes"][info.class_names[i]][class_key])
            for i in info.thing_class_ids
        }

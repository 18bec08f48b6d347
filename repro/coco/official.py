"""Official COCO scores: panoptic quality, and mask AP on the original instance annotations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.repro.datasets.predicted_instances import assemble_run_lengths
from zoo.repro.datasets.predictions import INSTANCE, PANOPTIC, assemble_panoptic_json
from zoo.repro.official.ground_truth import select_annotations
from zoo.repro.official.jobs import coco_scripts, provenance
from zoo.repro.official.scripts import RESULT, OfficialRun, OfficialScores, script_result

if TYPE_CHECKING:
    from zoo.registry.dataset_info import DatasetInfo
    from zoo.repro.coco.dataset import CocoDataset


class CocoRun(OfficialRun):
    """The panoptic script on the panoptic annotations, `pycocotools` on `instances_<split>.json`."""

    def __init__(
        self,
        dataset: CocoDataset,
        image_ids: Sequence[str],
        predictions: Path,
        folder: Path,
        *,
        processes: int | None = None,
    ) -> None:
        """Prepares; see `zoo.repro.official.scripts.start_official`."""
        super().__init__(image_ids, predictions, folder, processes=processes)
        self._dataset = dataset
        self._official_ids = {image_id: dataset.official_image_id(image_id) for image_id in image_ids}

    def _score(self) -> OfficialScores:
        self._folder.mkdir(parents=True, exist_ok=True)
        instance = self._threads.submit(self._instance)
        panoptic = self._threads.submit(self._panoptic)
        parts = {"panoptic": panoptic.result(), "instance": instance.result()}
        scores = OfficialScores(
            provenance={**provenance(coco_scripts()), "panoptic_ground_truth": "data folder"}
        )
        scores.take_panoptic(script_result(parts["panoptic"][0]), self._dataset.info)
        _take_instance(scores, script_result(parts["instance"][0]), self._dataset.info)
        self._note(scores, parts)
        return scores

    def _panoptic(self) -> tuple[Path, float]:
        selected = self._folder / "panoptic_ground_truth.json"
        select_annotations(self._dataset.panoptic_json, list(self._official_ids.values()), selected)
        predicted = assemble_panoptic_json(self._predictions, self._image_ids, self._official_ids)
        return self._panoptic_job(
            selected, self._dataset.panoptic_folder, predicted, self._predictions / PANOPTIC
        )

    def _panoptic_kind(self) -> str:
        return next(kind for kind in coco_scripts() if kind.startswith("panoptic"))

    def _instance(self) -> tuple[Path, float]:
        predicted = self._predictions / "instance.json"
        assemble_run_lengths(self._predictions / INSTANCE, self._official_ids, predicted)
        images = self._folder / "images.json"
        images.write_text(json.dumps(list(self._official_ids.values())), encoding="utf-8")
        job = {
            "kind": "coco_instance",
            "ground_truth": str(self._dataset.instances_json.resolve()),
            "predictions": str(predicted.resolve()),
            "images": str(images.resolve()),
            "result": RESULT,
        }
        return self._jobs.run("instance", job, patience_s=self._patience_s)


def _take_instance(scores: OfficialScores, result: dict[str, Any], info: DatasetInfo) -> None:
    for metric in ("ap", "ap50"):
        scores.metrics[metric] = _percent(result[metric])
        scores.per_class[metric] = {
            info.class_names[train_id]: None if value is None else 100.0 * value
            for train_id in info.thing_class_ids
            for value in [result[f"{metric}_per_category"].get(str(info.original_ids[train_id]))]
        }


def _percent(value: float | None) -> float:
    return float("nan") if value is None else 100.0 * value

"""Official COCO scores: panoptic quality, and mask AP on the original instance annotations."""

from __future__ import annotations

import json
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.repro.coco.annotations import ImageId
from zoo.repro.coco.dataset import CocoDataset
from zoo.repro.coco.script_jobs import MASK_AP, panoptic_script
from zoo.repro.datasets.predicted_instances import assemble_run_lengths
from zoo.repro.datasets.predictions import INSTANCE
from zoo.repro.official.jobs import provenance
from zoo.repro.official.scripts import RESULT, OfficialRun, OfficialScores, percent, script_result

if TYPE_CHECKING:
    from zoo.registry.dataset_info import DatasetInfo


class CocoRun(OfficialRun):
    """The panoptic script on the panoptic annotations, `pycocotools` on the instance annotations."""

    _dataset: CocoDataset

    def _prepare(self) -> None:
        data = self._dataset
        index = {image_id: i for i, image_id in enumerate(data.image_ids)}
        pngs = [data.files_of(index[image_id])[1] for image_id in self._image_ids]
        self._root = data.local_copy([*data.annotation_files, *pngs])

    def _score(self) -> OfficialScores:
        self._folder.mkdir(parents=True, exist_ok=True)
        script, data = panoptic_script(), self._dataset
        official_ids = {image_id: data.official_image_id(image_id) for image_id in self._image_ids}
        truth = self._root / data.split_files.panoptic
        running: dict[str, Future[tuple[Path, float]]] = {}
        scripts: list[dict[str, str]] = []
        if "panoptic" in self._holds:
            running["panoptic"] = self._threads.submit(
                self._panoptic, truth, truth.with_suffix(""), official_ids, script
            )
            scripts.append(script)
        if data.has_instances and "instances" in self._holds:
            instances = self._root / data.split_files.instances
            running["instance"] = self._threads.submit(self._instance, instances, official_ids)
            scripts.append(MASK_AP)
        parts = {name: future.result() for name, future in running.items()}
        scores = OfficialScores(provenance={**provenance(scripts), "panoptic_ground_truth": "data folder"})
        if "panoptic" in parts:
            scores.take_panoptic(script_result(parts["panoptic"][0]), data.info)
        if "instance" in parts:
            _take_instance(scores, script_result(parts["instance"][0]), data.info)
        self._note(scores, parts)
        return scores

    def _instance(self, truth: Path, official_ids: dict[str, ImageId]) -> tuple[Path, float]:
        predicted = self._predictions / "instance.json"
        assemble_run_lengths(self._predictions / INSTANCE, official_ids, predicted)
        images = self._folder / "images.json"
        images.write_text(json.dumps(list(official_ids.values())), encoding="utf-8")
        job = {
            **MASK_AP,
            "ground_truth": str(truth.resolve()),
            "predictions": str(predicted.resolve()),
            "images": str(images.resolve()),
            "result": RESULT,
        }
        return self._run("instance", job)


def _take_instance(scores: OfficialScores, result: dict[str, Any], info: DatasetInfo) -> None:
    for metric in ("ap", "ap50"):
        value = percent(result[metric])
        scores.metrics[metric] = float("nan") if value is None else value
        found = result[f"{metric}_per_category"]
        scores.per_class[metric] = {
            info.class_names[i]: percent(found.get(str(info.original_ids[i]))) for i in info.thing_class_ids
        }

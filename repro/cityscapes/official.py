"""Official Cityscapes scores: panoptic, pixel-level and instance-level scripts."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from zoo.repro.cityscapes.classes import CITYSCAPES
from zoo.repro.cityscapes.dataset import CityscapesDataset
from zoo.repro.cityscapes.ground_truth import panoptic_ground_truth
from zoo.repro.cityscapes.script_jobs import INSTANCE_LEVEL, MAKE_PANOPTIC, PIXEL_LEVEL
from zoo.repro.datasets.predictions import INSTANCE, SEMANTIC
from zoo.repro.official.jobs import mirror_files, provenance
from zoo.repro.official.panoptic_job import PANOPTIC_JOB
from zoo.repro.official.scripts import RESULT, OfficialRun, OfficialScores, percent, script_result

# In the order in which their numbers are listed.
_SCRIPTS = {"panoptic": PANOPTIC_JOB, "pixel": PIXEL_LEVEL, "instance": INSTANCE_LEVEL}
_THINGS = tuple(CITYSCAPES.class_names[i] for i in CITYSCAPES.thing_class_ids)


class CityscapesRun(OfficialRun):
    """The scripts of `cityscapesscripts`; panoptic ground truth is made while predictions are."""

    _dataset: CityscapesDataset

    def _prepare(self) -> None:
        self._truth_names = [
            self._dataset.ground_truth_name(image_id, kind)
            for image_id in self._image_ids
            for kind in ("labelIds", "instanceIds")
        ]
        self._root = self._dataset.local_copy(self._truth_names)
        if "panoptic" not in self._holds:
            return
        self._ground_truth = self._threads.submit(
            panoptic_ground_truth,
            self._dataset,
            self._image_ids,
            self._jobs,
            processes=max(1, self._processes // 2),
            patience_s=self._patience_s,
        )

    def _score(self) -> OfficialScores:
        running: dict[str, Future[tuple[Path, float]]] = {}
        if not self._dataset.not_measured:
            self._link_ground_truth()
            if "semantic" in self._holds:
                running["pixel"] = self._threads.submit(
                    self._run_script, "pixel", PIXEL_LEVEL, SEMANTIC, "labelIds"
                )
            if "instances" in self._holds:
                running["instance"] = self._threads.submit(
                    self._run_script, "instance", INSTANCE_LEVEL, INSTANCE, "instanceIds"
                )
        scores = OfficialScores()
        if "panoptic" in self._holds:
            truth = self._ground_truth.result()
            running["panoptic"] = self._threads.submit(self._panoptic, truth.json, truth.folder)
            scores.timings["official_ground_truth_s"] = truth.seconds
        parts = {name: running[name].result() for name in _SCRIPTS if name in running}
        scripts = [_SCRIPTS[name] for name in parts]
        if "panoptic" in parts and not self._dataset.has_own_classes:
            scripts.insert(0, MAKE_PANOPTIC)
        scores.provenance.update(provenance(scripts))
        if "panoptic" in parts:
            scores.provenance["panoptic_ground_truth"] = truth.source
            scores.take_panoptic(script_result(parts["panoptic"][0]), self._dataset.info)
        if "pixel" in parts:
            _take_pixel(scores, script_result(parts["pixel"][0]))
        if "instance" in parts:
            _take_instance(scores, script_result(parts["instance"][0]))
        self._note(scores, parts)
        return scores

    def _link_ground_truth(self) -> None:
        """Makes a folder with the evaluated images' ground truth alone: the scripts take all they find."""
        folder = self._folder / "ground_truth"
        shutil.rmtree(folder, ignore_errors=True)
        mirror_files({name: self._root / name for name in self._truth_names}, folder)

    def _run_script(
        self, name: str, script: dict[str, Any], predictions: str, kind: str
    ) -> tuple[Path, float]:
        # Relative, because the scripts search with patterns, and a path may hold characters that mean more.
        truth = os.path.join("..", "ground_truth")
        job = {
            **script,
            "search": os.path.join(truth, "gtFine", self._dataset.split, "*", f"*_gtFine_{kind}.png"),
            "result": os.path.join(".", RESULT),
        }
        environment = {
            "CITYSCAPES_DATASET": truth,
            "CITYSCAPES_RESULTS": str((self._predictions / predictions).resolve()),
            "CITYSCAPES_EXPORT_DIR": ".",
        }
        return self._run(name, job, environment)


def _take_pixel(scores: OfficialScores, result: dict[str, Any]) -> None:
    scores.metrics["miou"] = 100.0 * result["averageScoreClasses"]
    scores.metrics["iiou"] = 100.0 * result["averageScoreInstClasses"]
    scores.per_class["iou"] = {name: percent(result["classScores"][name]) for name in CITYSCAPES.class_names}
    scores.per_class["iiou"] = {name: percent(result["classInstScores"][name]) for name in _THINGS}


def _take_instance(scores: OfficialScores, result: dict[str, Any]) -> None:
    averages = result["averages"]
    for metric, key, class_key in (("ap", "allAp", "ap"), ("ap50", "allAp50%", "ap50%")):
        scores.metrics[metric] = 100.0 * averages[key]
        scores.per_class[metric] = {name: percent(averages["classes"][name][class_key]) for name in _THINGS}

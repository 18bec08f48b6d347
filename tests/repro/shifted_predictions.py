"""Makes predictions of a data set in the Cityscapes layout that are right but for a shift."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from zoo.repro.cityscapes.dataset import CityscapesDataset
from zoo.repro.datasets.predictions import assemble_panoptic_json, write_predictions


def write_shifted_predictions(folder: Path, dataset: CityscapesDataset) -> None:
    """Writes predictions in all forms of the Cityscapes layout, and in COCO's."""
    for index, image_id in enumerate(dataset.image_ids):
        sample = dataset.load(index, picture=False)
        panoptic = np.roll(sample.panoptic, (3, 5), (0, 1))
        labels = np.unique(panoptic)
        things = labels[(labels < dataset.info.void_label) & (labels % dataset.info.label_divisor > 0)]
        write_predictions(
            folder,
            image_id,
            panoptic=panoptic,
            semantic=sample.semantic,
            instances=SimpleNamespace(labels=things, score=0.5 + things % 7 / 20),
            info=dataset.info,
        )
    assemble_panoptic_json(folder, dataset.image_ids)
    for path in (folder / "panoptic").glob("*.json"):
        path.unlink()

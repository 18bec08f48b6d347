"""Draws the README's picture from a finished run of the bundled entry.

zoo reproduce minicity/mobilenet_v3_small_os16 --out runs
python docs/draw_picture.py runs/minicity__mobilenet_v3_small_os16 docs/minicity.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from cityscapesscripts.helpers.labels import id2label
from PIL import Image

from zoo.fetch.fetcher import Fetcher
from zoo.registry import load_registry

SHOWN = (3, 11)
GAP_PX = 6


def coloured(segment_ids: np.ndarray) -> np.ndarray:
    """Returns the data set's colours, each instance in a shade of its class, white lines between segments."""
    picture = np.zeros((*segment_ids.shape, 3), np.float32)
    for segment_id in np.unique(segment_ids):
        label_id = segment_id if segment_id < 1000 else segment_id // 1000
        shade = 1.0 if segment_id < 1000 else 0.7 + 0.06 * (segment_id % 1000 * 5 % 11)
        if label_id in id2label and not id2label[label_id].ignoreInEval:
            picture[segment_ids == segment_id] = np.minimum(np.array(id2label[label_id].color) * shade, 255)
    edge = np.zeros(segment_ids.shape, bool)
    edge[:, 1:] |= segment_ids[:, 1:] != segment_ids[:, :-1]
    edge[1:] |= segment_ids[1:] != segment_ids[:-1]
    picture[edge] = 255
    return picture.astype(np.uint8)


def pixels(folder: Path, pattern: str) -> np.ndarray:
    """Returns the one image that fits."""
    return np.asarray(Image.open(next(folder.glob(pattern))), np.int32)


def main() -> None:
    """Draws input, prediction and ground truth of two scenes side by side."""
    run, out = Path(sys.argv[1]), Path(sys.argv[2])
    data = Fetcher().dataset(load_registry().dataset("minicity"))
    images = sorted(data.glob("leftImg8bit/val/*/*.png"))
    rows = []
    for index in SHOWN:
        name = images[index].name.removesuffix("_leftImg8bit.png")
        prediction = pixels(run, f"predictions/panoptic/**/{name}*.png")
        truth = pixels(data, f"gtFine/val/*/{name}_gtFine_instanceIds.png")
        panels = [
            np.asarray(Image.open(images[index])),
            coloured(prediction @ np.array([1, 256, 65536])),
            coloured(truth),
        ]
        gap = np.full((panels[0].shape[0], GAP_PX, 3), 255, np.uint8)
        rows.append(np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1))
    between = np.full((GAP_PX, rows[0].shape[1], 3), 255, np.uint8)
    Image.fromarray(np.concatenate([rows[0], between, rows[1]])).save(out, optimize=True)


if __name__ == "__main__":
    main()

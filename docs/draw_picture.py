"""Draws the README's picture: bundled scenes, each beside the overlay that `zoo predict` writes for it.

python docs/draw_picture.py docs/overlay.jpg
"""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image

import zoo
from zoo.fetch.fetcher import Fetcher
from zoo.registry import load_registry
from zoo.repro.datasets.opening import open_dataset

SHOWN = (11, 2)
GAP_PX = 6


def main() -> None:
    """Puts pictures and overlays side by side."""
    network = zoo.load("minicity/mobilenet_v3_small_os16", optimize=True)
    dataset = open_dataset(load_registry().dataset("minicity"), None, Fetcher())
    rows = []
    for index in SHOWN:
        image = dataset.load(index).image
        gap = np.full((image.shape[0], GAP_PX, 3), 255, np.uint8)
        rows.append(np.concatenate([image, gap, network.predict(image).overlay()], axis=1))
    between = np.full((GAP_PX, rows[0].shape[1], 3), 255, np.uint8)
    Image.fromarray(np.concatenate([rows[0], between, rows[1]])).save(sys.argv[1], quality=88)


if __name__ == "__main__":
    main()

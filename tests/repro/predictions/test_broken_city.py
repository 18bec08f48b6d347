"""Every way to break predictions in the Cityscapes forms is found in one line, and nothing is scored."""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from zoo.repro.cityscapes.classes import CITYSCAPES
from zoo.repro.cityscapes.dataset import CityscapesDataset

breaking = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("breaking.py"))))
Break, segments = breaking.Break, breaking.segments


def renumbered(
    table: dict[int, int], part: str = "semantic", *, only_first: bool = False
) -> Callable[[Path], None]:
    def function(folder: Path) -> None:
        look_up = np.arange(256, dtype=np.uint8)
        look_up[list(table)] = list(table.values())
        for path in sorted((folder / part).glob("*.png"))[: 1 if only_first else None]:
            Image.fromarray(look_up[np.array(Image.open(path))]).save(path)

    return function


def lines(change: Callable[[list[str]], list[str]], *, only_first: bool = True) -> Callable[[Path], None]:
    """Changes the words of the lines of instance files."""

    def function(folder: Path) -> None:
        for path in sorted((folder / "instance").glob("*.txt"))[: 1 if only_first else None]:
            rows = [" ".join(change(line.split())) for line in path.read_text().splitlines()]
            path.write_text("\n".join(rows) + "\n")

    return function


def _with_palette(image: Image.Image) -> Image.Image:
    result = Image.fromarray(np.array(image), "P")
    result.putpalette(bytes(range(256)) * 3)
    return result


def _colours(label_ids: np.ndarray) -> np.ndarray:
    table = np.zeros((256, 3), np.uint8)
    for label_id, colour in zip(CITYSCAPES.original_ids, CITYSCAPES.colours, strict=True):
        table[label_id] = list(bytes.fromhex(colour))
    return table[label_ids]


def _coloured(folder: Path) -> None:
    for part in ("panoptic", "instance"):
        shutil.rmtree(folder / part)
    (folder / "panoptic.json").unlink()
    for path in (folder / "semantic").glob("*.png"):
        Image.fromarray(_colours(np.array(Image.open(path)))).save(path)


_TO_TRAIN = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12,
             26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}  # fmt: skip

CITY_BREAKS = {
    "train ids": Break(
        renumbered({0: 255, **_TO_TRAIN}),
        "train-ids",
        "semantic/frankfurt_000000",
        "train ids",
        None,
        fixable=True,
    ),
    "train ids in the JSON": Break(
        segments(lambda s: s.update(category_id=_TO_TRAIN[s["category_id"]]), images=slice(None)),
        "train-ids",
        "panoptic.json",
        "train ids",
        fixable=True,
    ),
    "train ids of instances": Break(
        lines(lambda words: [words[0], str(_TO_TRAIN[int(words[1])]), words[2]], only_first=False),
        "train-ids",
        "instance",
        "train ids",
        fixable=True,
    ),
    "class unknown": Break(
        renumbered({7: 99}, only_first=True), "class-unknown", "semantic/frankfurt_000000", "99"
    ),
    "void differs": Break(
        renumbered({0: 255}, only_first=True), "void", "semantic/frankfurt_000000", "255", fixable=True
    ),
    "label ids with a palette": Break(
        breaking.pixels(lambda image: _with_palette(image), "semantic"),
        "colour-type",
        "semantic/frankfurt_000000",
        "a palette",
        fixable=True,
    ),
    "label ids in three channels": Break(
        breaking.pixels(lambda image: Image.merge("RGB", [image] * 3), "semantic"),
        "colour-type",
        "semantic/frankfurt_000000",
        "in each channel",
        fixable=True,
    ),
    "colours instead of ids": Break(
        _coloured, "colours", "semantic/frankfurt_000000", "colours of classes", 3
    ),
    "JPEG of label ids": Break(breaking.as_jpeg("semantic"), "lossy", "semantic/frankfurt_000000", "JPEG"),
    "label ids twice": Break(
        lambda folder: shutil.copy(
            breaking.first_file(folder, "semantic"),
            folder / "semantic" / breaking.first_file(folder, "semantic").name.replace(".png", "_pred.png"),
        ),
        "file-twice",
        "_pred.png",
        "semantic/frankfurt_000000",
    ),
    "mask missing": Break(
        breaking.removed("instance/masks/*/*.png"), "file-missing", "instance/masks", "no file"
    ),
    "mask of another size": Break(
        lambda folder: Image.new("1", (9, 9), 1).save(min(folder.glob("instance/masks/*/*.png"))),
        "size",
        "instance/masks",
        "9 x 9",
    ),
    "mask empty": Break(
        lambda folder: Image.new("1", (512, 256), 0).save(min(folder.glob("instance/masks/*/*.png"))),
        "mask-empty",
        "instance/masks",
        "none",
    ),
    "score of an instance is no number": Break(
        lines(lambda words: [*words[:2], "nan"]), "score-number", "instance", "not finite"
    ),
    "scores of instances in percent": Break(
        lines(lambda words: [*words[:2], str(100 * float(words[2]))], only_first=False),
        "score-percent",
        "instance",
        "percent",
        fixable=True,
    ),
    "line without a score": Break(
        lines(lambda words: words[:2]), "line-form", "frankfurt_000000", "in line 1 and 11 more"
    ),
    "stuff as an instance": Break(
        lines(lambda words: [words[0], "7", words[2]]),
        "category-unknown",
        "frankfurt_000000",
        "without instances",
    ),
    "no text file": Break(breaking.removed("instance/*.txt"), "image-missing", "predictions", "none"),
}


@pytest.mark.parametrize("way", CITY_BREAKS)
def test_broken_cityscapes_predictions_are_found(
    way: str, city_predictions: Path, city: CityscapesDataset
) -> None:
    breaking.look(CITY_BREAKS[way], city_predictions, city)


@pytest.mark.parametrize("way", [way for way, broken in CITY_BREAKS.items() if broken.fixable])
def test_a_corrected_copy_scores_as_before(way: str, city_predictions: Path, city: CityscapesDataset) -> None:
    breaking.mend(CITY_BREAKS[way], city_predictions, city)

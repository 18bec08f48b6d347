"""Every way to break predictions in the COCO format is found in one line, and nothing is scored."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.repro.coco.classes import COCO
from zoo.repro.coco.dataset import CocoDataset
from zoo.repro.datasets.image_files import RGB, encode_png
from zoo.repro.predictions.check import check_predictions

breaking = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("breaking.py"))))
Break, edits, segments = breaking.Break, breaking.edits, breaking.segments

FIRST = "000000001000"
"""The first image of the bundled COCO data set."""


def as_palette(image: Image.Image) -> Image.Image:
    """The same colours, as positions in a palette."""
    colours, index = np.unique(np.array(image).reshape(-1, 3), axis=0, return_inverse=True)
    result = Image.fromarray(index.reshape(image.height, image.width).astype(np.uint8), "P")
    result.putpalette(colours.astype(np.uint8).tobytes())
    return result


def cut(pattern: str, share: float) -> Callable[[Path], None]:
    def function(folder: Path) -> None:
        path = min(folder.glob(pattern))
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return function


def _copy_first(rows: list[dict[str, Any]]) -> None:
    rows.append(json.loads(json.dumps(rows[0])))


def _other_twice(rows: list[dict[str, Any]]) -> None:
    rows.append({**rows[0], "segments_info": rows[0]["segments_info"][:-1]})


def _as_dict(rows: list[dict[str, Any]]) -> None:
    rows[0]["segments_info"] = {str(row.pop("id")): row for row in rows[0]["segments_info"]}


def _phantom(rows: list[dict[str, Any]]) -> None:
    rows[0]["segments_info"].append(
        {"id": 16_000_000, "category_id": rows[0]["segments_info"][0]["category_id"]}
    )


def _junk(folder: Path) -> None:
    (folder / "__MACOSX/panoptic").mkdir(parents=True)
    (folder / "__MACOSX/panoptic/._x.png").write_bytes(b"\0\5\x16\7")
    (folder / ".DS_Store").write_bytes(b"\0")


def _without_first(folder: Path) -> None:
    edits(lambda rows: rows.pop(0))(folder)
    breaking.first_file(folder).unlink()


def _of_16_bits(folder: Path) -> None:
    path = breaking.first_file(folder)
    pixels = np.array(Image.open(path)).astype(np.uint16) * 257
    rows = np.zeros((pixels.shape[0], 1 + pixels[0].nbytes), np.uint8)
    rows[:, 1:] = pixels.astype(">u2").reshape(len(pixels), -1).view(np.uint8)
    path.write_bytes(encode_png(rows, pixels.shape[1], bits=16, colour_type=RGB))


def _bare_list(folder: Path) -> None:
    (folder / "panoptic.json").write_text(json.dumps(breaking.rows_of(folder)[1]))


def _stranger(folder: Path) -> None:
    shutil.copy(breaking.first_file(folder), folder / "panoptic/000000999999.png")


def _contiguous(folder: Path) -> None:
    place = {category: i - 1 for i, category in enumerate(COCO.original_ids)}
    segments(lambda s: s.update(category_id=place[s["category_id"]]), images=slice(None))(folder)


COCO_BREAKS = {
    "image missing": Break(_without_first, "image-missing", "predictions", "none"),
    "file without JSON": Break(edits(lambda rows: rows.pop(0)), "entry-missing", FIRST, "none"),
    "no JSON": Break(breaking.removed("panoptic.json"), "json-missing", "predictions/panoptic", "none"),
    "no PNG files": Break(
        lambda folder: shutil.rmtree(folder / "panoptic"), "file-missing", "panoptic.json", "none"
    ),
    "JSON without file": Break(breaking.removed("panoptic/*.png"), "file-missing", "panoptic.json", "none"),
    "image twice": Break(
        edits(_copy_first), "image-twice", "panoptic.json", f"image {FIRST} twice", fixable=True
    ),
    "image twice, differing": Break(
        edits(_other_twice), "image-twice", "panoptic.json", "different segments"
    ),
    "image unknown": Break(
        edits(lambda rows: rows.append({**rows[0], "image_id": 77, "file_name": "77.png"})),
        "image-unknown",
        "panoptic.json",
        "77",
        blocks=False,
    ),
    "extra file": Break(_stranger, "file-unknown", "000000999999.png", "another file", blocks=False),
    "file of another image": Break(
        edits(lambda rows: rows[0].update(file_name=rows[1]["file_name"])),
        "file-name",
        "panoptic.json",
        "000000001001.png, which is of image 000000001001",
    ),
    "transposed": Break(
        breaking.pixels(lambda image: image.transpose(Image.Transpose.ROTATE_90)), "size", FIRST, "swapped"
    ),
    "scaled": Break(
        breaking.pixels(
            lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.NEAREST)
        ),
        "size",
        FIRST,
        "scaled by 0.5",
    ),
    "category unknown": Break(
        segments(lambda s: s.update(category_id=12)), "category-unknown", "panoptic.json", "category 12"
    ),
    "contiguous ids": Break(_contiguous, "contiguous-ids", "panoptic.json", "counted from 0", fixable=True),
    "segment in the PNG alone": Break(
        edits(lambda rows: rows[0]["segments_info"].pop()), "segment-unlisted", FIRST, "1 that the JSON"
    ),
    "segment in the JSON alone": Break(
        edits(_phantom), "segment-absent", FIRST, "(first: 16000000)", fixable=True
    ),
    "area": Break(
        segments(lambda s: s.update(area=s["area"] + 1)),
        "area",
        FIRST,
        "more that differ",
        1,
        fixable=True,
        blocks=False,
    ),
    "segment twice": Break(
        edits(lambda rows: rows[0]["segments_info"].append(rows[0]["segments_info"][0])),
        "segment-twice",
        "panoptic.json",
        "twice (image",
        fixable=True,
    ),
    "crowd": Break(
        edits(lambda rows: rows[0]["segments_info"][0].update(iscrowd=1)),
        "crowd",
        "panoptic.json",
        "iscrowd",
        fixable=True,
    ),
    "segment id 0": Break(
        edits(lambda rows: rows[0]["segments_info"].append({"id": 0, "category_id": 1})),
        "segment-id",
        "panoptic.json",
        "id 0",
    ),
    "palette": Break(breaking.pixels(as_palette), "colour-type", FIRST, "a palette", fixable=True),
    "RGBA": Break(
        breaking.pixels(lambda image: image.convert("RGBA")), "colour-type", FIRST, "RGBA", fixable=True
    ),
    "grey": Break(breaking.pixels(lambda image: image.convert("L")), "colour-type", FIRST, "grey of 8 bits"),
    "16 bits": Break(_of_16_bits, "colour-type", FIRST, "RGB of 16 bits", fixable=True),
    "JPEG": Break(breaking.as_jpeg(), "lossy", FIRST, "JPEG"),
    "BGR": Break(
        breaking.pixels(lambda image: Image.fromarray(np.array(image)[:, :, ::-1])),
        "channel-order",
        FIRST,
        "blue",
        fixable=True,
    ),
    "ids as strings": Break(
        segments(lambda s: s.update(id=str(s["id"]), category_id=str(s["category_id"]))),
        "id-text",
        "panoptic.json",
        "and more",
        fixable=True,
    ),
    "image_id as a string": Break(
        edits(lambda rows: rows[0].update(image_id=str(rows[0]["image_id"]))),
        "image-id",
        "panoptic.json",
        "'1000'",
        fixable=True,
    ),
    "image_id with an extension": Break(
        edits(lambda rows: [row.update(image_id=row["file_name"]) for row in rows]),
        "image-id",
        "panoptic.json",
        f"'{FIRST}.png'",
        30,
        fixable=True,
    ),
    **{
        f"no {key}": Break(
            edits(lambda rows, key=key: rows[0].pop(key)), "key-missing", "panoptic.json", found, fixable=True
        )
        for key, found in (("image_id", f"none for {FIRST}.png"), ("file_name", f"none (image {FIRST})"))
    },
    "no annotations": Break(_bare_list, "key-missing", "panoptic.json", "the bare list", fixable=True),
    "no category_id": Break(
        edits(lambda rows: rows[0]["segments_info"][0].pop("category_id")),
        "key-missing",
        "panoptic.json",
        "a segment without it",
    ),
    "segments_info an object": Break(
        edits(_as_dict), "json-form", "panoptic.json", "an object", fixable=True
    ),
    "score NaN": Break(
        segments(lambda s: s.update(score=float("inf"))), "score-number", "panoptic.json", "not finite"
    ),
    "score negative": Break(segments(lambda s: s.update(score=-1)), "score-range", "panoptic.json", "-1"),
    "scores in percent": Break(
        segments(lambda s: s.update(score=100 * s["score"]), images=slice(None)),
        "score-percent",
        "panoptic.json",
        "percent (up to 75)",
        fixable=True,
    ),
    "score missing": Break(
        segments(lambda s: s.pop("score")), "score-missing", "panoptic.json", "without a score"
    ),
    "junk": Break(_junk, "junk", ".DS_Store", "operating system", 2, fixable=True, blocks=False),
    "empty file": Break(cut("panoptic/*.png", 0), "broken-file", FIRST, "is empty"),
    "truncated PNG": Break(cut("panoptic/*.png", 0.7), "broken-file", FIRST, "cut short"),
    "truncated JSON": Break(cut("panoptic.json", 0.7), "broken-file", "panoptic.json", "something else ("),
}


@pytest.mark.parametrize("way", COCO_BREAKS)
def test_broken_coco_predictions_are_found(way: str, coco_predictions: Path, coco: CocoDataset) -> None:
    breaking.look(COCO_BREAKS[way], coco_predictions, coco)


@pytest.mark.parametrize("way", [way for way, broken in COCO_BREAKS.items() if broken.fixable])
def test_a_corrected_copy_scores_as_before(way: str, coco_predictions: Path, coco: CocoDataset) -> None:
    breaking.mend(COCO_BREAKS[way], coco_predictions, coco)


@pytest.mark.parametrize("kind", ["city", "coco"])
def test_nothing_is_found_in_correct_predictions(kind: str, request: pytest.FixtureRequest) -> None:
    check = check_predictions(request.getfixturevalue(f"{kind}_predictions"), request.getfixturevalue(kind))
    assert check.ok, check
    assert check.images == check.expected_images

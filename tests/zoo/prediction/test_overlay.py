"""Predictions drawn over their images."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from zoo.errors import UsageError
from zoo.model.postprocess.instances import Instances
from zoo.prediction.labels import Label, place_labels
from zoo.prediction.overlay import encode_picture
from zoo.prediction.prediction import Prediction
from zoo.repro.cityscapes.classes import CITYSCAPES
from zoo.repro.datasets.colours import class_colours, shade
from zoo.repro.datasets.label_shapes import measure_labels

PredictTruth = Callable[[str, int], Prediction]


def inner(prediction: Prediction) -> np.ndarray:
    """Returns the pixels whose neighbours have their label."""
    labels, same = prediction.panoptic, np.ones(prediction.panoptic.shape, np.bool_)
    for axis in (0, 1):
        for shift in (1, -1):
            same &= np.roll(labels, shift, axis) == labels
    same[[0, -1]] = same[:, [0, -1]] = False
    return same


def colour_of(label: int, prediction: Prediction) -> np.ndarray:
    class_id, number = divmod(label, prediction.label_divisor)
    base = class_colours(prediction.classes)[class_id]
    return shade(base, number) if number else base


@pytest.mark.parametrize("name", ["minicity", "minicoco"])
def test_segments_have_their_colours_and_void_stays_as_it_is(predict_truth: PredictTruth, name: str) -> None:
    prediction = predict_truth(name, 2)
    before = prediction.image.copy()
    whole = prediction.overlay(alpha=1, labels=False)
    half = prediction.overlay(alpha=0.5, labels=False)
    assert (half.dtype, half.shape) == (np.uint8, before.shape)
    is_inner = inner(prediction)
    for label in np.unique(prediction.panoptic).tolist():
        here = prediction.panoptic == label
        if label == prediction.void_label:
            np.testing.assert_array_equal(half[here], before[here])
            continue
        colour = colour_of(label, prediction)
        assert (whole[here & is_inner] == colour).all()
        mixed = (before[here & is_inner].astype(np.int32) + colour) / 2
        assert (np.abs(half[here & is_inner] - mixed) <= 1).all()
    np.testing.assert_array_equal(prediction.image, before)
    np.testing.assert_array_equal(prediction.overlay(alpha=0, labels=False, outlines=False), before)


def test_outlines_part_segments_and_are_light(city: Prediction) -> None:
    without = city.overlay(labels=False, outlines=False).astype(np.int32)
    drawn = city.overlay(labels=False).astype(np.int32)
    changed = (drawn != without).any(axis=2)
    right, below = (np.roll(city.panoptic, -1, axis) != city.panoptic for axis in (1, 0))
    right[:, -1] = below[-1] = False
    is_border = (right | below) & (city.panoptic != city.void_label)
    np.testing.assert_array_equal(changed, is_border)
    assert drawn[is_border].min() > 180


@pytest.mark.parametrize("grey_level", [None, 0, 255], ids=["street", "black", "white"])
def test_labels_are_written_where_there_is_room(city: Prediction, grey_level: int | None) -> None:
    if grey_level is not None:
        city = replace(city, image=np.full_like(city.image, grey_level))
    plain, drawn = city.overlay(labels=False), city.overlay()
    changed = (plain != drawn).any(axis=2)
    # Names hide little of the picture, and always the same.
    assert 0.005 < changed.mean() < 0.15
    np.testing.assert_array_equal(drawn, city.overlay())
    # Light letters with a dark halo, or the other way round, wherever they are.
    grey = np.asarray(Image.fromarray(drawn).convert("L")).astype(np.int32)
    labels = placed(city)
    assert 5 < len(labels) < 20
    for label in labels:
        height, width = label.text.letters.shape
        region = grey[label.top : label.top + height, label.left : label.left + width]
        letters, halo = label.text.letters > 200, (label.text.halo > 200) & (label.text.letters < 5)
        assert letters.any()
        assert abs(region[letters].mean() - region[halo].mean()) > 100


def placed(prediction: Prediction) -> list[Label]:
    score = dict(zip(prediction.instances.label, prediction.instances.score, strict=True))
    words = [
        (prediction.class_name(label), *([f"{score[label]:.2f}"] if label in score else []))
        for label in prediction.shapes.labels.tolist()
    ]
    names = [None if each == ("void",) else each for each in words]
    return list(place_labels(prediction.shapes.index, prediction.shapes.areas, names))


@pytest.mark.parametrize("index", [0, 5, 9])
def test_no_label_covers_another_and_each_is_on_its_segment(predict_truth: PredictTruth, index: int) -> None:
    prediction = predict_truth("minicity", index)
    count = np.zeros(prediction.panoptic.shape, np.int32)
    for label in placed(prediction):
        height, width = label.text.halo.shape
        assert min(label.top, label.left) >= 0
        count[label.top : label.top + height, label.left : label.left + width] += 1
    assert count.max() == 1


def test_a_label_is_in_the_middle_of_its_segment_where_it_fits() -> None:
    label_map = np.zeros((200, 300), np.int32)
    label_map[20:80, 60:260] = 1
    label_map[150:155, 10:15] = 2
    shapes = measure_labels(label_map)
    names = [("ground",), ("a car", "0.91"), ("small",)]
    ground, car = place_labels(shapes.index, shapes.areas, names)
    middle = car.top + car.text.halo.shape[0] / 2, car.left + car.text.halo.shape[1] / 2
    assert np.abs(np.subtract(middle, (50, 160))).max() <= 3
    height, width = ground.text.halo.shape
    assert (label_map[ground.top : ground.top + height, ground.left : ground.left + width] == 0).all()


def test_names_in_any_script_are_drawn_or_said(city: Prediction, capsys: pytest.CaptureFixture[str]) -> None:
    def overlay(road: str) -> np.ndarray:
        names = (road, *CITYSCAPES.class_names[1:])
        return replace(city, classes=replace(CITYSCAPES, class_names=names)).overlay()

    # Pillow's own font has no such letters: drawn as boxes, two names of one length would look the same.
    for name in ("Straße", "silnicę", "дорога", "δρόμος"):
        assert (overlay(name) != overlay(name[::-1])).any(axis=2).sum() > 20
    np.testing.assert_array_equal(overlay("two\nlines"), overlay("two lines"))
    assert capsys.readouterr().err == ""
    # Private code points, which no font has.
    np.testing.assert_array_equal(overlay("\ue0fe\ue0ff"), overlay("class 0"))
    overlay("\ue0fe\ue0ff")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        r"zoo: no font here has all letters of the class '\ue0fe\ue0ff': overlays show its"
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 5), (3, 4000)])
def test_pictures_of_any_size_are_drawn(size: tuple[int, int]) -> None:
    none = np.zeros(0, np.int32)
    nothing = Instances(none, none, none, none, none)
    image = np.full((*size, 3), 100, np.uint8)
    road = Prediction(np.zeros(size, np.int32), np.zeros(size, np.uint8), nothing, CITYSCAPES, image)
    assert road.overlay(labels=False).tolist() == np.broadcast_to([114, 82, 114], image.shape).tolist()
    assert road.overlay().shape == image.shape
    with Image.open(io.BytesIO(road._repr_png_())) as shown:
        assert max(shown.size) <= 1024


def test_another_image_and_what_is_refused(city: Prediction) -> None:
    black = np.zeros_like(city.image)
    light = city.overlay(black + np.float32(254.6), labels=False)
    np.testing.assert_array_equal(light, city.overlay(black + 255, labels=False))
    assert city.overlay(black).mean() < light.mean()
    with pytest.raises(UsageError, match=r"overlay: expected an image \[256, 512, 3\], found \[256, 512\]$"):
        city.overlay(black[..., 0])
    with pytest.raises(UsageError, match=r"overlay: expected alpha from 0 to 1, found 1\.5"):
        city.overlay(alpha=1.5)
    alone = replace(city, image=None)
    with pytest.raises(
        UsageError, match=r"expected the image that the prediction was made of: overlay\(image\)"
    ):
        alone.overlay()
    assert alone._repr_png_() is None
    np.testing.assert_array_equal(alone.overlay(city.image), city.overlay())


def test_a_notebook_shows_the_overlay_scaled_down(city: Prediction) -> None:
    twice = replace(
        city, image=city.image.repeat(4, 0).repeat(4, 1), panoptic=city.panoptic.repeat(4, 0).repeat(4, 1)
    )
    for prediction, size in ((city, (512, 256)), (twice, (1024, 512))):
        with Image.open(io.BytesIO(prediction._repr_png_())) as shown:
            assert (shown.format, shown.size) == ("PNG", size)
            pixels = np.asarray(shown)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(city._repr_png_()))), city.overlay())
    # The segments of both lie in the same places.
    reduced = twice.overlay(labels=False)[::2, ::2].astype(np.int32)
    assert np.median(np.abs(pixels - reduced)) < 3


def test_what_is_too_long_for_a_jpeg_is_a_png() -> None:
    long = np.zeros((1, 66_000, 3), np.uint8)
    with pytest.raises(UsageError, match="expected at most 65,500 pixels a side for a JPEG, found 1 x 66000"):
        encode_picture(long, ".jpg")
    with Image.open(io.BytesIO(encode_picture(long, ".png"))) as written:
        assert written.size == (66_000, 1)

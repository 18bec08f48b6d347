"""Mask AP of masks that are given one by one and may overlap each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from zoo.errors import DataError
from zoo.metrics.mask_ap import MaskAP
from zoo.metrics.overlap import label_overlaps

NUM_CLASSES, IGNORE_LABEL, LABEL_DIVISOR, THINGS = 4, 255, 1000, (2, 3)
HEIGHT, WIDTH = 130, 150


def new_metric() -> MaskAP:
    return MaskAP(NUM_CLASSES, IGNORE_LABEL, LABEL_DIVISOR, THINGS)


def random_truth(generator: np.random.Generator) -> np.ndarray:
    truth = np.zeros((HEIGHT, WIDTH), np.int32)
    for instance in range(generator.integers(1, 9)):
        top, left = generator.integers(0, HEIGHT - 10), generator.integers(0, WIDTH - 10)
        height, width = generator.integers(2, 110, 2)
        # Number 0 of a thing class is a crowd.
        label = generator.choice([1000, 2000, 2001 + instance, 3001 + instance, IGNORE_LABEL * LABEL_DIVISOR])
        truth[top : top + height, left : left + width] = label
    return truth


def random_masks(generator: np.random.Generator, truth: np.ndarray) -> tuple[list, np.ndarray, np.ndarray]:
    """Moved segments, unions of two, boxes across several, and a mask without a pixel."""
    masks = [np.zeros(truth.shape, np.uint8)]
    labels = np.unique(truth)
    for _ in range(generator.integers(0, 12)):
        mask = np.isin(truth, generator.choice(labels, generator.integers(1, 3)))
        masks.append(np.roll(mask, generator.integers(-3, 4, 2), axis=(0, 1)).astype(np.uint8))
        masks.append(np.zeros(truth.shape, np.uint8))
        masks[-1][generator.integers(0, 90) :, : generator.integers(1, 140)] = 1
    classes = generator.integers(1, NUM_CLASSES, len(masks))
    return masks, classes, generator.choice(np.array([0.2, 0.5, 0.9], np.float32), len(masks))


def in_some_form(mask: np.ndarray, form: int) -> object:
    rle = coco_mask.encode(np.asfortranarray(mask))
    if form == 0:
        return mask.astype(bool)
    if form == 1:
        return np.asfortranarray(mask)
    if form == 2:
        return rle
    if form == 3:
        return {**rle, "counts": rle["counts"].decode()}
    flat = np.concatenate([[0], mask.T.ravel(), [2]])
    changes = np.flatnonzero(np.diff(flat)).tolist()
    return {"size": list(mask.shape), "counts": np.diff([0, *changes]).tolist()}


@settings(max_examples=40)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3))
def test_overlapping_masks_in_every_form_equal_cocoeval(
    cocoeval_means: Callable[..., np.ndarray], seeds: list[int]
) -> None:
    metric, images = new_metric(), []
    for seed in seeds:
        generator = np.random.default_rng(seed)
        truth = random_truth(generator)
        masks, classes, scores = random_masks(generator, truth)
        given_masks = [in_some_form(mask, (seed + i) % 5) for i, mask in enumerate(masks)]
        crowd = metric.crowd_labels(np.unique(truth))
        metric.update_masks(truth, given_masks, classes, scores, crowd_labels=crowd)
        images.append((truth, crowd, zip(masks, classes.tolist(), scores.tolist(), strict=True)))
    # Equal to the last bit, not merely close.
    np.testing.assert_array_equal(astuple(metric.compute().means), cocoeval_means(images, THINGS))


def test_masks_of_a_panoptic_map_give_the_same_state() -> None:
    generator = np.random.default_rng(3)
    truth, prediction = random_truth(generator), random_truth(generator)
    overlaps = label_overlaps(truth, prediction)
    labels, scores = overlaps.pred_labels, generator.random(overlaps.pred_labels.size)
    from_map, from_masks = new_metric(), new_metric()
    from_map.update(overlaps, labels, scores, crowd_labels=[2000])
    masks = [prediction == label for label in labels]
    from_masks.update_masks(truth, masks, labels // LABEL_DIVISOR, scores, crowd_labels=[2000])
    for name, array in from_map.to_arrays().items():
        if name.startswith("overlap_") and name != "overlap_offsets":
            continue  # the same pairs in another order
        np.testing.assert_array_equal(from_masks.to_arrays()[name], array, err_msg=name)
    np.testing.assert_array_equal(astuple(from_masks.compute().means), astuple(from_map.compute().means))


RLE = {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]}


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((2, 3), bool), "mask 1: expected 130 x 150 pixels .* found bool of shape"),
        (np.zeros((HEIGHT, WIDTH)), "mask 1: expected 130 x 150 pixels .* found float64"),
        ({**RLE, "size": [WIDTH, HEIGHT]}, r"found run lengths of size \[150, 130\]"),
        ({**RLE, "counts": [1, 2]}, "found run lengths that add up to 3"),
        ({**RLE, "counts": "zzzz"}, "mask 1: .* found damaged run lengths"),
        ({**RLE, "counts": None}, "mask 1: .* found damaged run lengths"),
        ({"counts": []}, "found run lengths without `size` and `counts`: counts"),
    ],
)
def test_refuses_what_is_not_a_mask_of_the_image(mask: object, message: str) -> None:
    metric = new_metric()
    with pytest.raises(DataError, match=message):
        metric.update_masks(np.zeros((HEIGHT, WIDTH), np.int32), [RLE, mask], [2, 2], [0.5, 0.5])
    assert metric.num_images == 0


def test_refuses_scores_and_classes_that_do_not_fit() -> None:
    metric, truth = new_metric(), np.zeros((HEIGHT, WIDTH), np.int32)
    with pytest.raises(ValueError, match="three lists of one length, found 1 masks"):
        metric.update_masks(truth, [RLE], [2, 3], [0.5])
    with pytest.raises(DataError, match=r"mask 0: expected a number .* found score nan"):
        metric.update_masks(truth, [RLE], [2], [np.nan])
    with pytest.raises(
        DataError, match=r"class of 0\.\.3, found score 0.5 and class 26; classes are train ids"
    ):
        metric.update_masks(truth, [RLE], [26], [0.5])

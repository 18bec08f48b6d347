"""Merging the masks of slots: against what DeepLab2 computed, and against its steps written plainly."""

from __future__ import annotations

from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from zoo.errors import UsageError
from zoo.metrics.mask_ap import MaskAP
from zoo.metrics.overlap import label_overlaps
from zoo.metrics.panoptic_quality import PanopticQuality
from zoo.model.postprocess.masks import MaskResult, postprocess_masks
from zoo.model.postprocess.options import MaskOptions
from zoo.model.postprocess.sampling import Grid

CASES = [f"case{i}" for i in range(10)]
DATA = Path(__file__).parents[2] / "data" / "postprocess_masks"
# float32 to a few units in the last place: TensorFlow's exponential and sums round otherwise.
ROUNDING = 5e-7


def case(name: str) -> tuple[MaskResult, dict[str, np.ndarray]]:
    stored = dict(np.load(DATA / f"{name}.npz"))
    options = {
        key.removeprefix("option/"): stored[key].tolist() for key in stored if key.startswith("option")
    }
    size = tuple(options.pop("image_shape"))
    options["thing_class_ids"] = tuple(options["thing_class_ids"])
    maps = (stored[f"{name}_logits_x16"] / np.float32(16) for name in ("mask", "class"))
    return postprocess_masks(*maps, size, MaskOptions(**options)), stored


@pytest.mark.parametrize("name", CASES)
def test_cases_equal_the_reference(name: str) -> None:
    result, stored = case(name)
    maps, size = result.merged.maps, stored["panoptic"].shape
    prediction = result.restored(size, size)
    for panoptic, semantic in (
        (result.panoptic, result.semantic),
        (prediction.panoptic, prediction.semantic),
    ):
        assert_array_equal(panoptic, stored["panoptic"])
        assert_array_equal(semantic, stored["semantic"])
    assert_array_equal(result.merged.mask_id[maps.owner], stored["mask_id"])
    np.testing.assert_allclose(maps.probability, stored["instance_scores"], rtol=ROUNDING)
    confidence = result.merged.confidence[maps.owner]
    np.testing.assert_allclose(confidence, stored["semantic_scores"], rtol=ROUNDING)
    options = result.options
    is_thing = np.isin(stored["segment_ids"] // options.label_divisor, options.thing_class_ids)
    assert_array_equal(prediction.instances.labels, stored["segment_ids"][is_thing])
    np.testing.assert_allclose(prediction.instances.score, stored["segment_scores"][is_thing], rtol=ROUNDING)


@pytest.mark.parametrize("name", CASES)
def test_metrics_of_the_cases_equal_the_reference(name: str) -> None:
    result, stored = case(name)
    options, size, truth = result.options, stored["panoptic"].shape, stored["ground_truth"]
    prediction = result.restored(size, size)
    overlaps = label_overlaps(truth, prediction.panoptic)
    encoding = len(stored["pq_iou"]), options.void_label, options.label_divisor
    quality, things = PanopticQuality(*encoding), MaskAP(*encoding, options.thing_class_ids)
    quality.update(overlaps)
    for part in ("iou", "tp", "fn", "fp"):
        np.testing.assert_allclose(getattr(quality, part), stored[f"pq_{part}"], rtol=1e-12, err_msg=part)
    things.update(overlaps, prediction.instances.labels, prediction.instances.score)
    # No number was taken where there is nothing to find and nothing is found; the reference would say 0.
    taken = np.nan_to_num(stored["ap12"].astype(np.float64))
    expected = np.where(taken < 0, np.nan, taken)
    np.testing.assert_allclose(np.array(astuple(things.compute().means)) / 100, expected, atol=1e-6)


def random_slots(seed: int) -> tuple[np.ndarray, np.ndarray, MaskOptions]:
    """Maps of up to 70 slots whose logits often tie, and masks that often overlap."""
    generator = np.random.default_rng(seed)
    height, width, slots = generator.integers(2, (9, 12, 71))
    masks = generator.integers(-3, 4, (height, width, slots)) * generator.choice([0.5, 1, 4])
    masks += generator.choice([0, 8], slots, p=[0.8, 0.2])
    options = MaskOptions(
        thing_class_ids=(1, 3),
        label_divisor=1000,
        void_label=int(generator.choice([0, 255])),
        thing_area_limit=int(generator.choice([0, 9])),
        stuff_area_limit=int(generator.choice([0, 20])),
        transformer_post_processing=str(generator.choice(["maskwise", "pixelwise"])),  # type: ignore[arg-type]
        pixel_confidence_threshold=float(generator.choice([0.2, 0.3, 0.45])),
        transformer_class_confidence_threshold=0.4,
        transformer_class_confidence_threshold_thing=0.3,
        transformer_class_confidence_threshold_stuff=0.5,
        overlapping_threshold=0.6,
        reorder_mask_weight=0.0,
    )
    return masks.astype(np.float32), generator.normal(0, 2, (slots, 6)).astype(np.float32), options


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_resizing_on_the_way_equals_resizing_first(seed: int) -> None:
    masks, classes, options = random_slots(seed)
    generator = np.random.default_rng(seed)
    size = tuple(generator.integers(1, 40, 2).tolist())
    whole = tf.compat.v1.image.resize_bilinear(masks[None], size, align_corners=True)[0]
    found, expected = (postprocess_masks(each, classes, size, options) for each in (masks, whole))
    for of, to in zip(
        (*found.merged.maps, found.panoptic), (*expected.merged.maps, expected.panoptic), strict=True
    ):
        assert_array_equal(of, to)
    # The merge of a larger image is cut and resized like a label map.
    valid = tuple(int(generator.integers(1, side + 1)) for side in size)
    raw = tuple(generator.integers(1, 40, 2).tolist())
    restored, grid = found.restored(valid, raw), Grid.of(valid, raw)
    assert_array_equal(restored.panoptic, grid.nearest(found.panoptic))
    assert_array_equal(restored.semantic, grid.nearest(found.semantic))
    probability = grid.nearest(found.merged.maps.probability)
    for label, area, score in zip(
        restored.instances.labels, restored.instances.areas, restored.instances.score, strict=True
    ):
        mask = restored.panoptic == label
        slot = int(grid.nearest(found.merged.maps.owner)[mask][0])
        assert area == mask.sum()
        assert score == pytest.approx(probability[mask].mean() * found.slots.confidence[slot], rel=1e-5)


def test_official_things_are_masks_cut_by_the_semantic_map() -> None:
    result, stored = case("case1")
    size = (size_y, size_x) = stored["panoptic"].shape
    things = result.restored((size_y - 1, size_x - 1), (size_y - 1, size_x - 1)).official_things()
    ids, semantic, pixel, sure = (
        stored[name][: size[0] - 1, : size[1] - 1]
        for name in ("mask_id", "semantic", "instance_scores", "semantic_scores")
    )
    expected: dict[int, float] = {}
    for class_id in np.intersect1d(np.unique(semantic), result.options.thing_class_ids):
        for mask_id in np.unique(ids[semantic == class_id]):
            mask = (semantic == class_id) & (ids == mask_id)
            assert (things.label_map[mask] == class_id * 1000 + mask_id).all()
            expected[int(class_id * 1000 + mask_id)] = pixel[mask].mean() * sure[mask].mean()
    assert dict(zip(things.labels.tolist(), things.score.tolist(), strict=True)) == pytest.approx(
        expected, abs=1e-6
    )
    assert 0 in things.score  # those of unsure pixels
    assert len(expected) > 2 * len(result.restored(size, size).instances)


def test_pixels_of_no_sure_slot_are_void_in_both_modes() -> None:
    masks, classes, options = random_slots(0)
    for mode in ("maskwise", "pixelwise"):
        never = replace(
            options,
            transformer_post_processing=mode,  # type: ignore[arg-type]
            transformer_class_confidence_threshold=1.1,
            transformer_class_confidence_threshold_thing=1.1,
            transformer_class_confidence_threshold_stuff=1.1,
        )
        result = postprocess_masks(masks, classes, (20, 30), never)
        assert (result.panoptic == options.void_label * 1000).all()
        assert not result.merged.maps.probability.any()
        assert (result.merged.mask_id[result.merged.maps.owner] == 1).all()
        assert len(result.restored((20, 30), (10, 40)).instances) == 0


@pytest.mark.parametrize(
    ("mask_shape", "class_shape"),
    [((4, 5, 7), (8, 6)), ((1, 4, 5, 7), (7, 6)), ((4, 5, 7), (7, 2)), ((0, 5, 7), (7, 6)), ((4, 5), (5, 6))],
)
def test_maps_that_do_not_belong_together_are_refused(
    mask_shape: tuple[int, ...], class_shape: tuple[int, ...]
) -> None:
    options = random_slots(0)[2]
    with pytest.raises(UsageError, match="expected mask"):
        postprocess_masks(np.zeros(mask_shape), np.zeros(class_shape), (8, 8), options)

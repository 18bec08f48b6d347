"""Post-processing on the CPU against what DeepLab2 computed, and against its formulas written plainly."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_array_equal

from zoo.errors import UsageError
from zoo.model.postprocess.center_offset import postprocess, postprocess_batch, postprocess_full_resolution
from zoo.model.postprocess.center_offset_graph import upsample
from zoo.model.postprocess.grouping import find_centers, group_pixels
from zoo.model.postprocess.merging import merge
from zoo.model.postprocess.options import PostprocessOptions
from zoo.model.postprocess.result import PanopticResult

DATA = Path(__file__).parents[2] / "data" / "postprocess"
CITYSCAPES = {"thing_class_ids": tuple(range(11, 19)), "label_divisor": 1000, "void_label": 255}
COCO = {"thing_class_ids": tuple(range(1, 81)), "label_divisor": 256, "void_label": 0}
CASES = [f"case{i}" for i in range(6)]
NETWORKS = ["mobilenet_v3_small_os16", "mobilenet_v3_large_os32", "coco_resnet50_beta_os32"]
NETWORK_SIZE = (65, 129)


def case(
    name: str,
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], dict[str, np.ndarray], PostprocessOptions]:
    stored = dict(np.load(DATA / f"{name}.npz"))
    maps = (
        stored["semantic_probs_x4096"] / np.float32(4096),
        stored["center_heatmap_x512"] / np.float32(512),
        stored["offset_map_x8"] / np.float32(8),
    )
    keep_k_centers = int(stored["keep_k_centers"])
    return maps, stored, PostprocessOptions(**CITYSCAPES, stuff_area_limit=200, keep_k_centers=keep_k_centers)


def network(name: str) -> tuple[list[np.ndarray], np.ndarray, PostprocessOptions]:
    stored = dict(np.load(DATA / f"{name}.npz"))
    dataset: dict[str, Any] = COCO if name.startswith("coco") else CITYSCAPES
    maps = [stored[key] for key in ("semantic_logits", "center_heatmap", "offset_map")]
    return maps, stored["panoptic"], PostprocessOptions(**dataset, stuff_area_limit=32)


@pytest.mark.parametrize("name", CASES)
def test_full_resolution_maps_equal_the_reference(name: str) -> None:
    maps, stored, options = case(name)
    result = postprocess_full_resolution(*maps, options)
    assert_array_equal(result.panoptic, stored["panoptic_merge_op"])
    assert_array_equal(result.semantic, stored["semantic"])
    assert_array_equal(result.instance, stored["instance"])
    assert_array_equal(result.instance_score_map, stored["instance_score_map"])
    assert (result.panoptic.dtype, result.semantic.dtype, result.instance.dtype) == (
        np.int32,
        np.uint8,
        np.int32,
    )


@pytest.mark.parametrize("name", CASES)
def test_steps_equal_the_reference(name: str) -> None:
    (_, heatmap, offsets), stored, options = case(name)
    centers, scores = find_centers(heatmap, options)
    assert (heatmap[centers[:, 0], centers[:, 1]] == scores).all()
    assert_array_equal(group_pixels(stored["semantic"], offsets, centers, options), stored["instance"])
    assert_array_equal(merge(stored["semantic"], stored["instance"], options), stored["panoptic_merge_op"])


@pytest.mark.parametrize("name", NETWORKS)
def test_fused_maps_equal_the_reference(name: str) -> None:
    maps, panoptic, options = network(name)
    assert_array_equal(postprocess(*maps, NETWORK_SIZE, options).panoptic, panoptic)


def test_averaged_scales_equal_the_reference() -> None:
    stored = dict(np.load(DATA / "multiscale.npz"))
    options = PostprocessOptions(**CITYSCAPES, stuff_area_limit=32)
    result = postprocess_full_resolution(
        stored["semantic_probs"], stored["center_heatmap"], stored["offset_map"], options
    )
    assert_array_equal(result.panoptic, stored["panoptic"])


def expected_instances(
    result: PanopticResult, probabilities: np.ndarray, valid_size: tuple[int, int]
) -> dict[int, tuple[int, float]]:
    """Area and score of each thing segment, by one mask each, in order of appearance."""
    height, width = valid_size
    panoptic = result.panoptic[:height, :width]
    labels, first = np.unique(panoptic, return_index=True)
    segments = {}
    for label in labels[np.argsort(first)]:
        class_id = label // result.options.label_divisor
        if class_id in result.options.thing_class_ids:
            mask = panoptic == label
            area = np.float32(mask.sum())
            probability = np.where(mask, probabilities[:height, :width, class_id], np.float32(0)).sum() / area
            score = np.where(mask, result.instance_score_map[:height, :width], np.float32(0)).sum() / area
            segments[int(label)] = (int(area), float(probability * score))
    return segments


@pytest.mark.parametrize("valid_size", [NETWORK_SIZE, (50, 97)])
@pytest.mark.parametrize("name", NETWORKS)
def test_fused_instances_equal_the_formula(name: str, valid_size: tuple[int, int]) -> None:
    maps, _, options = network(name)
    result = postprocess(*maps, NETWORK_SIZE, options)
    probabilities = tf.nn.softmax(upsample(maps[0][None], NETWORK_SIZE)).numpy()[0]
    expected = expected_instances(result, probabilities, valid_size)
    instances = result.instances(valid_size)
    assert len(instances) == len(expected) > 5
    assert list(instances.labels) == list(expected)
    assert list(instances.areas) == [area for area, _ in expected.values()]
    np.testing.assert_allclose(instances.score, [score for _, score in expected.values()], rtol=1e-6)
    assert_array_equal(instances.score, instances.semantic_probability * instances.instance_score)


@pytest.mark.parametrize("name", CASES)
def test_full_resolution_instances_equal_the_formula(name: str) -> None:
    maps, stored, options = case(name)
    result = postprocess_full_resolution(*maps, options)
    valid_size = (stored["semantic"].shape[0] - 9, stored["semantic"].shape[1] - 20)
    expected = expected_instances(result, maps[0], valid_size)
    instances = result.instances(valid_size)
    assert list(instances.labels) == list(expected)
    np.testing.assert_allclose(instances.score, [score for _, score in expected.values()], rtol=1e-6)


def test_instances_that_share_a_label_are_one_segment() -> None:
    maps, _, options = network("coco_resnet50_beta_os32")
    narrow = PostprocessOptions(options.thing_class_ids, label_divisor=3, void_label=0, stuff_area_limit=32)
    result = postprocess(*maps, NETWORK_SIZE, narrow)
    probabilities = tf.nn.softmax(upsample(maps[0][None], NETWORK_SIZE)).numpy()[0]
    expected = expected_instances(result, probabilities, NETWORK_SIZE)
    instances = result.instances()
    assert len(instances) < len(result.centers)
    assert list(instances.labels) == list(expected)
    assert list(instances.areas) == [area for area, _ in expected.values()]
    np.testing.assert_allclose(instances.score, [score for _, score in expected.values()], rtol=1e-6)


def test_tensors_are_read_in_place() -> None:
    maps, panoptic, options = network("mobilenet_v3_small_os16")
    tensors = [tf.constant(each) for each in maps]
    assert_array_equal(postprocess(*tensors, NETWORK_SIZE, options).panoptic, panoptic)
    from zoo.model.postprocess.upsampling import float32_view

    assert np.shares_memory(float32_view(tensors[0]), np.asarray(memoryview(tensors[0])))
    assert np.shares_memory(float32_view(maps[0]), maps[0])


def test_a_batch_gives_the_results_of_its_images() -> None:
    first, panoptic, options = network("mobilenet_v3_small_os16")
    second, other_panoptic, _ = network("mobilenet_v3_large_os32")
    batch = [np.stack(pair) for pair in zip(first, second, strict=True)]
    results = postprocess_batch(*batch, NETWORK_SIZE, options)
    assert_array_equal(results[0].panoptic, panoptic)
    assert_array_equal(results[1].panoptic, other_panoptic)


def test_threads_may_post_process_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, panoptic, options = network("mobilenet_v3_small_os16")
    alone = postprocess(*maps, NETWORK_SIZE, options).instances()
    for number in (1, 4):
        monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", number)
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda _: postprocess(*maps, NETWORK_SIZE, options), range(12)))
        for result in results:
            assert_array_equal(result.panoptic, panoptic)
            np.testing.assert_allclose(result.instances().score, alone.score, rtol=1e-6)


def test_no_center_makes_one_segment_of_all_things() -> None:
    (probabilities, heatmap, offsets), _, options = case("case0")
    result = postprocess_full_resolution(probabilities, np.zeros_like(heatmap), offsets, options)
    things = np.isin(result.semantic, options.thing_class_ids)
    majority = np.bincount(result.semantic[things]).argmax()
    assert (result.panoptic[things] == majority * 1000 + 1).all()
    assert not result.instance.any()
    assert not result.instance_score_map.any()
    assert list(result.instances().labels) == [majority * 1000 + 1]
    assert list(result.instances().score) == [0.0]


def test_no_thing_pixel_gives_no_instance() -> None:
    (_, heatmap, offsets), _, options = case("case0")
    stuff = np.zeros((*heatmap.shape, 19), np.float32)
    stuff[..., 3] = 1
    result = postprocess_full_resolution(stuff, heatmap, offsets, options)
    assert (result.panoptic == 3000).all()
    assert len(result.instances()) == 0


def test_stuff_of_the_area_limit_is_void_and_of_one_pixel_more_is_kept() -> None:
    semantic = np.zeros((4, 5), np.uint8)
    semantic[0] = 7
    nothing = np.zeros((4, 5), np.int32)
    for limit, label in ((5, 255000), (4, 7000), (0, 7000)):
        panoptic = merge(semantic, nothing, PostprocessOptions(**CITYSCAPES, stuff_area_limit=limit))
        assert (panoptic[0] == label).all()
        assert (panoptic[1:] == 0).all()


def test_a_tie_of_votes_goes_to_the_smaller_class() -> None:
    semantic = np.array([[13, 11, 13, 11, 12]], np.uint8)
    instance = np.array([[4, 4, 4, 4, 4]], np.int32)
    assert (merge(semantic, instance, PostprocessOptions(**CITYSCAPES)) == 11001).all()


def test_distances_that_round_to_one_root_go_to_the_first_center() -> None:
    options = PostprocessOptions(**CITYSCAPES)
    centers = np.array([[11, 12], [12, 11]])
    semantic = np.full((16, 16), 11, np.uint8)
    offset = np.zeros((16, 16, 2), np.float32)
    tied = 0
    for step in range(1, 40):
        # The point lies off the diagonal, towards the second center, by the smallest float32 step.
        offset[8, 8] = np.array([step + 1, step]) * 2.0**-20
        apart = centers.astype(np.float32) - (np.float32(8) + offset[8, 8])
        squares = apart[:, 0] * apart[:, 0] + apart[:, 1] * apart[:, 1]
        roots = np.sqrt(squares)
        assert group_pixels(semantic, offset, centers, options)[8, 8] == 1 + roots.argmin()
        tied += squares[1] < squares[0] and roots[1] == roots[0]
    assert tied > 0


def test_logits_with_equal_softmax_go_to_the_smaller_class() -> None:
    lower = np.float32(0.3)
    above = np.nextafter(lower, np.float32(1))
    logits = np.zeros((3, 3, 19), np.float32)
    logits[..., 2], logits[..., 5] = lower, above
    softmax = tf.nn.softmax(logits).numpy()
    assert (softmax[..., 2] == softmax[..., 5]).all()
    result = postprocess(
        logits, np.zeros((3, 3, 1)), np.zeros((3, 3, 2)), (9, 9), PostprocessOptions(**CITYSCAPES)
    )
    assert (result.semantic == 2).all()


def test_a_plateau_keeps_all_its_centers_and_the_border_counts_as_zero() -> None:
    heatmap = np.full((9, 11), 0.05, np.float32)
    heatmap[0, 0] = 0.2
    heatmap[5, 5:7] = 0.4
    heatmap[6, 9] = 0.3
    centers, scores = find_centers(heatmap, PostprocessOptions(**CITYSCAPES, nms_kernel=7))
    assert centers.tolist() == [[0, 0], [5, 5], [5, 6]]
    assert_array_equal(scores, np.float32([0.2, 0.4, 0.4]))


def test_a_score_equal_to_the_threshold_is_no_center() -> None:
    heatmap = np.zeros((9, 9), np.float32)
    heatmap[4, 4] = 0.1
    centers, _ = find_centers(heatmap, PostprocessOptions(**CITYSCAPES, center_score_threshold=0.1))
    assert len(centers) == 0


def test_options_come_from_an_entry() -> None:
    evaluation = SimpleNamespace(
        center_score_threshold=0.2,
        nms_kernel=13,
        keep_k_centers=40,
        stuff_area_limit=2048,
        crop_size=(1025, 2049),
    )
    dataset = SimpleNamespace(thing_class_ids=(12, 11, 11), label_divisor=256, ignore_label=0)
    assert PostprocessOptions.from_entry(evaluation, dataset) == PostprocessOptions(
        thing_class_ids=(11, 12),
        label_divisor=256,
        void_label=0,
        center_score_threshold=0.2,
        nms_kernel=13,
        keep_k_centers=40,
        stuff_area_limit=2048,
    )


@pytest.mark.parametrize(
    "shapes",
    [
        ((8, 8, 19), (8, 9, 1), (8, 8, 2)),
        ((8, 8, 19), (8, 8, 1), (8, 8, 3)),
        ((1, 8, 8, 19), (1, 8, 8, 1), (1, 8, 8, 2)),
        ((8, 8, 300), (8, 8, 1), (8, 8, 2)),
    ],
)
def test_maps_that_do_not_belong_together_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    maps = [np.zeros(shape, np.float32) for shape in shapes]
    with pytest.raises(UsageError, match="found") as error:
        postprocess(*maps, (29, 29), PostprocessOptions(**CITYSCAPES))
    assert "\n" not in str(error.value)

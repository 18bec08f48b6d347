"""Post-processing in graph operations: the same maps as the reference, in functions and exported models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_array_equal

from zoo.model.postprocess.center_offset import postprocess, postprocess_full_resolution
from zoo.model.postprocess.center_offset_graph import postprocess_graph, postprocess_graph_full_resolution
from zoo.model.postprocess.options import PostprocessOptions

DATA = Path(__file__).parents[2] / "data" / "postprocess"
CITYSCAPES = {"thing_class_ids": tuple(range(11, 19)), "label_divisor": 1000, "void_label": 255}
COCO = {"thing_class_ids": tuple(range(1, 81)), "label_divisor": 256, "void_label": 0}
SIZE = (65, 129)
NAMES = ("semantic_logits", "center_heatmap", "offset_map")


def case(name: str) -> tuple[list[np.ndarray], dict[str, np.ndarray], PostprocessOptions]:
    stored = dict(np.load(DATA / f"{name}.npz"))
    maps = [
        stored["semantic_probs_x4096"] / np.float32(4096),
        stored["center_heatmap_x512"] / np.float32(512),
        stored["offset_map_x8"] / np.float32(8),
    ]
    options = PostprocessOptions(
        **CITYSCAPES, stuff_area_limit=200, keep_k_centers=int(stored["keep_k_centers"])
    )
    return maps, stored, options


def network(name: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    stored = dict(np.load(DATA / f"{name}.npz"))
    return {key: stored[key][None] for key in NAMES}, stored["panoptic"]


def compiled(options: PostprocessOptions, jit_compile: bool = False) -> Callable[..., dict[str, tf.Tensor]]:
    return tf.function(
        lambda *maps: postprocess_graph_full_resolution(*maps, options), jit_compile=jit_compile
    )


@pytest.mark.parametrize("name", [f"case{i}" for i in range(6)])
def test_full_resolution_maps_equal_the_reference(name: str) -> None:
    maps, stored, options = case(name)
    result = compiled(options)(*(each[None] for each in maps))
    assert_array_equal(result["panoptic"][0], stored["panoptic_merge_op"])
    assert_array_equal(result["semantic"][0], stored["semantic"])
    assert_array_equal(result["instance"][0], stored["instance"])
    assert_array_equal(result["instance_score_map"][0], stored["instance_score_map"])


def test_any_number_of_centers_is_kept() -> None:
    (probabilities, _, offsets), _, options = case("case1")
    # More centers than 541, so that the hash map grows beyond what 400 centers need.
    heatmap = np.zeros(probabilities.shape[:2], np.float32)
    heatmap[1::5, 1::5] = np.random.default_rng(1).uniform(0.2, 1, heatmap[1::5, 1::5].shape)
    everywhere_things = np.roll(probabilities, 11, axis=-1)
    options = PostprocessOptions(**CITYSCAPES, stuff_area_limit=200, keep_k_centers=0, nms_kernel=3)
    expected = postprocess_full_resolution(everywhere_things, heatmap, offsets, options)
    assert len(expected.centers) > 541
    assert len(np.unique(expected.instance)) > 500
    result = compiled(options)(everywhere_things[None], heatmap[None], offsets[None])
    assert_array_equal(result["instance"][0], expected.instance)
    assert_array_equal(result["panoptic"][0], expected.panoptic)


def test_a_batch_gives_the_maps_of_its_images() -> None:
    loaded = [case(name) for name in ("case0", "case2", "case4")]
    batch = [np.stack(maps) for maps in zip(*(maps for maps, _, _ in loaded), strict=True)]
    batch[1][1] = 0  # an image without a center
    options = loaded[0][2]
    result = compiled(options)(*batch)
    for index, (maps, stored, _) in enumerate(loaded):
        if index == 1:
            without = postprocess_full_resolution(maps[0], np.zeros_like(maps[1]), maps[2], options)
            assert_array_equal(result["panoptic"][index], without.panoptic)
            assert not result["instance_score_map"][index].numpy().any()
        else:
            assert_array_equal(result["panoptic"][index], stored["panoptic_merge_op"])
    centers = postprocess_full_resolution(*loaded[0][0], options).centers
    assert_array_equal(np.argwhere(result["instance_center"][0].numpy() > 0), centers)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("name", ["mobilenet_v3_small_os16", "coco_resnet50_beta_os32"])
def test_network_maps_equal_the_reference(name: str, jit_compile: bool) -> None:
    maps, panoptic = network(name)
    options = PostprocessOptions(**(COCO if name.startswith("coco") else CITYSCAPES), stuff_area_limit=32)
    graph = tf.function(lambda outputs: postprocess_graph(outputs, SIZE, options), jit_compile=jit_compile)
    result = graph(maps)
    assert_array_equal(result["panoptic"][0], panoptic)


def test_xla_equals_the_reference_up_to_keep_k_centers() -> None:
    maps, stored, options = case("case0")
    result = compiled(options, jit_compile=True)(*(each[None] for each in maps))
    assert_array_equal(result["panoptic"][0], stored["panoptic_merge_op"])
    assert_array_equal(result["instance_score_map"][0], stored["instance_score_map"])


def test_an_exported_model_takes_any_batch_size(tmp_path: Path) -> None:
    options = PostprocessOptions(**CITYSCAPES, stuff_area_limit=32)
    signature = {
        name: tf.TensorSpec([None, 17, 33, channels], tf.float32)
        for name, channels in zip(NAMES, (19, 1, 2), strict=True)
    }
    module = tf.Module()
    module.serve = tf.function(
        lambda outputs: postprocess_graph(outputs, SIZE, options), input_signature=[signature]
    )
    tf.saved_model.save(module, str(tmp_path / "exported"))
    serve = tf.saved_model.load(str(tmp_path / "exported")).serve
    pairs = [network(name) for name in ("mobilenet_v3_small_os16", "mobilenet_v3_large_os32")]
    for chosen in ([0], [1, 0], [0, 1, 1]):
        outputs = {name: np.concatenate([pairs[i][0][name] for i in chosen]) for name in NAMES}
        result = serve(outputs)
        for index, i in enumerate(chosen):
            assert_array_equal(result["panoptic"][index], pairs[i][1])
            fused = postprocess(*(pairs[i][0][name][0] for name in NAMES), SIZE, options)
            assert_array_equal(result["instance_score_map"][index], fused.instance_score_map)

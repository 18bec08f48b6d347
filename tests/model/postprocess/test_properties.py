"""Properties of post-processing on random maps, against independent renderings of its steps."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.model.postprocess.center_offset import postprocess, postprocess_full_resolution
from zoo.model.postprocess.center_offset_graph import upsample, upsample_offsets
from zoo.model.postprocess.grouping import find_centers, group_pixels
from zoo.model.postprocess.merging import hash_map_order, merge
from zoo.model.postprocess.options import PostprocessOptions

OPTIONS = PostprocessOptions(tuple(range(3, 7)), label_divisor=1000, void_label=255, stuff_area_limit=20)
SEEDS = st.integers(0, 2**32 - 1)
# Bucket counts of std::unordered_map in GCC's libstdc++, each up to that many elements.
GROWTH = (1, 13, 29, 59, 127, 257, 541, 1109)


class UnorderedMap:
    """GCC's hash table of ints: one linked list, and for each bucket the node before its first."""

    def __init__(self) -> None:
        self.next: dict[object, int | None] = {"head": None}
        self.before: dict[int, object] = {}
        self.buckets = 1
        self.size = 0

    def insert(self, key: int) -> None:
        if self.size + 1 > (self.buckets if self.size else 0):
            self._rehash(GROWTH[GROWTH.index(self.buckets) + 1])
        self._link(key)
        self.size += 1

    def _rehash(self, buckets: int) -> None:
        keys = self.in_order()
        self.next, self.before, self.buckets = {"head": None}, {}, buckets
        for key in keys:
            self._link(key)

    def _link(self, key: int) -> None:
        bucket = key % self.buckets
        if bucket in self.before:
            previous = self.before[bucket]
            self.next[key] = self.next[previous]
            self.next[previous] = key
            return
        first = self.next["head"]
        self.next[key] = first
        self.next["head"] = key
        if first is not None:
            self.before[first % self.buckets] = key
        self.before[bucket] = "head"

    def in_order(self) -> list[int]:
        keys = []
        key = self.next["head"]
        while key is not None:
            keys.append(key)
            key = self.next[key]
        return keys


def plain_merge(semantic: np.ndarray, instance: np.ndarray, options: PostprocessOptions) -> np.ndarray:
    """The merge, pixel by pixel."""
    order = UnorderedMap()
    votes: dict[int, dict[int, int]] = {}
    area: dict[int, int] = {}
    for label, index in zip(semantic.ravel().tolist(), instance.ravel().tolist(), strict=True):
        if label in options.thing_class_ids:
            if index not in votes:
                order.insert(index)
                votes[index] = {}
            votes[index][label] = votes[index].get(label, 0) + 1
        else:
            area[label] = area.get(label, 0) + 1
    used: dict[int, int] = {}
    label_of = {}
    for index in order.in_order():
        label = min(votes[index], key=lambda each, index=index: (-votes[index][each], each))
        used[label] = used.get(label, 0) + 1
        label_of[index] = label * options.label_divisor + used[label]
    panoptic = np.empty(semantic.shape, np.int64)
    for pixel, label in np.ndenumerate(semantic):
        if label in options.thing_class_ids:
            panoptic[pixel] = label_of[instance[pixel]]
        elif 0 < options.stuff_area_limit >= area[label]:
            panoptic[pixel] = options.void_label * options.label_divisor
        else:
            panoptic[pixel] = label * options.label_divisor
    return panoptic


@given(keys=st.lists(st.integers(0, 5000), unique=True, max_size=700))
@settings(max_examples=100)
def test_keys_come_in_the_order_of_the_hash_map(keys: list[int]) -> None:
    table = UnorderedMap()
    for key in keys:
        table.insert(key)
    assert hash_map_order(np.array(keys, np.int64)).tolist() == table.in_order()


@given(n=st.sampled_from([13, 14, 29, 30, 59, 60, 127, 128, 257, 258, 541, 542]), seed=SEEDS)
@settings(max_examples=60)
def test_keys_come_in_order_where_the_table_grows(n: int, seed: int) -> None:
    keys = np.random.default_rng(seed).permutation(1000)[:n]
    table = UnorderedMap()
    for key in keys.tolist():
        table.insert(key)
    assert hash_map_order(keys).tolist() == table.in_order()


@given(seed=SEEDS, most=st.integers(1, 60), limit=st.sampled_from([0, 20, 40]))
@settings(max_examples=40)
def test_merge_equals_a_plain_rendering(seed: int, most: int, limit: int) -> None:
    rng = np.random.default_rng(seed)
    semantic = rng.integers(0, 7, (17, 23))
    instance = rng.integers(0, most + 1, (17, 23))
    options = PostprocessOptions(OPTIONS.thing_class_ids, 1000, 255, stuff_area_limit=limit)
    np.testing.assert_array_equal(
        merge(semantic, instance, options), plain_merge(semantic, instance, options)
    )


@given(seed=SEEDS)
@settings(max_examples=30)
def test_segments_do_not_depend_on_how_instances_are_named(seed: int) -> None:
    rng = np.random.default_rng(seed)
    semantic = rng.integers(0, 7, (17, 23))
    instance = rng.integers(0, 30, (17, 23))
    one = merge(semantic, instance, OPTIONS)
    other = merge(semantic, rng.permutation(30)[instance], OPTIONS)
    np.testing.assert_array_equal(one // 1000, other // 1000)
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


@given(seed=SEEDS, kernel=st.integers(1, 14), levels=st.sampled_from([4, 1000]))
@settings(max_examples=40)
def test_centers_are_the_maxima_of_their_windows(seed: int, kernel: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    heatmap = (rng.integers(0, levels, (41, 37)) / np.float32(levels)).astype(np.float32)
    options = PostprocessOptions((1,), 1000, 255, 0.25, kernel, keep_k_centers=0)
    centers, _ = find_centers(heatmap, options)
    kept = np.where(heatmap > np.float32(0.25), heatmap, 0)
    before = (kernel - 1) // 2
    padded = np.pad(kept, (before, kernel - 1 - before))
    largest = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel)).max(axis=(2, 3))
    np.testing.assert_array_equal(centers, np.argwhere((kept == largest) & (kept > 0)))


@given(seed=SEEDS, n=st.integers(1, 120), spread=st.sampled_from([3, 40, 400]), grid=st.booleans())
@settings(max_examples=60)
def test_grouping_equals_the_distance_to_every_center(seed: int, n: int, spread: int, grid: bool) -> None:
    rng = np.random.default_rng(seed)
    height, width = 70, 101
    centers = rng.integers(0, (height, width), (n, 2))
    offsets = rng.normal(0, spread, (height, width, 2)).astype(np.float32)
    if grid:  # whole pixels: many exact ties
        offsets = np.round(offsets)
    semantic = np.full((height, width), 3)
    points = np.stack(np.mgrid[:height, :width], axis=-1).astype(np.float32) + offsets
    apart = centers.astype(np.float32)[:, None, None] - points
    distances = np.sqrt(apart[..., 0] * apart[..., 0] + apart[..., 1] * apart[..., 1])
    instance = group_pixels(semantic, offsets, centers, OPTIONS)
    np.testing.assert_array_equal(instance, distances.argmin(axis=0) + 1)


@given(
    seed=SEEDS,
    channels=st.sampled_from([7, 40]),
    source=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    target=st.tuples(st.integers(1, 70), st.integers(1, 70)),
)
@settings(max_examples=60)
def test_fused_maps_equal_maps_up_sampled_first(
    seed: int, channels: int, source: tuple[int, int], target: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (1, *source, channels)).astype(np.float32)
    heatmap = rng.uniform(0, 0.6, (1, *source, 1)).astype(np.float32)
    offsets = rng.normal(0, 2, (1, *source, 2)).astype(np.float32)
    fused = postprocess(logits[0], heatmap[0], offsets[0], target, OPTIONS)
    full = postprocess_full_resolution(
        tf.nn.softmax(upsample(tf.constant(logits), target))[0],
        upsample(tf.constant(heatmap), target)[0],
        upsample_offsets(tf.constant(offsets), target)[0],
        OPTIONS,
    )
    for name in ("semantic", "centers", "center_scores", "instance", "panoptic", "instance_score_map"):
        np.testing.assert_array_equal(getattr(fused, name), getattr(full, name), err_msg=name)
    one, other = fused.instances(), full.instances()
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.areas, other.areas)
    np.testing.assert_allclose(one.score, other.score, rtol=2e-6)


@given(SEEDS, st.integers(1, 40), st.sampled_from([1, 3, 40, 10**6]))
@settings(max_examples=200, deadline=None)
def test_the_best_centers_are_cut_where_tensorflow_s_top_k_ends(seed: int, k: int, levels: int) -> None:
    random = np.random.default_rng(seed)
    heatmap = (random.integers(0, levels + 1, (9, 11)) / levels).astype(np.float32)
    heatmap[random.random(heatmap.shape) < random.random()] = 0
    options = PostprocessOptions((1,), 1000, 255, nms_kernel=1, center_score_threshold=0, keep_k_centers=k)

    lowest = tf.math.top_k(heatmap.ravel(), k, sorted=False).values[-1] if (heatmap > 0).sum() > k else 0
    centers, scores = find_centers(heatmap, options)

    np.testing.assert_array_equal(centers, np.argwhere(heatmap > lowest))
    np.testing.assert_array_equal(scores, heatmap[heatmap > lowest])

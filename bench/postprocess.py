"""Post-processing of one image: the fused CPU path against a plain rendering of the algorithm.

    python bench/postprocess.py [--height 1025 --width 2049 --instances 60 --repeat 5 --graph --xla]
    python bench/postprocess.py --masks [--height 1281 --width 1281 --slots 128 --repeat 5]

The plain rendering of centers and offsets is one `tf.function`: resize, softmax, arg-max, max-pooling,
`tf.norm` of all pixels to all centers, segment sums. Both must give the same panoptic map, centers and
instance scores. That of masks is NumPy: resize, softmax, thresholds, then one mask after the other; both must
give the same panoptic and semantic map. It holds several arrays of the size of the image times the slots.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

THINGS = tuple(range(11, 19))
CLASSES = 19


def scene(height: int, width: int, instances: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Maps [h, w, *] at stride 4 of a street: bands of stuff and elliptic things with centers and offsets."""
    rng = np.random.default_rng(seed)
    h, w = (height - 1) // 4 + 1, (width - 1) // 4 + 1
    y, x = np.mgrid[:h, :w].astype(np.float32)
    wave = h * 0.03 * np.sin(x / w * 9)
    label = np.digitize((y + wave) / h, np.linspace(0.1, 0.9, 10)).astype(np.int64)
    nearest = np.full((h, w), -1)
    centers = np.empty((instances, 2), np.float32)
    for i in range(instances):
        ry, rx = rng.uniform(0.03, 0.09) * h, rng.uniform(0.012, 0.035) * w
        centers[i] = rng.uniform(ry, h - 1 - ry), rng.uniform(rx, w - 1 - rx)
        inside = ((y - centers[i, 0]) / ry) ** 2 + ((x - centers[i, 1]) / rx) ** 2 < 1
        nearest[inside] = i
        label[inside] = THINGS[i % len(THINGS)]
    logits = rng.normal(0, 0.7, (h, w, CLASSES)).astype(np.float32)
    np.put_along_axis(logits, label[..., None], 6 + rng.normal(0, 1, (h, w, 1)), axis=-1)
    offsets = centers[np.maximum(nearest, 0)] - np.stack([y, x], -1) + rng.normal(0, 0.4, (h, w, 2))
    offsets[nearest < 0] = rng.normal(0, 3, (h, w, 2))[nearest < 0]
    heatmap = np.zeros((h, w), np.float32)
    for cy, cx in centers:
        peak = rng.uniform(0.3, 0.95) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 2.0**2))
        heatmap = np.maximum(heatmap, peak)
    return {
        "semantic_logits": logits,
        "center_heatmap": heatmap[..., None].astype(np.float32),
        "offset_map": offsets.astype(np.float32),
    }


def plain_tensorflow(size: tuple[int, int], options) -> Callable:
    """The same algorithm as one would write it in TensorFlow, for one image [1, h, w, *]."""
    import tensorflow as tf

    height, width = size
    divisor, kernel = options.label_divisor, options.nms_kernel

    def resize(maps):
        channels = maps.shape[-1]
        maps = tf.transpose(maps, [0, 3, 1, 2])
        maps = tf.compat.v1.image.resize_bilinear(maps, [channels, height], align_corners=True)
        maps = tf.transpose(maps, [0, 1, 3, 2])
        maps = tf.compat.v1.image.resize_bilinear(maps, [channels, width], align_corners=True)
        return tf.transpose(maps, [0, 3, 2, 1])

    @tf.function
    def run(semantic_logits, center_heatmap, offset_map):
        h, w = center_heatmap.shape[1:3]
        scale = tf.constant([(height - 1) / (h - 1), (width - 1) / (w - 1)], tf.float32)
        probabilities = tf.nn.softmax(resize(semantic_logits))[0]
        semantic = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
        offsets = resize(offset_map * scale)[0]
        heatmap = resize(center_heatmap)
        heatmap = tf.where(heatmap > options.center_score_threshold, heatmap, 0.0)
        before = (kernel - 1) // 2
        after = kernel - 1 - before
        padded = tf.pad(heatmap, [[0, 0], [before, after], [before, after], [0, 0]])
        pooled = tf.nn.max_pool2d(padded, kernel, 1, "VALID")
        heatmap = tf.where(pooled == heatmap, heatmap, 0.0)[0, :, :, 0]
        centers = tf.where(heatmap > 0.0)

        grid_x, grid_y = tf.meshgrid(tf.range(width), tf.range(height))
        points = tf.cast(tf.stack([grid_y, grid_x], -1), tf.float32) + offsets
        points = tf.reshape(points, [1, height * width, 2])
        distances = tf.norm(tf.cast(centers, tf.float32)[:, None] - points, axis=-1)
        nearest = tf.argmin(distances, axis=0, output_type=tf.int32)
        is_thing = tf.gather(tf.constant([c in THINGS for c in range(CLASSES)]), semantic)
        instance = tf.where(is_thing, tf.reshape(nearest, [height, width]) + 1, 0)
        center_scores = tf.gather_nd(heatmap, centers)
        score_map = tf.gather(tf.concat([[0.0], center_scores], 0), instance)

        # One row of class counts for each instance; an instance takes the class of most of its pixels.
        flat_semantic, flat_instance = tf.reshape(semantic, [-1]), tf.reshape(instance, [-1])
        thing_pixels = tf.where(flat_instance > 0)[:, 0]
        thing_semantic = tf.gather(flat_semantic, thing_pixels)
        thing_instance = tf.gather(flat_instance, thing_pixels)
        ids, index = tf.unique(thing_instance)
        n = tf.size(ids)
        counts = tf.math.unsorted_segment_sum(
            tf.ones_like(index), index * CLASSES + thing_semantic, n * CLASSES
        )
        majority = tf.argmax(tf.reshape(counts, [n, CLASSES]), axis=-1, output_type=tf.int32)
        number = tf.cumsum(tf.one_hot(majority, CLASSES, dtype=tf.int32), axis=0)
        labels = majority * divisor + tf.gather(number, majority, axis=1, batch_dims=1)
        stuff = tf.where(flat_instance > 0, CLASSES, flat_semantic)
        area = tf.math.bincount(stuff, minlength=CLASSES + 1)
        kept = tf.where(area > options.stuff_area_limit, tf.range(CLASSES + 1), options.void_label)
        panoptic = tf.tensor_scatter_nd_update(
            tf.gather(kept, stuff) * divisor, thing_pixels[:, None], tf.gather(labels, index)
        )

        # Mean probability of the segment's class times mean center score.
        rows = tf.gather(tf.reshape(probabilities, [-1, CLASSES]), thing_pixels)
        probability = tf.gather(rows, tf.gather(majority, index), axis=1, batch_dims=1)
        scores = tf.math.unsorted_segment_mean(probability, index, n) * tf.math.unsorted_segment_mean(
            tf.gather(tf.reshape(score_map, [-1]), thing_pixels), index, n
        )
        return tf.reshape(panoptic, [height, width]), semantic, instance, score_map, scores

    return run


def mask_scene(height: int, width: int, slots: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Mask logits at stride 4 of bands and ellipses, a slot for each, and logits of 133 classes and void."""
    rng = np.random.default_rng(seed)
    h, w = (height - 1) // 4 + 1, (width - 1) // 4 + 1
    y, x = np.mgrid[:h, :w].astype(np.float32)
    masks = rng.normal(-4, 1, (h, w, slots)).astype(np.float32)
    for slot in range(slots // 2):
        if slot < 10:
            inside = (y >= slot * h / 10) & (y < (slot + 1) * h / 10)
        else:
            ry, rx, cy, cx = rng.uniform((0.03, 0.03, 0, 0), (0.1, 0.1, 1, 1)) * np.array([h, w, h, w])
            inside = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
        masks[inside, slot] += rng.uniform(8, 14)
    classes = rng.normal(0, 1, (slots, 134)).astype(np.float32)
    classes[np.arange(slots), rng.integers(0, 133, slots)] += rng.uniform(4, 12, slots).astype(np.float32)
    return masks, classes


def plain_masks(
    masks: np.ndarray, classes: np.ndarray, size: tuple[int, int], options
) -> tuple[np.ndarray, ...]:
    """Returns the panoptic and the semantic map of masks, as one would write it in NumPy."""

    def softmax(logits):
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)

    def resized(maps, axis, target):
        position = np.arange(target, dtype=np.float32) * np.float32((maps.shape[axis] - 1) / (target - 1))
        low = position.astype(np.int64)
        weight = (position - low).reshape([-1 if i == axis else 1 for i in range(3)])
        first = maps.take(low, axis)
        return first + (maps.take(np.minimum(low + 1, maps.shape[axis] - 1), axis) - first) * weight

    threshold = np.float32(options.pixel_confidence_threshold)
    probabilities = softmax(classes)[:, :-1]
    index, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    at_network = softmax(masks)
    is_sure = at_network > threshold
    mask_score = (at_network * is_sure).sum((0, 1)) / np.maximum(is_sure.sum((0, 1)), 1)
    order = np.argsort(-confidence * mask_score, kind="stable")

    logits = resized(resized(masks, 1, size[1]), 0, size[0])
    sure = softmax(logits) > threshold
    is_thing = index < len(options.thing_class_ids)
    class_id = options.class_ids(probabilities.shape[1])[index]
    owner = np.full(size, -1)
    for slot in order:
        kind = "thing" if is_thing[slot] else "stuff"
        free = sure[..., slot] & (owner < 0)
        if (
            confidence[slot] >= getattr(options, f"transformer_class_confidence_threshold_{kind}")
            and free.sum() > sure[..., slot].sum() * options.overlapping_threshold
        ):
            owner[free] = slot
    area = np.bincount(owner[owner >= 0], minlength=len(order))
    stuff = np.bincount(class_id, area * ~is_thing)
    kept = np.where(is_thing, area >= options.thing_area_limit, stuff[class_id] >= options.stuff_area_limit)
    rank = np.argsort(order) + 1
    label = np.where(kept, class_id * options.label_divisor + rank * is_thing, options.void_label)
    return np.append(label, options.void_label)[owner], class_id[logits.argmax(axis=-1)]


def time_masks(size: tuple[int, int], slots: int, repeat: int) -> None:
    """Prints how long masks take, fused and plain."""
    from zoo.model.postprocess.masks import postprocess_masks
    from zoo.model.postprocess.options import MaskOptions

    options = MaskOptions(
        thing_class_ids=tuple(range(1, 81)),
        label_divisor=256,
        void_label=0,
        thing_area_limit=400,
        stuff_area_limit=6400,
        transformer_class_confidence_threshold_thing=0.7,
        transformer_class_confidence_threshold_stuff=0.5,
        overlapping_threshold=0.8,
    )
    maps = mask_scene(*size, slots)

    def fused():
        return postprocess_masks(*maps, size, options).restored(size, size)

    start = time.perf_counter()
    found = fused()
    first_ms = 1000 * (time.perf_counter() - start)
    print(f"first call                 {first_ms:9.1f} ms (compiles, or reads the cache)")
    labelled = 100 * (found.panoptic != 0).mean()
    print(f"{slots} slots, {len(found.instances)} instances, {labelled:.0f} % of the pixels with a label")
    fused_ms = median_ms(fused, max(repeat, 10))
    print(f"fused                      {fused_ms:9.1f} ms")
    panoptic, semantic = plain_masks(*maps, size, options)
    for name, one, other in (("panoptic", found.panoptic, panoptic), ("semantic", found.semantic, semantic)):
        # The two round differently: a few pixels of millions stand on a threshold.
        assert (one != other).mean() < 1e-5, f"{name}: {(one != other).sum()} pixels differ"
    plain_ms = median_ms(lambda: plain_masks(*maps, size, options), min(repeat, 3))
    print(f"plain NumPy                {plain_ms:9.1f} ms")
    print(f"ratio                      {plain_ms / fused_ms:9.1f}")


def median_ms(function: Callable, repeat: int) -> float:
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def same_segments(one: np.ndarray, other: np.ndarray, divisor: int) -> bool:
    """Whether two panoptic maps have the same classes and segments; only the numbers may differ."""
    if (one // divisor != other // divisor).any():
        return False
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return all(len(np.unique(side)) == pairs.shape[1] for side in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--masks", action="store_true", help="time masks of slots, not centers and offsets")
    parser.add_argument("--height", type=int)
    parser.add_argument("--width", type=int)
    parser.add_argument("--slots", type=int, default=128)
    parser.add_argument("--instances", type=int, default=60)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--steps", action="store_true", help="time every kernel")
    parser.add_argument("--graph", action="store_true", help="time the graph operations too")
    parser.add_argument("--xla", action="store_true", help="compile the graph operations with XLA")
    arguments = parser.parse_args()
    default = (1281, 1281) if arguments.masks else (1025, 2049)
    size = (arguments.height or default[0], arguments.width or default[1])
    if arguments.masks:
        return time_masks(size, arguments.slots, arguments.repeat)

    from zoo.model.postprocess.center_offset import postprocess
    from zoo.model.postprocess.options import PostprocessOptions

    options = PostprocessOptions(
        THINGS,
        label_divisor=1000,
        void_label=255,
        center_score_threshold=0.1,
        nms_kernel=7,
        stuff_area_limit=2048,
    )
    maps = scene(*size, arguments.instances)

    def fused():
        result = postprocess(*maps.values(), size, options)
        return result, result.instances((size[0] - 1, size[1] - 1))

    start = time.perf_counter()
    result, _ = fused()
    first_ms = 1000 * (time.perf_counter() - start)
    print(f"first call                 {first_ms:9.1f} ms (compiles, or reads the cache)")
    instances = result.instances()
    things = np.isin(result.semantic, THINGS).mean()
    print(f"{len(result.centers)} centers, {len(instances)} instances, {100 * things:.0f} % thing pixels")
    fused_ms = median_ms(fused, max(arguments.repeat, 10))
    maps_ms = median_ms(lambda: postprocess(*maps.values(), size, options), max(arguments.repeat, 10))
    print(
        f"fused                      {fused_ms:9.1f} ms ({maps_ms:.1f} maps, {fused_ms - maps_ms:.1f} scores)"
    )
    if arguments.steps:
        time_steps(lambda: fused(), arguments.repeat)

    import tensorflow as tf

    tensors = {name: tf.constant(each[None]) for name, each in maps.items()}
    plain = plain_tensorflow(size, options)
    panoptic, semantic, instance, score_map, scores = (each.numpy() for each in plain(**tensors))
    for name, one, other in (
        ("semantic", result.semantic, semantic),
        ("instance", result.instance, instance),
        ("instance_score_map", result.instance_score_map, score_map),
    ):
        assert (one == other).all(), f"{name}: {(one != other).sum()} pixels differ"
    assert same_segments(result.panoptic, panoptic, options.label_divisor), "panoptic: other segments"
    # TensorFlow's segment sums add pixel after pixel in float32.
    assert np.allclose(instances.score, scores, rtol=1e-3, atol=0), abs(instances.score / scores - 1).max()
    plain_ms = median_ms(lambda: plain(**tensors)[0].numpy(), arguments.repeat)
    print(f"plain TensorFlow           {plain_ms:9.1f} ms")
    print(f"ratio                      {plain_ms / fused_ms:9.1f}")

    if arguments.graph or arguments.xla:
        from zoo.model.postprocess.center_offset_graph import postprocess_graph

        for jit_compile in [False] * arguments.graph + [True] * arguments.xla:

            @tf.function(jit_compile=jit_compile)
            def graph(inputs):
                return postprocess_graph(inputs, size, options)

            differ = (graph(tensors)["panoptic"].numpy()[0] != result.panoptic).sum()
            graph_ms = median_ms(lambda graph=graph: graph(tensors)["panoptic"].numpy(), arguments.repeat)
            name = "graph, XLA" if jit_compile else "graph"
            print(f"{name:27}{graph_ms:9.1f} ms, {differ} pixels differ")


def time_steps(function: Callable, repeat: int) -> None:
    """Prints thread time per kernel: the sum over threads of one call."""
    from zoo.model.postprocess import center_offset, grouping, merging, scoring, upsampling

    spent: dict[str, float] = {}
    modules = [center_offset, grouping, merging, scoring, upsampling]
    originals = {
        (module, name): each
        for module in modules
        for name, each in vars(module).items()
        if (name.endswith("_rows") and name != "for_rows") or name == "candidate_cells"
    }

    def timed(name: str, function: Callable) -> Callable:
        def call(*arguments):
            start = time.thread_time()
            result = function(*arguments)
            spent[name] = spent.get(name, 0.0) + time.thread_time() - start
            return result

        return call

    for (module, name), each in originals.items():
        setattr(module, name, timed(name, each))
    for _ in range(repeat):
        function()
    for (module, name), each in originals.items():
        setattr(module, name, each)
    for name, seconds in spent.items():
        print(f"  {name:25}{1000 * seconds / repeat:9.1f} ms of threads")


if __name__ == "__main__":
    main()

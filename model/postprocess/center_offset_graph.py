"""Post-processing in graph operations: for GPU and TPU, and for exported models.

The same algorithm as `zoo.model.postprocess.center_offset`, with the same numbers for instances: DeepLab2's
`model/post_processor/panoptic_deeplab.py` with `merge_semantic_and_instance_maps_op_kernel.cc`. There is no
Python in the graph, the batch size is free, and grouping holds a few [H, W] maps for any number of centers.

With `keep_k_centers` above 0 every shape but the batch is static, and the graph compiles with XLA. One case
then differs: in an image with more than `keep_k_centers` centers XLA's top-k is sorted, so the k - 1 best
centers stay, where TensorFlow's CPU kernel, which the reference ran on, may leave fewer.
"""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from zoo.model.postprocess.merging import BUCKET_COUNTS
from zoo.model.postprocess.options import PostprocessOptions
from zoo.model.postprocess.upsampling import MAX_CHANNELS_HEIGHT_FIRST

_NEVER = tf.int32.max


def postprocess_graph(
    outputs: Mapping[str, tf.Tensor], size: tuple[int, int], options: PostprocessOptions
) -> dict[str, tf.Tensor]:
    """Up-samples a network's maps and merges them into panoptic maps.

    Args:
      outputs: `semantic_logits` [B, h, w, C], `center_heatmap` [B, h, w, 1], `offset_map` [B, h, w, 2], all
        float32; every size but B is static.
      size: (H, W) of the result, the size of the network's input.
      options: of the data set and the evaluation.

    Returns:
      `panoptic`, `semantic`, `instance`: [B, H, W] int32; `instance_center`: the heatmap after non-maximum
      suppression, and `instance_score_map`: both [B, H, W] float32.
    """
    return postprocess_graph_full_resolution(
        tf.nn.softmax(upsample(outputs["semantic_logits"], size)),
        upsample(outputs["center_heatmap"], size),
        upsample_offsets(outputs["offset_map"], size),
        options,
    )


def postprocess_graph_full_resolution(
    semantic_probabilities: tf.Tensor,
    center_heatmap: tf.Tensor,
    offset_map: tf.Tensor,
    options: PostprocessOptions,
) -> dict[str, tf.Tensor]:
    """Merges maps [B, H, W, C], [B, H, W, 1] or [B, H, W], and [B, H, W, 2] like `postprocess_graph`."""
    _, height, width, num_classes = semantic_probabilities.shape
    semantic = tf.argmax(semantic_probabilities, axis=-1, output_type=tf.int32)
    heatmap = tf.reshape(center_heatmap, [-1, height, width, 1])
    center_map = _suppress(heatmap, options)

    def one_image(maps: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        return _merge_image(*maps, num_classes, options)

    labels = tf.TensorSpec([height, width], tf.int32)
    panoptic, instance, score_map = tf.map_fn(
        one_image,
        (semantic, center_map, offset_map),
        fn_output_signature=(labels, labels, tf.TensorSpec([height, width], tf.float32)),
    )
    return {
        "panoptic": panoptic,
        "semantic": semantic,
        "instance": instance,
        "instance_center": center_map,
        "instance_score_map": score_map,
    }


def upsample(maps: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Resizes [B, h, w, C] bilinearly to [B, H, W, C] with aligned corners, in the reference's order.

    Few channels are resized down, then across (DeepLab2's `model/utils.py`, `resize_bilinear`); rounding
    differs from one 2-D operation, and arg-max shows it.
    """
    _, height, width, channels = maps.shape
    if (height, width) == tuple(size):
        return maps
    if channels > MAX_CHANNELS_HEIGHT_FIRST:
        return _resize(maps, size)
    maps = _resize(tf.transpose(maps, [0, 3, 1, 2]), (channels, size[0]))
    maps = _resize(tf.transpose(maps, [0, 1, 3, 2]), (channels, size[1]))
    return tf.transpose(maps, [0, 3, 2, 1])


def upsample_offsets(offset_map: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Resizes offsets [B, h, w, 2] and scales them to pixels of the new size."""
    _, height, width, _ = offset_map.shape
    target = tf.constant([size[0] - 1, size[1] - 1], tf.float32)
    source = tf.constant([max(height - 1, 1), max(width - 1, 1)], tf.float32)
    return upsample(offset_map * (target / source), size)


def _resize(maps: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    return tf.raw_ops.ResizeBilinear(images=maps, size=size, align_corners=True, half_pixel_centers=False)


def _suppress(heatmap: tf.Tensor, options: PostprocessOptions) -> tf.Tensor:
    """Zeroes what is below the threshold or not the largest of its window: [B, H, W, 1] to [B, H, W]."""
    heatmap = tf.where(heatmap > options.center_score_threshold, heatmap, 0.0)
    before = (options.nms_kernel - 1) // 2
    pad = [before, options.nms_kernel - 1 - before]
    # The window's maximum is taken down, then across.
    largest = tf.pad(heatmap, [[0, 0], pad, pad, [0, 0]])
    largest = tf.nn.max_pool2d(largest, (options.nms_kernel, 1), 1, "VALID")
    largest = tf.nn.max_pool2d(largest, (1, options.nms_kernel), 1, "VALID")
    return tf.squeeze(tf.where(largest == heatmap, heatmap, 0.0), axis=3)


def _merge_image(
    semantic: tf.Tensor,
    center_map: tf.Tensor,
    offsets: tf.Tensor,
    num_classes: int,
    options: PostprocessOptions,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the panoptic map, instance map and score map [H, W] of one image."""
    height, width = semantic.shape
    thing_index = tf.constant(options.thing_index[:num_classes], tf.int32)
    thing = tf.gather(thing_index, semantic)
    positions, capacity, count = _center_positions(tf.reshape(center_map, [-1]), options)
    nearest = _nearest_center(positions, count, width, offsets)
    found = tf.logical_and(thing >= 0, count > 0)
    instance = tf.where(found, nearest + 1, 0)
    scores = tf.gather(tf.reshape(center_map, [-1]), positions)
    score_map = tf.where(found, tf.gather(scores, nearest), 0.0)
    labels = _instance_labels(thing, instance, capacity + 1, options)
    panoptic = tf.where(
        thing >= 0,
        tf.gather(labels, instance),
        tf.gather(_stuff_labels(semantic, num_classes, options), semantic),
    )
    return tuple(tf.ensure_shape(each, [height, width]) for each in (panoptic, instance, score_map))


def _center_positions(
    suppressed: tf.Tensor, options: PostprocessOptions
) -> tuple[tf.Tensor, int | tf.Tensor, tf.Tensor]:
    """Returns flat center positions, row by row, padded with 0; their capacity, static if bounded; count."""
    kept = suppressed > 0.0
    k = options.keep_k_centers
    if k > 0:
        lowest = tf.cond(
            tf.math.count_nonzero(kept, dtype=tf.int32) > k,
            lambda: _last_of_top_k(suppressed, k),
            lambda: tf.constant(0.0),
        )
        kept = suppressed > lowest
    count = tf.math.count_nonzero(kept, dtype=tf.int32)
    capacity = k if k > 0 else tf.maximum(count, 1)
    slot = tf.where(kept, tf.cumsum(tf.cast(kept, tf.int32)) - 1, -1)
    positions = tf.math.unsorted_segment_max(tf.range(suppressed.shape[0]), slot, capacity)
    return tf.maximum(positions, 0), capacity, count


def _last_of_top_k(suppressed: tf.Tensor, k: int) -> tf.Tensor:
    # The reference takes the last of an unsorted top-k, which is not the smallest: where it ends up is a
    # matter of the heap in TensorFlow's CPU kernel, so that kernel is asked.
    with tf.device("/CPU:0"):
        return tf.math.top_k(suppressed, k, sorted=False).values[-1]


def _nearest_center(positions: tf.Tensor, count: tf.Tensor, width: int, offsets: tf.Tensor) -> tf.Tensor:
    """Returns the index [H, W] of the nearest center, the first of a tie; one at a time, to save memory."""
    height = offsets.shape[0]
    points_y = tf.range(height, dtype=tf.float32)[:, None] + offsets[..., 0]
    points_x = tf.range(width, dtype=tf.float32)[None, :] + offsets[..., 1]
    centers_y = tf.cast(positions // width, tf.float32)
    centers_x = tf.cast(positions % width, tf.float32)

    def nearer(
        index: tf.Tensor, best: tf.Tensor, distance: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        dy = centers_y[index] - points_y
        dx = centers_x[index] - points_x
        candidate = tf.sqrt(dy * dy + dx * dx)
        return index + 1, tf.where(candidate < distance, index, best), tf.minimum(candidate, distance)

    _, best, _ = tf.while_loop(
        lambda index, best, distance: index < count,
        nearer,
        (tf.constant(0), tf.zeros_like(points_y, tf.int32), tf.fill([height, width], float("inf"))),
        parallel_iterations=1,
    )
    return best


def _instance_labels(
    thing: tf.Tensor, instance: tf.Tensor, num_ids: int | tf.Tensor, options: PostprocessOptions
) -> tf.Tensor:
    """Returns the panoptic label [num_ids] of each instance id: its most frequent class, and a number."""
    thing_ids = tf.constant(options.thing_class_ids or (options.void_label,), tf.int32)
    things = thing_ids.shape[0]
    is_thing = tf.reshape(thing >= 0, [-1])
    ids = tf.where(is_thing, tf.reshape(instance, [-1]), -1)
    pixel = tf.range(ids.shape[0])
    cell = tf.where(is_thing, ids * things + tf.reshape(thing, [-1]), -1)
    histogram = tf.reshape(
        tf.math.unsorted_segment_sum(tf.ones_like(cell), cell, num_ids * things), [num_ids, things]
    )
    first_pixel = tf.math.unsorted_segment_min(pixel, ids, num_ids)
    appearance = tf.argsort(first_pixel, stable=True)
    present = tf.math.count_nonzero(first_pixel < _NEVER, dtype=tf.int32)
    order = _hash_map_order(appearance, present, num_ids)
    majority = tf.gather(tf.argmax(histogram, axis=1, output_type=tf.int32), order)
    active = tf.range(num_ids) < present
    of_class = tf.one_hot(majority, things, dtype=tf.int32) * tf.cast(active, tf.int32)[:, None]
    number = tf.gather(tf.cumsum(of_class), majority, axis=1, batch_dims=1)
    labels = tf.gather(thing_ids, majority) * options.label_divisor + number
    return tf.math.unsorted_segment_max(labels, tf.where(active, order, -1), num_ids)


def _hash_map_order(keys: tf.Tensor, count: tf.Tensor, capacity: int | tf.Tensor) -> tf.Tensor:
    """Sorts the first `count` keys as `zoo.model.postprocess.merging.hash_map_order`."""
    bucket_counts = tf.constant(BUCKET_COUNTS, tf.int32)
    static = isinstance(capacity, int)
    # Segments must be a static number for XLA: the largest table that the capacity can lead to.
    most_buckets = next(n for n in BUCKET_COUNTS if n >= capacity) if static else None
    position = tf.range(capacity)
    wide = tf.cast(position, tf.int64)
    length = tf.cast(capacity, tf.int64)

    def insert(level: tf.Tensor, keys: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        buckets = bucket_counts[level]
        active = tf.logical_and(position < buckets, position < count)
        bucket = tf.where(active, keys % buckets, -1)
        touched = tf.math.unsorted_segment_min(position, bucket, most_buckets if static else buckets)
        touched = tf.cast(tf.gather(touched, tf.maximum(bucket, 0)), tf.int64)
        rank = tf.where(active, (length - 1 - touched) * length + (length - 1 - wide), length * length + wide)
        return level + 1, tf.gather(keys, tf.argsort(rank, stable=True))

    _, keys = tf.while_loop(
        lambda level, keys: tf.logical_or(level == 0, bucket_counts[tf.maximum(level - 1, 0)] < count),
        insert,
        (tf.constant(0), keys),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([capacity if static else None])),
        parallel_iterations=1,
    )
    return keys


def _stuff_labels(semantic: tf.Tensor, num_classes: int, options: PostprocessOptions) -> tf.Tensor:
    """Returns the panoptic label [C] of each class as stuff: void where its area is too small."""
    labels = tf.range(num_classes)
    if options.stuff_area_limit > 0:
        flat = tf.reshape(semantic, [-1])
        area = tf.math.unsorted_segment_sum(tf.ones_like(flat), flat, num_classes)
        labels = tf.where(area <= options.stuff_area_limit, options.void_label, labels)
    return labels * options.label_divisor

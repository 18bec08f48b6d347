"""Predictions at the raw image's size, against TensorFlow's own resize of the whole maps."""

import numpy as np
import pytest
import tensorflow as tf

from zoo.model.layers import resize_bilinear
from zoo.model.postprocess.center_offset import postprocess, postprocess_full_resolution
from zoo.model.postprocess.options import PostprocessOptions

CROP, VALID = (65, 81), (57, 73)
OPTIONS = PostprocessOptions(
    thing_class_ids=(1, 2, 3), label_divisor=256, void_label=0, nms_kernel=5, stuff_area_limit=30
)


def maps(channels, seed=0):
    generator = np.random.default_rng(seed)
    height, width = (CROP[0] - 1) // 4 + 1, (CROP[1] - 1) // 4 + 1
    logits = generator.normal(0, 2, (height, width, channels)).astype(np.float32)
    logits[..., :4] += 2.0
    heatmap = generator.uniform(0, 1, (height, width, 1)).astype(np.float32)
    offsets = generator.normal(0, 2, (height, width, 2)).astype(np.float32)
    return logits, heatmap, offsets


def resized_by_tensorflow(values, raw, method):
    return method(values[None, : VALID[0], : VALID[1]], raw, align_corners=True)[0].numpy()


def expected_instances(result, probabilities, raw):
    nearest = tf.compat.v1.image.resize_nearest_neighbor
    panoptic = resized_by_tensorflow(result.panoptic[..., None], raw, nearest)[..., 0]
    scores = resized_by_tensorflow(result.instance_score_map[..., None], raw, nearest)[..., 0]
    resized = resized_by_tensorflow(probabilities, raw, tf.compat.v1.image.resize_bilinear)
    found = {}
    for label in np.unique(panoptic):
        mask = panoptic == label
        if label // 256 in OPTIONS.thing_class_ids:
            probability = resized[mask][:, label // 256].astype(np.float64).mean()
            found[int(label)] = (int(mask.sum()), probability * scores[mask].astype(np.float64).mean())
    return found


@pytest.mark.parametrize("raw", [(120, 150), (31, 40), (57, 40), (200, 73), VALID])
@pytest.mark.parametrize("channels", [19, 134])
def test_restored_equals_resizing_everything(raw, channels):
    logits, heatmap, offsets = maps(channels)
    result = postprocess(logits, heatmap, offsets, CROP, OPTIONS)
    probabilities = tf.nn.softmax(resize_bilinear(logits[None], CROP))[0].numpy()
    averaged = postprocess_full_resolution(
        probabilities,
        resize_bilinear(heatmap[None], CROP)[0].numpy(),
        resize_bilinear(offsets[None] * (64 / 16, 80 / 20), CROP)[0].numpy(),
        OPTIONS,
    )
    for each in (result, averaged):
        restored = each.restored(VALID, raw)
        expected = expected_instances(each, probabilities, raw)
        assert restored.panoptic.shape == restored.semantic.shape == raw
        assert restored.instances.labels.tolist() == list(
            dict.fromkeys(label for label in restored.panoptic.ravel().tolist() if label in expected)
        )
        assert len(restored.instances) == len(expected) > 5
        for label, area, score in zip(
            restored.instances.labels, restored.instances.areas, restored.instances.score, strict=True
        ):
            assert area == expected[label][0]
            assert score == pytest.approx(expected[label][1], rel=2e-6)

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.model.postprocess.sampling import Grid
from zoo.model.preprocess import network_input, resized_size

SIDES = st.integers(40, 1000)


def reference_size(raw, crop, least, most):
    """Sizes computed by TensorFlow, in the order of the reference: float64 quotients, float32 products."""

    def scaled(size, factor):
        factor = tf.cast(factor, tf.float32)
        return [tf.cast(tf.floor(tf.cast(side, tf.float32) * factor), tf.int32) for side in size]

    size = [tf.constant(side) for side in raw]
    if least:
        size = scaled(size, tf.maximum(least / size[0], least / size[1]))
    most = (most, most) if most else crop
    factor = tf.cast(tf.minimum(most[0] / size[0], most[1] / size[1]), tf.float32)
    return tuple(int(side) for side in scaled(size, tf.minimum(factor, 1.0)))


@settings(max_examples=200)
@given(raw=st.tuples(SIDES, SIDES), value=st.sampled_from([0, 225, 641]))
def test_sizes_equal_those_of_tensorflow(raw, value):
    crop = (value or 1025, value or 2049)
    assert resized_size(raw, crop, (value,), (value,)) == reference_size(raw, crop, value, value)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ((480, 640), (481, 641)),
        ((640, 480), (641, 481)),
        ((426, 640), (426, 641)),
        ((1024, 2048), (320, 641)),
        # The reference would leave nothing of a line of pixels.
        ((1, 6000), (1, 641)),
    ],
)
def test_sizes_of_common_images(raw, expected):
    assert resized_size(raw, (641, 641), (641,), (641,)) == expected


def test_an_image_of_the_crop_or_less_stays_as_it_is():
    assert resized_size((1024, 2048), (1025, 2049), (0,), (0,)) == (1024, 2048)
    assert resized_size((2048, 4096), (1025, 2049), (0,), (0,)) == (1024, 2049)


def test_network_input_is_padded_with_the_mean_pixel():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    padded = network_input(image, (5, 7), (9, 8)).numpy()
    assert padded.shape == (9, 8, 3)
    np.testing.assert_array_equal(padded[:5, :7], image)
    assert (padded[5:] == 127.5).all()
    assert (padded[:, 7:] == 127.5).all()


@settings(max_examples=100)
@given(source=st.tuples(SIDES, SIDES), target=st.tuples(SIDES, SIDES))
def test_nearest_sampling_equals_tensorflow(source, target):
    positions = np.arange(source[0] * source[1], dtype=np.int32).reshape(source)
    expected = tf.compat.v1.image.resize_nearest_neighbor(
        positions[None, ..., None], target, align_corners=True
    )
    np.testing.assert_array_equal(Grid.of(source, target).nearest(positions), expected[0, ..., 0])


@settings(max_examples=60)
@given(raw=st.tuples(SIDES, SIDES), value=st.sampled_from([225, 641]), seed=st.integers(0, 2**31))
def test_there_and_back_moves_no_centroid_by_a_pixel(raw, value, seed):
    """A label map that is resized like an image and restored has the raw size, and its segments in place."""
    generator = np.random.default_rng(seed)
    crop = (value, value)
    labels = np.zeros(raw, np.int32)
    y, x = np.mgrid[: raw[0], : raw[1]]
    for label, quarter in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)], start=1):
        radii = [generator.uniform(side / 12, side / 4) for side in raw]
        middle = [(0.25 + 0.5 * q) * side for q, side in zip(quarter, raw, strict=True)]
        labels[((y - middle[0]) / radii[0]) ** 2 + ((x - middle[1]) / radii[1]) ** 2 <= 1] = label
    size = resized_size(raw, crop, (value,), (value,))
    assert all(1 <= side <= most for side, most in zip(size, crop, strict=True))
    padded = np.full(crop, -1, np.int32)
    padded[: size[0], : size[1]] = Grid.of(raw, size).nearest(labels)
    restored = Grid.of(size, raw).nearest(padded)
    assert restored.shape == raw
    # Where an image shrinks to less than half, a pixel of the smaller image is the measure.
    shrinking = max(raw[0] / size[0], raw[1] / size[1])
    pixel = 1.0 if shrinking < 2 else shrinking
    for label in (1, 2, 3, 4):
        before, after = np.argwhere(labels == label), np.argwhere(restored == label)
        assert np.abs(before.mean(axis=0) - after.mean(axis=0)).max() < pixel, (label, raw, size)

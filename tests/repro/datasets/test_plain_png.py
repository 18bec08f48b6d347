"""Plain PNG files have the pixels that TensorFlow reads from them; other files are left to it."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from zoo.repro.datasets.image_files import decode_plain_png


def encoded(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("pixels", [
    np.arange(35, dtype=np.uint8).reshape(5, 7),
    (np.arange(35, dtype=np.uint16) * 1871).reshape(5, 7),
    np.full((1, 1, 3), 7, np.uint8),
])  # fmt: skip
def test_each_plain_kind_is_read(pixels: np.ndarray) -> None:
    found = decode_plain_png(encoded(pixels))
    assert found is not None
    assert found.dtype == pixels.dtype
    np.testing.assert_array_equal(found, pixels)
    channels = 3 if pixels.ndim == 3 else 1
    tensor = tf.io.decode_png(encoded(pixels), channels, tf.as_dtype(pixels.dtype))
    np.testing.assert_array_equal(found, tensor.numpy().reshape(pixels.shape))


def test_other_kinds_and_damaged_files_are_not_read() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    data = encoded(grey)
    palette = Image.fromarray(grey).convert("P")
    others = [
        encoded(np.dstack([grey] * 4)),
        encoded(grey, transparency=0),
        encoded(grey > 100),
        b"",
        data[:-20],
        data[:60],
        data[:50] + bytes([data[50] ^ 1]) + data[51:],
        b"\xff\xd8" + data,
    ]
    buffer = io.BytesIO()
    palette.save(buffer, "PNG")
    for other in [*others, buffer.getvalue()]:
        assert decode_plain_png(other) is None

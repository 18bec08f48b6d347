"""Plain PNG files have the pixels that TensorFlow reads from them; other files are left to it."""

from __future__ import annotations

import io
import struct
import zlib

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


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize(("bits", "colour_type", "pixel_bytes"), [(8, 0, 1), (16, 0, 2), (8, 2, 3)])
def test_each_filter_is_undone(bits: int, colour_type: int, pixel_bytes: int) -> None:
    """Whatever bytes rows hold, they are some image's under each filter."""
    height, width = 20, 13
    random = np.random.default_rng(pixel_bytes)
    rows = random.integers(0, 256, (height, 1 + width * pixel_bytes), np.uint8)
    rows[5:, 1:] *= random.random((height - 5, width * pixel_bytes)) < 0.2  # as in a label map
    rows[:, 0] = np.arange(height) % 5
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))
    packed = zlib.compress(rows.tobytes())
    parts = [header, chunk(b"tEXt", b"a\0b"), chunk(b"IDAT", packed[:40]), chunk(b"IDAT", packed[40:])]
    data = b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IEND", b"")])
    found = decode_plain_png(data)
    assert found is not None
    kind = tf.uint16 if bits == 16 else tf.uint8
    expected = tf.io.decode_png(data, 3 if pixel_bytes == 3 else 1, kind).numpy()
    np.testing.assert_array_equal(found, expected.reshape(found.shape))


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
        data.replace(b"IDAT", b"IDAX"),
    ]
    buffer = io.BytesIO()
    palette.save(buffer, "PNG")
    for other in [*others, buffer.getvalue()]:
        assert decode_plain_png(other) is None

"""Plain PNG files have the pixels that image libraries read from them; other files are left to these."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from zoo.repro.datasets.png import decode_plain_png


def encoded(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def filters_of(data: bytes, height: int) -> set[int]:
    start = data.index(b"IDAT") + 4
    rows = np.frombuffer(zlib.decompress(data[start:]), np.uint8)
    return set(rows.reshape(height, -1)[:, 0].tolist())


def with_filter(pixels: np.ndarray, kind: int) -> bytes:
    """Returns a PNG of one filter type, made from the definition in the specification."""
    height, width, step = pixels.shape
    known = np.zeros((height + 1, width + 1, step), np.int64)
    known[1:, 1:] = pixels
    left, above, corner = known[1:, :-1], known[:-1, 1:], known[:-1, :-1]
    base = left + above - corner
    distances = np.stack([abs(base - left), abs(base - above), abs(base - corner)])
    paeth = np.choose(distances.argmin(axis=0), [left, above, corner])
    guess = [np.zeros_like(left), left, above, (left + above) // 2, paeth][kind]
    rows = np.full((height, 1 + width * step), kind, np.uint8)
    rows[:, 1:] = ((pixels - guess) & 255).reshape(height, -1)
    plain = encoded(pixels)
    packed = zlib.compress(rows.tobytes())
    chunk = b"IDAT" + packed
    whole = len(packed).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    return plain[:33] + whole + encoded(pixels)[-12:]


@pytest.mark.parametrize("kind", range(5))
def test_every_filter_is_undone(kind: int) -> None:
    pixels = np.random.default_rng(kind).integers(0, 256, (7, 9, 3)).astype(np.uint8)
    data = with_filter(pixels, kind)
    assert filters_of(data, 7) == {kind}
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
    np.testing.assert_array_equal(decode_plain_png(data), pixels)


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

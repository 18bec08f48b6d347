"""Images are decoded without TensorFlow to the pixels that it makes."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from zoo.errors import DataError, UsageError
from zoo.repro.datasets import image_files
from zoo.repro.datasets.image_files import decode_image


@pytest.fixture(autouse=True)
def _without_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "chosen_backend", lambda: "jax")
    monkeypatch.setattr(image_files, "import_tensorflow", lambda: pytest.fail("TensorFlow was asked for"))


def encoded(pixels: np.ndarray, form: str = "PNG", mode: str | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def test_png_of_every_kind() -> None:
    random = np.random.default_rng(1)
    deep = random.integers(0, 2**16, (9, 11, 4)).astype(np.uint16)
    plain = (deep >> 8).astype(np.uint8)
    kinds = [
        *(tf.io.encode_png(pixels[..., :n]).numpy() for pixels in (deep, plain) for n in (1, 2, 3, 4)),
        encoded(plain[..., :3], mode="P"),
        encoded(plain[..., :3], mode="P", transparency=2),
        encoded(plain[..., 0], mode="1"),
        encoded(plain[..., 0], transparency=5),
    ]
    for data in kinds:
        expected = tf.io.decode_image(data, channels=3).numpy()
        np.testing.assert_array_equal(decode_image(data, "picture"), expected)


def test_jpeg_of_every_kind() -> None:
    pytest.importorskip("simplejpeg")
    smooth = np.cumsum(np.random.default_rng(1).normal(0, 9, (90, 123, 3)), axis=1) + 100
    pixels = smooth.clip(0, 255).astype(np.uint8)
    for mode in ("RGB", "L"):
        for subsampling in (0, 1, 2):
            for quality in (20, 80, 98):
                for progressive in (False, True):
                    data = encoded(
                        *(pixels, "JPEG", mode),
                        quality=quality,
                        subsampling=subsampling,
                        progressive=progressive,
                    )
                    expected = tf.io.decode_image(data, channels=3).numpy()
                    np.testing.assert_array_equal(decode_image(data, "picture"), expected)


def test_damaged_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    png = encoded(np.zeros((9, 11, 3), np.uint8), mode="P")
    flipped = bytearray(encoded(np.arange(99, dtype=np.uint8).reshape(9, 11), mode="P"))
    flipped[flipped.index(b"IDAT") + 20] ^= 1
    for data in (png[:-12], png[:60], b"", b"GIF", bytes(flipped)):
        with pytest.raises(DataError, match=r"^picture: cannot be decoded as an image: .+") as caught:
            decode_image(data, "picture")
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(image_files, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"^photo.jpg: expected simplejpeg, .*`pip install simplejpeg`"):
        decode_image(encoded(np.zeros((9, 11, 3), np.uint8), "JPEG"), "photo.jpg")

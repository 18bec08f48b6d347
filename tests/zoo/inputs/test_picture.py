"""Pictures of all kinds become the RGB pixels that people see in them, or one clear line."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.inputs.picture import read_picture
from zoo.repro.datasets.image_files import decode_image

_BLOCKS = np.random.default_rng(0).integers(0, 256, (6, 10, 3)).astype(np.uint8)
COLOURS = np.kron(_BLOCKS, np.ones((8, 8, 1), np.uint8))
GREY = COLOURS[..., 0]
LOSSLESS = {"quality": 100, "subsampling": 0}


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., tuple[np.ndarray, list[str]]]:
    """Saves a picture by Pillow, reads it, and returns its pixels and the notes about it."""

    def save_and_read(name: str, pixels: np.ndarray | Image.Image, **options: object):
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        image.save(tmp_path / name, **options)
        notes: list[str] = []
        return read_picture(tmp_path / name, notes.append), notes

    return save_and_read


@pytest.mark.parametrize(("name", "pixels"), [("a.png", COLOURS), ("a.jpg", COLOURS), ("a.jpg", GREY)])
def test_plain_pictures_are_what_an_evaluation_sees(
    read, tmp_path: Path, name: str, pixels: np.ndarray
) -> None:
    found, notes = read(name, pixels)
    np.testing.assert_array_equal(found, decode_image((tmp_path / name).read_bytes(), name))
    assert found.flags["C_CONTIGUOUS"]
    assert notes == []


def test_every_kind_of_picture_shows_its_colours(read) -> None:
    rgb = Image.fromarray(COLOURS)
    grey = np.repeat(GREY[..., None], 3, axis=2)
    opaque = np.dstack([COLOURS, np.full_like(GREY, 255)])
    for name, pixels, options, expected, tolerance in (
        ("grey.png", GREY, {}, grey, 0),
        ("grey16.png", GREY.astype(np.uint16) * 256 + 255, {}, grey, 0),
        ("grey16.tiff", GREY.astype(np.uint16) * 256 + 255, {}, grey, 0),
        ("rgba.png", opaque, {}, COLOURS, 0),
        ("grey_alpha.png", Image.fromarray(GREY).convert("LA"), {}, grey, 0),
        ("palette.png", rgb.quantize(60), {}, np.asarray(rgb.quantize(60).convert("RGB")), 0),
        ("bilevel.png", Image.fromarray(GREY > 127), {}, np.where(grey > 127, 255, 0), 0),
        ("a.bmp", rgb, {}, COLOURS, 0),
        ("a.tiff", rgb, {"compression": "tiff_lzw"}, COLOURS, 0),
        ("a.webp", rgb, {"lossless": True}, COLOURS, 0),
        ("a.ppm", rgb, {}, COLOURS, 0),
        ("cmyk.jpg", rgb.convert("CMYK"), LOSSLESS, COLOURS, 4),
    ):
        found, notes = read(name, pixels, **options)
        assert found.dtype == np.uint8
        np.testing.assert_allclose(found.astype(int), expected, atol=tolerance, err_msg=name)
        assert notes == [], name


def test_transparent_pixels_are_shown_on_white(read) -> None:
    alpha = np.full_like(GREY, 255)
    alpha[:8], alpha[8:16] = 0, 51
    found, _ = read("rgba.png", np.dstack([COLOURS, alpha]))
    assert (found[:8] == 255).all()
    np.testing.assert_allclose(found[8:16].astype(float), 0.2 * COLOURS[8:16] + 0.8 * 255, atol=1)
    np.testing.assert_array_equal(found[16:], COLOURS[16:])
    # A PNG in colour may name one colour that is transparent.
    found, _ = read("key.png", COLOURS, transparency=tuple(COLOURS[0, 0].tolist()))
    assert (found[0, 0] == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tiff", "a.webp"])
def test_pictures_are_turned_as_their_exif_data_say(read, name: str, orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"a.jpg": LOSSLESS, "a.webp": {"lossless": True}}.get(name, {})
    found, _ = read(name, COLOURS, exif=exif, **options)
    stored = Image.fromarray(COLOURS)
    stored.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(stored)).astype(int)
    np.testing.assert_allclose(found.astype(int), upright, atol=40 if name == "a.jpg" else 0)


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.webp", "a.tiff"])
def test_the_first_of_several_frames_is_taken_and_said(read, tmp_path: Path, name: str) -> None:
    first, second = (
        Image.fromarray(pixels).quantize(60).convert("RGB") for pixels in (COLOURS, 255 - COLOURS)
    )
    options = {"lossless": True} if name == "a.webp" else {}
    found, notes = read(name, first, save_all=True, append_images=[second], **options)
    np.testing.assert_allclose(found.astype(int), np.asarray(first), atol=8)
    (note,) = notes
    assert "2 pages" in note if name == "a.tiff" else "is animated, 2 frames" in note
    with pytest.warns(UserWarning, match="only the first is used"):
        read_picture(tmp_path / name)


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_what_cannot_be_used_is_one_line(read, refuses: Callable[..., None], tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.gif", "a.bmp", "a.tiff"):
        read(name, COLOURS)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / f"cut_{name}").write_bytes(whole[: len(whole) * 2 // 3])
    read("deep.png", GREY.astype(np.uint16))
    deep = bytearray((tmp_path / "deep.png").read_bytes())
    deep[deep.index(b"IDAT") + 20] ^= 1
    (tmp_path / "flipped.png").write_bytes(deep)
    read("cmyk.jpg", Image.fromarray(COLOURS).convert("CMYK"))
    cmyk = (tmp_path / "cmyk.jpg").read_bytes()
    (tmp_path / "cut_cmyk.jpg").write_bytes(cmyk[: len(cmyk) // 2])
    Image.fromarray(GREY.astype(np.float32)).save(tmp_path / "float.tiff")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (tmp_path / "bomb.png").write_bytes(_png(100_000, 100_000))
    (tmp_path / "folder.png").mkdir()
    damaged = "picture of 80 x 48 pixels, found one that is cut short or damaged; copy or download it again"
    wrong = {
        "cut_a.png": f"expected a whole PNG {damaged}",
        "flipped.png": f"expected a whole PNG {damaged}",
        "cut_a.jpg": f"expected a whole JPEG {damaged}",
        "cut_a.gif": f"expected a whole GIF {damaged}",
        "cut_a.bmp": f"expected a whole BMP {damaged}",
        "cut_a.tiff": f"expected a whole TIFF {damaged}",
        "cut_cmyk.jpg": f"expected a whole JPEG {damaged}",
        "float.tiff": "expected 8 or 16 bits for each channel, found 32",
        "empty.png": "found an empty file; copy or download it again",
        "text.jpg": "expected a PNG, JPEG, GIF, BMP, TIFF or WebP picture, found something else; convert it",
        "phone.heic": "found a HEIC picture; `pip install pillow-heif`, or convert it",
        "bomb.png": "expected a picture of at most 178 million pixels, found",
        "folder.png": "cannot be read: Is a directory",
        "missing.png": "cannot be read: No such file or directory",
    }
    refuses(read_picture, wrong)


def test_one_pixel_and_very_large_pictures_are_read(read) -> None:
    found, _ = read("one.png", COLOURS[:1, :1])
    np.testing.assert_array_equal(found, COLOURS[:1, :1])
    # Beyond the size at which Pillow warns.
    found, notes = read("large.png", np.zeros((9500, 9500), np.uint8), compress_level=1)
    assert found.shape == (9500, 9500, 3)
    assert notes == []

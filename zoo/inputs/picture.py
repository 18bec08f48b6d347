"""Decodes any picture into RGB: plain ones as data sets are read, all others as viewers show them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from zoo.errors import DataError
from zoo.repro.datasets.image_files import check_png, decode_image, read_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS = 178_956_970
"""Larger pictures are refused, as Pillow refuses them: a small file may hold more than memory does."""

# Formats that Pillow decodes without running another program.
_FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "HEIF", "JPEG2000", "PPM")
_ANY_PICTURE = "a PNG, JPEG, GIF, BMP, TIFF or WebP picture"
_COPY_AGAIN = "copy or download it again"
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

_ORIENTATION = 0x0112
"""The EXIF tag that says how a picture was turned."""

_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)


def read_picture(path: str | Path, note: Callable[[str], None] = _warn) -> np.ndarray:
    """Returns a picture as uint8 [H, W, 3], RGB, turned as its EXIF data say.

    PNG and JPEG files of 8 bits, in colour or grey, become the pixels that an evaluation over a data set
    sees. Of 16 bits the upper 8 count; what is transparent is shown on white; of several frames or pages the
    first is taken.

    Args:
      path: a file in a format that Pillow decodes by itself, or HEIC where `pillow-heif` is installed.
      note: called with one line about what was left out, such as the frames after the first.

    Raises:
      DataError: it cannot be read, is damaged, is not a picture, or has more than `MOST_PIXELS`.
    """
    path = Path(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    with file, _open(file, path) as image:
        try:
            pixels = _upright_pixels(image, path)
            frames = getattr(image, "n_frames", 1)
        except MemoryError:
            raise
        except Exception as error:
            # Decoders raise all kinds of errors where a file is damaged.
            width, height = image.size
            raise DataError(
                f"{path}: expected a whole {image.format} picture of {width} x {height} pixels, "
                f"found one that is cut short or damaged; {_COPY_AGAIN}"
            ) from error
        # A camera's JPEG may hold a preview beside the picture itself.
        if frames > 1 and image.format != "MPO":
            what = f"has {frames} pages" if image.format == "TIFF" else f"is animated, {frames} frames"
            note(f"{path}: {what}; only the first is used")
    return pixels


def _open(file: BinaryIO, path: Path) -> Image:
    """Returns a picture whose header alone was read, or raises a DataError if it is not one that we take."""
    from PIL import Image, UnidentifiedImageError

    head = file.read(12)
    if not head:
        raise DataError(f"{path}: expected {_ANY_PICTURE}, found an empty file; {_COPY_AGAIN}")
    is_heic = head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS
    Image.init()
    if is_heic:
        with suppress(ImportError):
            from pillow_heif import register_heif_opener

            register_heif_opener()
    file.seek(0)
    width = height = 0
    try:
        with warnings.catch_warnings():
            # Pillow warns at half of the size that it refuses.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file, formats=[name for name in _FORMATS if name in Image.OPEN])
        width, height = image.size
    except UnidentifiedImageError:
        remedy = "`pip install pillow-heif`, or convert it" if is_heic else "convert it"
        found = "a HEIC picture" if is_heic else "something else"
        raise DataError(f"{path}: expected {_ANY_PICTURE}, found {found}; {remedy}") from None
    except Image.DecompressionBombError:
        pass
    except MemoryError:
        raise
    except Exception as error:
        raise DataError(
            f"{path}: expected {_ANY_PICTURE}, found one whose header is damaged; {_COPY_AGAIN}"
        ) from error
    if not 0 < width * height <= MOST_PIXELS:
        found = f"{width} x {height}" if width else "more"
        raise DataError(
            f"{path}: expected a picture of at most {MOST_PIXELS // 10**6} million pixels, found {found}; "
            "make it smaller"
        )
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise DataError(
            f"{path}: expected 8 or 16 bits for each channel, found 32, of a range that is not known; "
            "convert it to 8 bits"
        )
    return image


def _upright_pixels(image: Image, path: Path) -> np.ndarray:
    """Returns the RGB pixels of a picture that was opened, turned upright."""
    may_be_turned = True
    is_plain = image.mode in ("RGB", "L") and not _has_transparency(image)
    if image.format == "PNG" and not is_plain:
        check_png(read_bytes(path))
    if image.format in ("PNG", "JPEG", "MPO") and is_plain:
        data = read_bytes(path)
        pixels = decode_image(data, str(path))
        # Pillow would decode a PNG's pixels to look for EXIF data behind them.
        may_be_turned = image.format != "PNG" or b"eXIf" in data or "Raw profile type exif" in image.info
    elif image.mode.startswith("I"):
        # 16 bits of grey: Pillow would cut off what is above 255.
        pixels = np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    else:
        pixels = _converted(image)
    turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1)) if may_be_turned else None
    return np.ascontiguousarray(turn(pixels)) if turn else pixels


def _converted(image: Image) -> np.ndarray:
    """Returns a picture of any kind as Pillow converts it, on white where it is transparent."""
    from PIL import Image

    if not _has_transparency(image):
        return np.array(image.convert("RGB"))
    image.load()
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return np.array(white.convert("RGB"))


def _has_transparency(image: Image) -> bool:
    return "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La")

"""Reads the pixels of files of ids as they are stored, and says what kind of file each is."""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np

from zoo.errors import DataError
from zoo.repro.datasets.image_files import PNG_SIGNATURE, decode_plain_png, parse_png_header

HEAD_BYTES = 33
"""How many bytes of a file `kind_of` needs."""

GREY_8, GREY_16, RGB_8 = "grey of 8 bits", "grey of 16 bits", "RGB of 8 bits"
PALETTE, RGBA_8, RGB_16, JPEG, NPY = "a palette", "RGBA of 8 bits", "RGB of 16 bits", "JPEG", "NumPy"
OTHER = "another kind"

_PNG_KINDS = {
    (0, 8): GREY_8, (0, 16): GREY_16, (2, 8): RGB_8, (2, 16): RGB_16,
    (3, 8): PALETTE, (3, 4): PALETTE, (3, 2): PALETTE, (3, 1): PALETTE, (6, 8): RGBA_8,
    (0, 1): "grey of 1 bit", (0, 2): "grey of 2 bits", (0, 4): "grey of 4 bits",
    (4, 8): "grey of 8 bits with transparency",
}  # fmt: skip

# Some programs write more behind the end.
_END_BYTES = 4096
_NPY_SIGNATURE = b"\x93NUMPY"


class Pixels(NamedTuple):
    """A file's pixels: [H, W] integers, or [H, W, channels] uint8; of a palette, positions in it."""

    values: np.ndarray
    kind: str
    palette: np.ndarray | None = None  # [N, 3] uint8


def kind_of(head: bytes) -> str:
    """Returns what kind of file begins so."""
    if head.startswith(_NPY_SIGNATURE):
        return NPY
    if head.startswith(b"\xff\xd8\xff"):
        return JPEG
    if head.startswith(PNG_SIGNATURE) and len(head) >= HEAD_BYTES:
        return _PNG_KINDS.get((head[25], head[24]), OTHER)
    return OTHER


def size_of(data: bytes, name: str) -> tuple[int, int]:
    """Returns (height, width) as a file's header says; raises a DataError if it has none."""
    if data.startswith(_NPY_SIGNATURE):
        shape = _load_npy(data, name).shape
        if len(shape) != 2:
            raise DataError(f"{name}: expected an array [height, width], found one of shape {shape}")
        return shape[0], shape[1]
    if data.startswith(b"\xff\xd8\xff"):
        with _open_image(data, name) as image:
            return image.height, image.width
    return parse_png_header(data, name)[:2]


def read_pixels(data: bytes, name: str) -> Pixels:
    """Returns a file's pixels; look at `size_of` before, so that no file decides how much memory is taken.

    Raises:
      DataError: it is empty, cut short, damaged, or of no known kind.
    """
    kind = kind_of(data[:HEAD_BYTES])
    if kind == NPY:
        return Pixels(_load_npy(data, name), NPY)
    if kind != JPEG and b"IEND" not in data[-_END_BYTES:]:
        raise DataError(f"{name}: is cut short, its end is missing; write it again")
    plain = decode_plain_png(data)
    if plain is not None:
        return Pixels(plain, kind)
    with _open_image(data, name) as image:
        try:
            image.load()
        except (OSError, ValueError, SyntaxError):
            raise _broken(name) from None
        palette = None
        if image.mode == "P":
            palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        return Pixels(np.array(image), kind, palette)


def _open_image(data: bytes, name: str):  # type: ignore[no-untyped-def]
    from PIL import Image

    if not data:
        raise DataError(f"{name}: is empty; write it again")
    try:
        return Image.open(io.BytesIO(data))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise _broken(name) from None


def _load_npy(data: bytes, name: str) -> np.ndarray:
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError):
        raise _broken(name) from None
    if not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"{name}: expected integers, found {array.dtype}; save the ids as int32")
    return array


def _broken(name: str) -> DataError:
    return DataError(f"{name}: cannot be decoded, it is damaged or cut short; write it again")

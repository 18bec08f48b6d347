"""Reads image files: sizes and types by their headers, in microseconds, and their pixels."""

from __future__ import annotations

import io
import os
import stat
import struct
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zoo.errors import DataError, UsageError
from zoo.files.keras_backend import BACKENDS, chosen_backend
from zoo.files.tensorflow import import_tensorflow
from zoo.repro.datasets.png_filters import unfiltered

GREY, RGB = 0, 2
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Label maps are runs of equal bytes: the fastest level already makes them small, and no filter helps.
_COMPRESSION_LEVEL = 1
# Signature, and the whole first chunk.
_HEADER_BYTES = 33
# Bits of a channel, and colour type -> bytes of a pixel.
_PLAIN_BYTES = {(8, GREY): 1, (16, GREY): 2, (8, RGB): 3}
# The only method of compression, the only set of filters, and rows in their order.
_NO_INTERLACE = bytes(3)
# Pillow warns of larger images.
_MOST_PLAIN_PX = 80_000_000
_END = b"IEND\xaeB`\x82"
_JPEG_START = b"\xff\xd8"
# Some programs write more behind the end; decoders do not mind.
_SEARCHED_BYTES = 4096


class PngHeader(NamedTuple):
    """Size in pixels, bits of a channel, and the PNG standard's colour type."""

    height: int
    width: int
    bits: int
    colour_type: int


def parse_png_header(data: bytes, name: str) -> PngHeader:
    """Returns the header that a PNG begins with; raises a DataError if it is damaged or not a PNG's."""
    if data[:8] != PNG_SIGNATURE or len(data) < _HEADER_BYTES:
        what = "is empty" if not data else "is not a PNG file"
        raise DataError(f"{name}: {what}; download or make it again")
    width, height, bits, colour_type = struct.unpack(">IIBB", data[16:26])
    if data[12:16] != b"IHDR" or zlib.crc32(data[12:29]) != struct.unpack(">I", data[29:33])[0]:
        raise DataError(f"{name}: is a broken PNG: its header is damaged; download or make it again")
    return PngHeader(height, width, bits, colour_type)


def read_png_header(path: Path) -> PngHeader:
    """Returns a PNG file's header; raises a DataError if it is unreadable, not a PNG, or cut short."""
    try:
        with path.open("rb") as file:
            header = parse_png_header(file.read(_HEADER_BYTES), str(path))
            file.seek(max(0, os.fstat(file.fileno()).st_size - _SEARCHED_BYTES))
            is_whole = _END in file.read()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not is_whole:
        raise DataError(f"{path}: is a broken PNG: its end is missing; download or make it again")
    return header


def require_ids(header: PngHeader, name: str, bits: tuple[int, ...] = (8, 16)) -> None:
    """Raises a DataError where a PNG is not a single channel of ids with so many bits."""
    if header.colour_type != GREY or header.bits not in bits:
        raise DataError(
            f"{name}: expected ids in one channel of {' or '.join(map(str, bits))} bits, "
            f"found {header.bits} bits and PNG colour type {header.colour_type}"
        )


def image_size(source: Path | bytes, name: str) -> tuple[int, int]:
    """Returns (height, width) by the header of an image of any format; raises a DataError if it has none."""
    from PIL import Image

    try:
        with (
            io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file,
            Image.open(file) as image,
        ):
            width, height = image.size
    except (OSError, ValueError, SyntaxError) as error:
        reason = getattr(error, "strerror", None) or "its header is not an image's"
        raise DataError(f"{name}: is not an image that can be decoded: {reason}") from None
    return height, width


def require_size(found: tuple[int, int], expected: tuple[int, int], name: str, as_in: str) -> None:
    """Raises a DataError where two sizes (height, width) differ."""
    if found != expected:
        raise DataError(
            f"{name}: expected {expected[0]} x {expected[1]} pixels, as in {as_in}, "
            f"found {found[0]} x {found[1]}"
        )


def read_bytes(path: Path) -> bytes:
    """Returns a file's contents; an error says which file."""
    try:
        with path.open("rb") as file:
            # A device such as /dev/zero has no end.
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError("it is not a regular file")
            return file.read()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def decode_plain_png(data: bytes) -> np.ndarray | None:
    """Returns the pixels of a PNG of 8-bit RGB or of 8 or 16-bit grey; None for any other or a damaged one.

    The pixels are [H, W, 3] uint8, or [H, W] uint8 or uint16. A label map takes half the time that Pillow
    takes, which is several times as fast as TensorFlow, and the interpreter lock is free meanwhile.
    """
    try:
        header = parse_png_header(data, "")
        pixel_bytes = _PLAIN_BYTES.get((header.bits, header.colour_type), 0)
        is_plain = pixel_bytes and data[26:29] == _NO_INTERLACE and _END in data[-_SEARCHED_BYTES:]
        if not is_plain or not 0 < header.height * header.width <= _MOST_PLAIN_PX:
            return None
        row_bytes = header.width * pixel_bytes
        length = header.height * (1 + row_bytes)
        inflate = zlib.decompressobj()
        stored = inflate.decompress(_plain_idat(data), length + 1)
    except (DataError, ValueError, zlib.error, struct.error):
        return None
    if len(stored) != length or not inflate.eof:
        return None
    rows = unfiltered(np.frombuffer(stored, np.uint8), header.height, row_bytes, pixel_bytes)
    if not len(rows):
        return None
    if pixel_bytes == 3:
        return rows.reshape(header.height, header.width, 3)
    return rows if pixel_bytes == 1 else rows.view(">u2").astype(np.uint16)


def _plain_idat(data: bytes) -> bytes:
    """Returns the compressed pixels of a PNG; raises a ValueError where a chunk changes what they mean."""
    position, parts = _HEADER_BYTES, []
    while (kind := data[position + 4 : position + 8]) != b"IEND":
        (length,) = struct.unpack(">I", data[position : position + 4])
        if kind == b"IDAT":
            parts.append(data[position + 8 : position + 8 + length])
        # Those whose names begin with a small letter need not be known; transparency counts, though.
        elif kind == b"tRNS" or not kind[:1].islower():
            raise ValueError(kind)
        position += 12 + length
    return b"".join(parts)


def decode_image(data: bytes, name: str) -> np.ndarray:
    """Returns an encoded PNG or JPEG as [H, W, 3] uint8: TensorFlow's pixels, as the reference has.

    Of a plain PNG every decoder makes the same pixels, so the fastest is taken. Where Keras does not compute
    with TensorFlow, TensorFlow is asked only where simplejpeg is missing.

    Raises:
      DataError: it cannot be decoded.
      UsageError: what decodes it is not installed.
    """
    plain = decode_plain_png(data)
    if plain is not None and plain.ndim == 3:
        return plain
    if chosen_backend() != BACKENDS[0]:
        is_jpeg = data[:2] == _JPEG_START
        if not is_jpeg or find_spec("simplejpeg") is not None:
            return _decode_without_tensorflow(data, name, is_jpeg=is_jpeg)
        if find_spec("tensorflow") is None:
            raise UsageError(
                f"{name}: expected simplejpeg, which decodes a JPEG as TensorFlow does; "
                "`pip install simplejpeg` brings it"
            )
    tf = import_tensorflow()
    try:
        with tf.device("/CPU:0"):
            return tf.io.decode_image(data, channels=3, expand_animations=False).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise DataError(f"{name}: cannot be decoded as an image: {_reason(error)}") from None


def _decode_without_tensorflow(data: bytes, name: str, *, is_jpeg: bool) -> np.ndarray:
    """Returns the pixels of `decode_image`: the same, unless a damaged JPEG is refused here alone."""
    from PIL import Image

    try:
        if is_jpeg:
            return _decode_jpeg(data)
        if data[:8] == PNG_SIGNATURE and _END not in data[-_SEARCHED_BYTES:]:
            raise ValueError("its end is missing")
        if data[:8] == PNG_SIGNATURE:
            check_png(data)
        with Image.open(io.BytesIO(data)) as image:
            if image.mode.startswith("I"):
                # Pillow would cut off what is above 255.
                return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{name}: cannot be decoded as an image: {reason}") from None


def check_png(data: bytes) -> None:
    """Raises a ValueError where a part of a PNG differs from its checksum; Pillow decodes it all the same."""
    position, kind = len(PNG_SIGNATURE), b""
    while kind != b"IEND":
        (length,) = struct.unpack(">I", data[position : position + 4].rjust(4, b"\xff"))
        content = memoryview(data)[position + 4 : position + 8 + length]
        position += 12 + length
        if data[position - 4 : position] != struct.pack(">I", zlib.crc32(content)):
            raise ValueError("a checksum is wrong")
        kind = bytes(content[:4])


def _decode_jpeg(data: bytes) -> np.ndarray:
    """Decodes as TensorFlow: by libjpeg-turbo with its fast transform, and without fast up-sampling."""
    from simplejpeg import decode_jpeg

    settings = {"colorspace": "RGB", "fastdct": True, "fastupsample": False}
    try:
        pixels: np.ndarray = decode_jpeg(data, **settings)
    except ValueError as error:
        # TensorFlow decodes what is damaged on the way, but not what is cut short.
        if not str(error).startswith("Corrupt JPEG data"):
            raise
        pixels = decode_jpeg(data, **settings, strict=False)
    return pixels


def decode_for_display(data: bytes, name: str) -> np.ndarray:
    """Returns an encoded picture as [H, W, 3] uint8, decoded by Pillow, without TensorFlow where it can.

    Of a JPEG the pixels are about those that `decode_image` returns.

    Raises:
      DataError: it cannot be decoded.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return decode_image(data, name)


def decode_id_png(data: bytes, name: str) -> np.ndarray:
    """Returns a PNG of ids as [H, W] uint8 or uint16, whichever the file holds.

    Raises:
      DataError: the PNG is broken, or is not a single channel of 8 or 16 bits.
    """
    # Asked for 16 bits, TensorFlow would stretch an 8-bit PNG to the full range: read the depth first.
    header = parse_png_header(data, name)
    require_ids(header, name)
    plain = decode_plain_png(data)
    if plain is not None:
        return plain
    if find_spec("tensorflow") is None:
        raise DataError(f"{name}: is a broken PNG; download or make it again")
    tf = import_tensorflow()
    try:
        with tf.device("/CPU:0"):
            ids = tf.io.decode_png(data, channels=1, dtype=tf.uint8 if header.bits == 8 else tf.uint16)
    except tf.errors.InvalidArgumentError as error:
        raise DataError(f"{name}: is a broken PNG: {_reason(error)}; download or make it again") from None
    return ids.numpy()[:, :, 0]


def encode_png(rows: np.ndarray, width: int, *, bits: int, colour_type: int) -> bytes:
    """Returns a PNG file of rows ([H, ...] uint8) that begin with their filter byte."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, rows.shape[0], bits, colour_type, 0, 0, 0)
    # A run of equal bytes is all that there is to find, but where three bytes make a pixel.
    strategy = zlib.Z_RLE if colour_type == GREY else zlib.Z_DEFAULT_STRATEGY
    stream = zlib.compressobj(_COMPRESSION_LEVEL, strategy=strategy)
    pixels = stream.compress(rows.data) + stream.flush()
    return PNG_SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _reason(error: Exception) -> str:
    message = str(getattr(error, "message", error)).splitlines()[0]
    return message.split("}}")[-1].split("[Op:")[0].strip()

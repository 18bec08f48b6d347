"""Decodes the plain PNG files of label maps, several times as fast as image libraries do."""

from __future__ import annotations

import zlib

import numpy as np

from zoo.files.machine_code import compiled

GREY, RGB = 0, 2

_CHANNELS = {GREY: 1, RGB: 3}
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def decode_plain_png(data: bytes) -> np.ndarray | None:
    """Returns the pixels of a PNG of 8-bit RGB or of 8 or 16-bit grey; None for any other or a damaged one.

    The pixels are [H, W, 3] uint8, or [H, W] uint8 or uint16. The interpreter lock is free meanwhile.
    """
    found = _header_and_rows(data)
    if found is None:
        return None
    (width, height, bits, colour_type), packed = found
    pixel_bytes = _CHANNELS[colour_type] * bits // 8
    size = height * (1 + width * pixel_bytes)
    # Neither more nor less than the pixels: the end of the data is at the end of the stream, not before it.
    unpacker = zlib.decompressobj()
    try:
        rows = unpacker.decompress(packed, size + 1)
    except zlib.error:
        return None
    if len(rows) != size or not unpacker.eof:
        return None
    filtered = np.frombuffer(rows, np.uint8).reshape(height, -1)
    if filtered[:, 0].max() > 4:
        return None
    # Label maps are mostly written without filters.
    unfiltered = not filtered[:, 0].any()
    pixels = np.ascontiguousarray(filtered[:, 1:]) if unfiltered else _without_filters(filtered, pixel_bytes)
    if bits == 16:
        return pixels.view(">u2").astype(np.uint16)
    return pixels.reshape(height, width, 3) if colour_type == RGB else pixels


def _header_and_rows(data: bytes) -> tuple[tuple[int, int, int, int], bytes] | None:
    """Returns width, height, bits and colour type, and the compressed rows; None where they are not plain."""
    header: tuple[int, int, int, int] | None = None
    parts: list[bytes] = []
    at = len(_SIGNATURE)
    while data.startswith(_SIGNATURE) and at + 12 <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 8 + length
        content = data[at + 8 : end]
        # Other chunks may change what the pixels mean (transparency), or be of no importance.
        if kind not in (b"IHDR", b"IDAT", b"IEND") and (kind == b"tRNS" or kind[:1].isupper()):
            return None
        if zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return None
        if kind == b"IHDR" and length == 13:
            bits, colour_type = content[8:10]
            is_plain = (bits, colour_type) in ((8, GREY), (16, GREY), (8, RGB)) and content[10:] == b"\0\0\0"
            width, height = (int.from_bytes(content[i : i + 4], "big") for i in (0, 4))
            if not is_plain or not width or not height:
                return None
            header = width, height, bits, colour_type
        elif kind == b"IDAT":
            parts.append(content)
        elif kind == b"IEND":
            return None if header is None else (header, b"".join(parts))
        at = end + 4
    return None


@compiled
def _without_filters(rows, step):  # type: ignore[no-untyped-def]
    """Undoes the filters of PNG rows, [H, 1 + W * step] uint8 with `step` bytes a pixel.

    Source: W3C, "Portable Network Graphics (PNG) Specification", section 9.
    """
    height, width = rows.shape[0], rows.shape[1] - 1
    pixels = np.empty((height, width), np.uint8)
    above = np.zeros(width, np.uint8)
    for y in range(height):
        kind, row, out = rows[y, 0], rows[y, 1:], pixels[y]
        if kind == 0:
            out[:] = row
        elif kind == 2:
            for x in range(width):
                out[x] = row[x] + above[x]
        else:
            for x in range(width):
                left = np.int32(out[x - step]) if x >= step else np.int32(0)
                up = np.int32(above[x])
                if kind == 1:
                    guess = left
                elif kind == 3:
                    guess = (left + up) // 2
                else:
                    corner = np.int32(above[x - step]) if x >= step else np.int32(0)
                    base = left + up - corner
                    to_left, to_up, to_corner = abs(base - left), abs(base - up), abs(base - corner)
                    if to_left <= to_up and to_left <= to_corner:
                        guess = left
                    else:
                        guess = up if to_up <= to_corner else corner
                out[x] = (np.int32(row[x]) + guess) & 255
        above = out
    return pixels

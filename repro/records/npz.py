"""Writes named arrays as NumPy's .npz, in a fraction of the time that `np.savez_compressed` takes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

_STORED, _DEFLATED = 0, 8
# Smaller members are stored as they are: they would hardly shrink.
_LEAST_DEFLATED_BYTES = 4096
# The zip format's fields of a member: version, flags, method, time, date, checksum, two sizes, two lengths.
_FIELDS = "HHHHHIIIHH"
_VERSION, _DATE_1980, _MODE = 20, 0x21, 0o600 << 16


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Returns an archive that `np.load` reads; equal arrays give equal bytes.

    The archive is at most 4 GiB: it has the zip format's plain fields.
    """
    members: list[bytes] = []
    directory: list[bytes] = []
    offset = 0
    for name, array in arrays.items():
        content = _header(array.dtype.str, array.shape) + np.ascontiguousarray(array).tobytes()
        packed, method = content, _STORED
        if len(content) >= _LEAST_DEFLATED_BYTES:
            deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
            packed, method = deflate.compress(content) + deflate.flush(), _DEFLATED
        encoded = f"{name}.npy".encode()
        sizes = (zlib.crc32(content), len(packed), len(content), len(encoded), 0)
        fields = (_VERSION, 0, method, 0, _DATE_1980, *sizes)
        member = struct.pack(f"<4s{_FIELDS}", b"PK\3\4", *fields) + encoded + packed
        entry = struct.pack(f"<4sH{_FIELDS}HHHII", b"PK\1\2", _VERSION, *fields, 0, 0, 0, _MODE, offset)
        members.append(member)
        directory.append(entry + encoded)
        offset += len(member)
    listed = b"".join(directory)
    count = len(members)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, len(listed), offset, 0)
    return b"".join([*members, listed, end])


@lru_cache(maxsize=4096)
def _header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Returns the header of an array in NumPy's format."""
    buffer = io.BytesIO()
    described = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, described)
    return buffer.getvalue()

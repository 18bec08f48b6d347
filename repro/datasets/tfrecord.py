"""DeepLab2's TFRecords: images with raw int32 panoptic labels, read at random without an index file."""

from __future__ import annotations

import hashlib
import mmap
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import google_crc32c
import numpy as np

from zoo.errors import DataError
from zoo.repro.datasets.dataset import Dataset, Sample
from zoo.repro.datasets.image_files import decode_image, image_size

if TYPE_CHECKING:
    from zoo.registry.dataset_info import DatasetInfo

# Keys of the examples, as in DeepLab2's `common.py`.
_KEY_IMAGE = "image/encoded"
_KEY_FILENAME = "image/filename"
_KEY_HEIGHT = "image/height"
_KEY_WIDTH = "image/width"
_KEY_LABEL = "image/segmentation/class/encoded"
_KEY_LABEL_FORMAT = "image/segmentation/class/format"

# A record: uint64 length, masked crc32c of the length, the data, masked crc32c of the data.
_HEADER_BYTES = 12
_FOOTER_BYTES = 4


@dataclass(frozen=True)
class _Record:
    path: Path
    offset: int
    length: int
    data_crc: int


class TFRecordDataset(Dataset):
    """Images of DeepLab2's TFRecords (`build_cityscapes_data.py` and its siblings), sorted by name.

    Official scores are impossible from these files: they hold no original annotations.
    """

    def __init__(
        self, paths: Sequence[Path], info: DatasetInfo, *, expected_images: int | None = None
    ) -> None:
        """Finds the records and their names; the images themselves are not read.

        Args:
          paths: the files, in any order.
          info: the classes and their encoding.
          expected_images: how many images a complete split has, or None for any number.

        Raises:
          DataError: a file is cut short or holds something else.
        """
        self.info = info
        self._paths = tuple(sorted(paths))
        self.expected_images = expected_images
        self._records: dict[str, _Record] = {}
        self._maps: dict[Path, mmap.mmap] = {}
        self._lock = threading.Lock()
        self.skipped: dict[str, str] = {}
        for path in self._paths:
            for record in _records(path, self._map(path)):
                image_id = self._image_id(record)
                if image_id in self._records:
                    raise DataError(f"{path}: image {image_id} is there twice")
                self._records[image_id] = record
        self.image_ids = tuple(sorted(self._records))
        self.contents = f"{len(self._paths)} TFRecord files hold"

    @property
    def official_obstacle(self) -> str | None:
        """Why the official scripts cannot score this data set."""
        return "TFRecords hold no original annotations; give the original folders to get official scores"

    def load(self, index: int) -> Sample:
        """Returns image `index` with its ground truth.

        Raises:
          DataError: the record is damaged, or has no panoptic label.
        """
        image_id = self.image_ids[index]
        record = self._records[image_id]
        name = f"{record.path}, image {image_id}"
        data = bytes(self._data(record))
        if _masked_crc(data) != record.data_crc:
            raise DataError(f"{name}: the record's checksum is wrong; copy or make {record.path.name} again")
        _, features, size = self._example(index)
        image = decode_image(bytes(_bytes(features, _KEY_IMAGE, name)), name)
        label_format = bytes(_bytes(features, _KEY_LABEL_FORMAT, name, b"raw"))
        if label_format != b"raw":
            raise DataError(
                f"{name}: has {label_format.decode(errors='replace')} labels, expected raw panoptic ones "
                "(made with --create_panoptic_data)"
            )
        encoded = _bytes(features, _KEY_LABEL, name)
        _require_sizes((image.shape[0], image.shape[1]), encoded, size, name)
        label = np.frombuffer(encoded, "<i4").reshape(size).astype(np.int32)
        panoptic, semantic = split_label(label, self.info)
        return Sample(image_id, image, panoptic, semantic, crowd_labels=np.zeros(0, np.int32))

    def check_headers(self, index: int) -> None:
        """Looks at the image's header and the label's length.

        Raises:
          DataError: they disagree with the size that the record gives.
        """
        name, features, size = self._example(index)
        found = image_size(bytes(_bytes(features, _KEY_IMAGE, name)), name)
        _require_sizes(found, _bytes(features, _KEY_LABEL, name), size, name)

    def _example(self, index: int) -> tuple[str, dict[str, memoryview], tuple[int, int]]:
        """Returns a record's name for messages, its features, and the size that it gives."""
        image_id = self.image_ids[index]
        record = self._records[image_id]
        name = f"{record.path}, image {image_id}"
        features = dict(_features(self._data(record), name))
        size = (_integer(features, _KEY_HEIGHT, name), _integer(features, _KEY_WIDTH, name))
        return name, features, size

    def fingerprint(self) -> str:
        """Returns a SHA-256 over each image's name, size and stored checksum.

        Contents count through the checksums in the files, which `load` verifies.
        """
        digest = hashlib.sha256(f"{self.info.name} tfrecord\n".encode())
        for image_id in self.image_ids:
            record = self._records[image_id]
            digest.update(f"{image_id}\0{record.length}\0{record.data_crc:08x}\n".encode())
        return digest.hexdigest()

    def _map(self, path: Path) -> mmap.mmap:
        with self._lock:
            if path not in self._maps:
                try:
                    with path.open("rb") as file:
                        self._maps[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                except (OSError, ValueError) as error:
                    raise DataError(f"{path}: cannot be read as a TFRecord file: {error}") from None
            return self._maps[path]

    def _data(self, record: _Record) -> memoryview:
        return memoryview(self._map(record.path))[record.offset : record.offset + record.length]

    def _image_id(self, record: _Record) -> str:
        name = f"{record.path}, record at byte {record.offset}"
        features = dict(_features(self._data(record), name))
        filename = bytes(_bytes(features, _KEY_FILENAME, name)).decode("utf-8", errors="replace")
        return filename.removesuffix(".png").removesuffix(".jpg")


def find_records(path: Path, split: str) -> list[Path]:
    """Returns the TFRecord files at `path`: the file itself, or the folder's of one split; else none."""
    if path.is_file():
        return [path]
    for pattern in (f"{split}-*.tfrecord", f"{split}*.tfrecord"):
        found = sorted(path.glob(pattern))
        if found:
            return found
    return []


def split_label(label: np.ndarray, info: DatasetInfo) -> tuple[np.ndarray, np.ndarray]:
    """Returns the panoptic map that is scored, and the semantic map, of a stored label.

    As in DeepLab2's `dataset_utils.py`: things without instance number are crowds, which are void in the
    panoptic map and keep their class in the semantic map.

    Args:
      label: [H, W] int32, class * label_divisor + instance.
      info: the classes and their encoding.

    Returns:
      panoptic: [H, W] int32.
      semantic: [H, W] int32.
    """
    semantic = label // info.label_divisor
    is_crowd = np.isin(semantic, info.thing_class_ids) & (label == semantic * info.label_divisor)
    return np.where(is_crowd, np.int32(info.void_label), label), semantic


def _records(path: Path, data: mmap.mmap) -> Iterator[_Record]:
    offset, end = 0, len(data)
    while offset < end:
        header = data[offset : offset + _HEADER_BYTES]
        length, length_crc = struct.unpack("<QI", header) if len(header) == _HEADER_BYTES else (0, -1)
        if _masked_crc(header[:8]) != length_crc:
            raise DataError(f"{path}: is not a TFRecord file, or is damaged at byte {offset}")
        start = offset + _HEADER_BYTES
        offset = start + length + _FOOTER_BYTES
        if offset > end:
            raise DataError(f"{path}: is cut short: expected {offset} bytes or more, found {end}")
        (data_crc,) = struct.unpack("<I", data[offset - _FOOTER_BYTES : offset])
        yield _Record(path, start, length, data_crc)


def _masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


# Examples are walked by hand because protobuf would copy some ten megabytes to read one name.
def _features(data: memoryview, name: str) -> Iterator[tuple[str, memoryview]]:
    """Yields key and serialized value list of each feature of a serialized `tf.train.Example`."""
    try:
        for features in _fields(data, 1):
            for entry in _fields(features, 1):
                (key,) = _fields(entry, 1)
                for feature in _fields(entry, 2):
                    # bytes_list = 1, int64_list = 3; either wraps a repeated field 1.
                    for kind in (1, 3):
                        for values in _fields(feature, kind):
                            yield bytes(key).decode("utf-8"), values
    except (IndexError, ValueError):
        raise DataError(f"{name}: holds no tf.train.Example") from None


def _fields(data: memoryview, wanted: int) -> Iterator[memoryview]:
    """Yields the length-delimited fields of number `wanted` of a protobuf message."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        if tag & 7 == 0:
            _, position = _varint(data, position)
        elif tag & 7 == 2:
            length, position = _varint(data, position)
            if position + length > len(data):
                raise ValueError("field is longer than its message")
            if tag >> 3 == wanted:
                yield data[position : position + length]
            position += length
        else:
            raise ValueError("field of an unexpected type")


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _bytes(features: dict[str, memoryview], key: str, name: str, default: bytes | None = None) -> memoryview:
    values = list(_fields(features[key], 1)) if key in features else []
    if values:
        return values[0]
    if default is not None:
        return memoryview(default)
    hint = "; the split has no ground truth" if key == _KEY_LABEL else ""
    raise DataError(f"{name}: has no {key}{hint}")


def _require_sizes(image: tuple[int, int], label: memoryview, size: tuple[int, int], name: str) -> None:
    if image != size or len(label) != 4 * size[0] * size[1]:
        raise DataError(
            f"{name}: expected image and label of {size[0]} x {size[1]}, found an image of "
            f"{image[0]} x {image[1]} and a label of {len(label)} bytes"
        )


def _integer(features: dict[str, memoryview], key: str, name: str) -> int:
    if key not in features:
        raise DataError(f"{name}: has no {key}")
    # Packed or not, the number is what follows the tag (and the length).
    values = features[key]
    tag, position = _varint(values, 0)
    if tag & 7 == 2:
        _, position = _varint(values, position)
    return _varint(values, position)[0]

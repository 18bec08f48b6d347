"""DeepLab2's TFRecords: images with raw int32 panoptic labels, read at random without an index file."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from zoo.errors import DataError
from zoo.files.tensorflow import import_tensorflow
from zoo.remote.stores import NoListingError
from zoo.repro.datasets.dataset import NO_PICTURE, Dataset, Sample
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

    def read(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                return file.read(self.length)
        except OSError as error:
            raise _unreadable(self.path, error) from None


class TFRecordDataset(Dataset):
    """Images of DeepLab2's TFRecords (`build_cityscapes_data.py` and its siblings), sorted by name.

    Official scores are impossible from these files: they hold no original annotations.
    """

    def __init__(
        self, paths: Sequence[Path], info: DatasetInfo, *, expected_images: int | None = None
    ) -> None:
        """Reads all records once, for their names; no image is decoded.

        Raises:
          DataError: a file is cut short or holds something else.
        """
        self.info = info
        self._paths = tuple(sorted(paths))
        self.expected_images = expected_images
        self._records: dict[str, _Record] = {}
        self.skipped: dict[str, str] = {}
        for path in self._paths:
            for record, data in _records(path):
                example = _Example(data, f"{path}, record at byte {record.offset}")
                filename = example.value(_KEY_FILENAME).decode("utf-8", errors="replace")
                image_id = filename.removesuffix(".png").removesuffix(".jpg")
                if image_id in self._records:
                    raise DataError(f"{path}: image {image_id} is there twice")
                self._records[image_id] = record
        self.image_ids = tuple(sorted(self._records))
        self.contents = f"{len(self._paths)} TFRecord files hold"

    @property
    def official_obstacle(self) -> str | None:
        """Why the official scripts cannot score this data set."""
        return "TFRecords hold no original annotations; give the original folders to get official scores"

    def load(self, index: int, *, picture: bool = True) -> Sample:
        """Returns image `index` with its ground truth; see `Dataset.load`.

        Raises:
          DataError: the record is damaged, or has no panoptic label.
        """
        record, example = self._example(index)
        if _masked_crc(example.data) != record.data_crc:
            raise DataError(
                f"{example.name}: the record's checksum is wrong; copy or make {record.path.name} again"
            )
        encoded = example.value(_KEY_IMAGE)
        image = decode_image(encoded, example.name) if picture else NO_PICTURE
        size = image.shape[:2] if picture else image_size(encoded, example.name)
        label_format = example.value(_KEY_LABEL_FORMAT, b"raw")
        if label_format != b"raw":
            raise DataError(
                f"{example.name}: has {label_format.decode(errors='replace')} labels, expected raw panoptic "
                "ones (made with --create_panoptic_data)"
            )
        label = example.label((size[0], size[1])).astype(np.int32)
        panoptic, semantic = split_label(label, self.info)
        return Sample(self.image_ids[index], image, panoptic, semantic)

    def check_headers(self, index: int) -> None:
        """Compares the image's header and the label's length with the size that the record gives."""
        _, example = self._example(index)
        example.label(image_size(example.value(_KEY_IMAGE), example.name))

    def _example(self, index: int) -> tuple[_Record, _Example]:
        record = self._records[self.image_ids[index]]
        return record, _Example(record.read(), f"{record.path}, image {self.image_ids[index]}")

    def fingerprint(self) -> str:
        """Returns a SHA-256 over each image's name, size and stored checksum.

        Contents count through the checksums in the files, which `load` verifies.
        """
        digest = hashlib.sha256(f"{self.info.name} tfrecord\n".encode())
        for image_id in self.image_ids:
            record = self._records[image_id]
            digest.update(f"{image_id}\0{record.length}\0{record.data_crc:08x}\n".encode())
        return digest.hexdigest()


def find_records(path: Path, split: str) -> list[Path]:
    """Returns the TFRecord files at `path`: the file itself, or the folder's of one split; else none."""
    if path.is_file():
        return [path]
    try:
        return sorted(path.glob(f"{split}-*.tfrecord")) or sorted(path.glob(f"{split}*.tfrecord"))
    except NoListingError:
        return []


def split_label(label: np.ndarray, info: DatasetInfo) -> tuple[np.ndarray, np.ndarray]:
    """Returns the panoptic map that is scored, and the semantic map, of a stored label.

    As in DeepLab2's `dataset_utils.py`: things without instance number are crowds, which are void in the
    panoptic map and keep their class in the semantic map.

    Args:
      label: [H, W] int32, class * label_divisor + instance.
      info: the classes and their encoding.

    Returns:
      the two maps, [H, W] int32.
    """
    semantic = label // info.label_divisor
    is_crowd = np.isin(semantic, info.thing_class_ids) & (label == semantic * info.label_divisor)
    return np.where(is_crowd, np.int32(info.void_label), label), semantic


class _Example:
    """A serialized `tf.train.Example`; messages call it `name`."""

    def __init__(self, data: bytes, name: str) -> None:
        from google.protobuf.message import DecodeError

        self.data = data
        self.name = name
        try:
            self._features = import_tensorflow().train.Example.FromString(data).features.feature
        except DecodeError:
            raise DataError(f"{name}: is not a tf.train.Example") from None

    def value(self, key: str, default: bytes | None = None) -> bytes:
        """Returns the bytes at a key."""
        return self._first(key, self._features[key].bytes_list.value, default)

    def label(self, image_size: tuple[int, int]) -> np.ndarray:
        """Returns the panoptic label, [H, W] little-endian int32, of an image of (height, width)."""
        height, width = (
            self._first(key, self._features[key].int64_list.value) for key in (_KEY_HEIGHT, _KEY_WIDTH)
        )
        encoded = self.value(_KEY_LABEL)
        if image_size != (height, width) or len(encoded) != 4 * height * width:
            raise DataError(
                f"{self.name}: expected image and label of {height} x {width}, found an image of "
                f"{image_size[0]} x {image_size[1]} and a label of {len(encoded)} bytes"
            )
        return np.frombuffer(encoded, "<i4").reshape(height, width)

    def _first(self, key: str, values: Sequence[Any], default: Any = None) -> Any:
        if not values and default is None:
            hint = "; the split has no ground truth" if key == _KEY_LABEL else ""
            raise DataError(f"{self.name}: has no {key}{hint}")
        return values[0] if values else default


def _records(path: Path) -> Iterator[tuple[_Record, bytes]]:
    """Yields the records of a file, each with its data, whose checksum is not compared."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            offset = file.seek(0)
            if end == 0:
                raise _unreadable(path, "it is empty")
            while offset < end:
                header = file.read(_HEADER_BYTES)
                length, length_crc = struct.unpack("<QI", header) if len(header) == _HEADER_BYTES else (0, -1)
                if _masked_crc(header[:8]) != length_crc:
                    raise DataError(f"{path}: is not a TFRecord file, or is damaged at byte {offset}")
                start = offset + _HEADER_BYTES
                offset = start + length + _FOOTER_BYTES
                if offset > end:
                    raise DataError(f"{path}: is cut short: expected {offset} bytes or more, found {end}")
                data = file.read(length)
                (data_crc,) = struct.unpack("<I", file.read(_FOOTER_BYTES))
                yield _Record(path, start, length, data_crc), data
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, reason: object) -> DataError:
    return DataError(f"{path}: cannot be read as a TFRecord file: {reason}")


def _masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF

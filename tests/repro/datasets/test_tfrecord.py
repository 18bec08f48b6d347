from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from zoo.errors import DataError
from zoo.repro.cityscapes.classes import CITYSCAPES
from zoo.repro.cityscapes.dataset import CityscapesDataset
from zoo.repro.coco.dataset import CocoDataset
from zoo.repro.datasets.dataset import images_in_dataset
from zoo.repro.datasets.opening import open_files
from zoo.repro.datasets.tfrecord import TFRecordDataset, split_label
from zoo.repro.official.scripts import start_official

open_coco = partial(open_files, CocoDataset, split="val2017")

open_cityscapes = partial(open_files, CityscapesDataset, split="val")


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def example(name: str, image: np.ndarray, label: np.ndarray | None, **changed: bytes) -> bytes:
    """An example with the keys that DeepLab2's `data_utils.py` writes."""
    texts = {
        "image/encoded": png(image),
        "image/filename": name.encode(),
        "image/format": b"png",
    }
    if label is not None:
        texts["image/segmentation/class/encoded"] = label.astype("<i4").tobytes()
        texts["image/segmentation/class/format"] = b"raw"
    texts |= {key.replace("__", "/"): value for key, value in changed.items()}
    numbers = {"image/height": image.shape[0], "image/width": image.shape[1], "image/channels": 3}
    feature = {
        key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])) for key, value in texts.items()
    } | {
        key: tf.train.Feature(int64_list=tf.train.Int64List(value=[value])) for key, value in numbers.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write(path: Path, examples: list[bytes]) -> Path:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for serialized in examples:
            writer.write(serialized)
    return path


IMAGE = np.arange(4 * 200 * 3, dtype=np.uint8).reshape(4, 200, 3)
LABEL = np.full((4, 200), 11001, np.int32)


def test_records_give_the_same_samples_as_the_folders(tiny: CityscapesDataset, tmp_path: Path) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    samples = [tiny.load(index) for index in range(2)]
    for shard, sample in enumerate(reversed(samples)):
        serialized = example(sample.image_id, sample.image, sample.panoptic)
        write(folder / f"val-{shard:05d}-of-00002.tfrecord", [serialized])
    write(folder / "train-00000-of-00001.tfrecord", [example("other", IMAGE, LABEL)])
    dataset = open_cityscapes(folder, expected_images=2)
    assert isinstance(dataset, TFRecordDataset)
    assert dataset.image_ids == tiny.image_ids
    for index, expected in enumerate(samples):
        found = dataset.load(index)
        assert found.image_id == expected.image_id
        np.testing.assert_array_equal(found.image, expected.image)
        np.testing.assert_array_equal(found.panoptic, expected.panoptic)
        np.testing.assert_array_equal(found.semantic, expected.semantic)
    assert dataset.fingerprint() == open_cityscapes(folder).fingerprint()
    with pytest.raises(DataError, match="hold 2 images, expected 500"):
        open_cityscapes(folder, expected_images=500)


def test_records_of_coco_give_the_same_samples_as_the_folders(minicoco: Path, tmp_path: Path) -> None:
    folders = open_coco(minicoco, cache=tmp_path / "cache")
    samples = [folders.load(index) for index in range(3)]
    serialized = [example(sample.image_id, sample.image, sample.panoptic) for sample in samples]
    write(tmp_path / "val-00000-of-00001.tfrecord", serialized)
    dataset = open_coco(tmp_path, expected_images=3)
    assert isinstance(dataset, TFRecordDataset)
    assert dataset.image_ids == folders.image_ids[:3]
    for index, expected in enumerate(samples):
        found = dataset.load(index)
        np.testing.assert_array_equal(found.image, expected.image)
        np.testing.assert_array_equal(found.panoptic, expected.panoptic)
        np.testing.assert_array_equal(found.semantic, expected.semantic)


def test_official_scores_are_said_to_be_impossible(tmp_path: Path) -> None:
    path = write(tmp_path / "val.tfrecord", [example("a_0_0", IMAGE, LABEL)])
    dataset = open_cityscapes(path)
    assert "TFRecords hold no original annotations" in str(dataset.official_obstacle)
    with start_official(dataset, dataset.image_ids, tmp_path / "p", tmp_path / "o") as run:
        scores = run.finish()
    assert scores.metrics == {}
    assert scores.provenance == {"skipped": dataset.official_obstacle}


def test_crowds_are_void_in_the_panoptic_map_only() -> None:
    label = np.array([[11000, 11001, 7000, 255000, 13000]], np.int32)
    panoptic, semantic = split_label(label, CITYSCAPES)
    assert panoptic.tolist() == [[255000, 11001, 7000, 255000, 255000]]
    assert semantic.tolist() == [[11, 11, 7, 255, 13]]
    assert panoptic.dtype == np.int32


@pytest.mark.parametrize(
    ("serialized", "message"),
    [
        (
            example("a_0_0", IMAGE, None),
            "has no image/segmentation/class/encoded; the split has no ground truth",
        ),
        (example("a_0_0", IMAGE, LABEL[:2]), "found an image of 4 x 200 and a label of 1600 bytes"),
        (example("a_0_0", IMAGE, LABEL, image__encoded=b"GIF89a??"), "cannot be decoded as an image"),
        (
            example("a_0_0", IMAGE, LABEL, image__segmentation__class__format=b"png"),
            "has png labels, expected raw panoptic ones",
        ),
    ],
)
def test_unusable_examples_are_named(serialized: bytes, message: str, tmp_path: Path) -> None:
    dataset = open_cityscapes(write(tmp_path / "val.tfrecord", [serialized]))
    with pytest.raises(DataError, match=message) as error:
        dataset.load(0)
    assert "val.tfrecord, image a_0_0" in str(error.value)


def cut(data: bytes) -> bytes:
    return data[:-10]


def flip_image_byte(data: bytes) -> bytes:
    position = data.index(b"IDAT") + 8
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "is cut short"),
        (lambda data: b"\1" + data[1:], "is not a TFRecord file, or is damaged at byte 0"),
        (lambda data: b"words " * 9, "is not a TFRecord file"),
        (lambda data: b"", "cannot be read as a TFRecord file"),
        (flip_image_byte, "checksum is wrong"),
    ],
)
def test_damaged_files_are_named(damage: Callable[[bytes], bytes], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "val.tfrecord", [example("a_0_0", IMAGE, LABEL)])
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=message) as error:
        open_cityscapes(path).load(0)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_records_of_something_else_and_doubles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not a tf\.train\.Example"):
        open_cityscapes(write(tmp_path / "text.tfrecord", [b"\xff\xff\xff words"]))
    twice = [example("a_0_0", IMAGE, LABEL)] * 2
    with pytest.raises(DataError, match="image a_0_0 is there twice"):
        open_cityscapes(write(tmp_path / "twice.tfrecord", twice))


def test_records_count_against_what_is_declared(tmp_path: Path) -> None:
    file = write(tmp_path / "val.tfrecord", [example("a.png", IMAGE, LABEL)])
    assert images_in_dataset(open_cityscapes(file, expected_images=2, keep_going=True)) == 2
    both = write(tmp_path / "val.tfrecord", [example(name, IMAGE, LABEL) for name in ("a.png", "b.png")])
    with pytest.raises(DataError, match="has 2 images, expected 1"):
        open_cityscapes(both, expected_images=1, keep_going=True)

"""The whole input that is damaged: small real files of each kind, made once."""

from __future__ import annotations

import io
import json
import runpy
import shutil
import struct
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

NAME = "minicity/mobilenet_v3_small_os16"
REGISTRY = """\
version: 1
datasets:
  tiny: {title: Two scenes, format: cityscapes, split: val, images: 2}
  tiny_coco: {title: Two pictures, format: coco, split: val2017, images: 2}
templates:
  base: {dataset: minicity}
entries:
  own/net:
    extends: [minicity/mobilenet_v3_small_os16, base]
    title: My network
    checkpoint: URL
    published:
      official: {pq: "58.1", miou: 70.25}
      source: https://example.org/table
"""


@dataclass(frozen=True)
class Seeds:
    """Whole input of every kind.

    Attributes:
      root: where what takes long to make is kept.
      minicity, minicoco: the bundled data sets, unpacked.
      run: the folder of a real run.
    """

    root: Path
    minicity: Path
    minicoco: Path
    run: Path

    @cached_property
    def registry(self) -> Path:
        """A registry file with an entry and two data sets."""
        path = self.root / "own.yaml"
        path.write_text(REGISTRY.replace("URL", "https://example.org/net.tar.gz"))
        return path

    @cached_property
    def checkpoint(self) -> dict[str, bytes]:
        """The two files of the bundled checkpoint, by the end of their names."""
        from zoo.fetch.fetcher import Fetcher
        from zoo.registry import load_registry

        prefix = Fetcher().checkpoint(load_registry().resolve(NAME)).path
        ends = (".index", ".data-00000-of-00001")
        return {end: prefix.with_name(prefix.name + end).read_bytes() for end in ends}

    @cached_property
    def pictures(self) -> dict[str, bytes]:
        """A small picture in several formats, by the end of its name."""
        from PIL import Image

        source = np.array(Image.open(min(self.minicity.glob("leftImg8bit/val/*/*.png"))))[100:141, 200:265]
        found = {}
        for name, image, options in (
            ("rgb.png", Image.fromarray(source), {}),
            ("grey16.png", Image.fromarray(source[..., 0].astype(np.uint16) * 256), {}),
            ("palette.png", Image.fromarray(source).quantize(64), {"transparency": 3}),
            ("jpg", Image.fromarray(source), {"quality": 90}),
            ("turned.jpg", Image.fromarray(source), {"exif": _turned()}),
            ("gif", Image.fromarray(source), {"save_all": True, "append_images": [Image.fromarray(source)]}),
            ("bmp", Image.fromarray(source), {}),
            ("tif", Image.fromarray(source), {"compression": "tiff_deflate"}),
            ("webp", Image.fromarray(source), {"lossless": True}),
        ):
            buffer = io.BytesIO()
            kind = {"jpg": "JPEG", "tif": "TIFF"}.get(name.rpartition(".")[2], name.rpartition(".")[2])
            image.save(buffer, kind, **options)
            found[name] = buffer.getvalue()
        return found

    @cached_property
    def city(self) -> Path:
        """Two scenes in the Cityscapes layout."""
        for number in range(2):
            for path in self.minicity.glob(f"*/val/frankfurt/frankfurt_{number:06d}_*"):
                target = self.root / "city" / path.relative_to(self.minicity)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        return self.root / "city"

    @cached_property
    def coco(self) -> Path:
        """Two pictures in the COCO layout."""
        root = self.root / "coco"
        content = json.loads((self.minicoco / "annotations/panoptic_val2017.json").read_text())
        names = {row["id"]: row["file_name"] for row in content["images"][:2]}
        for kind in ("panoptic", "instances"):
            content = json.loads((self.minicoco / f"annotations/{kind}_val2017.json").read_text())
            content["images"] = content["images"][:2]
            content["annotations"] = [row for row in content["annotations"] if row["image_id"] in names]
            target = root / f"annotations/{kind}_val2017.json"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(content))
        for name in names.values():
            for file in (f"val2017/{name}", f"annotations/panoptic_val2017/{Path(name).stem}.png"):
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.minicoco / file, root / file)
        return root

    @cached_property
    def predictions(self) -> Path:
        """Predictions of the two scenes, in all forms of the Cityscapes layout and in COCO's."""
        from zoo.repro.cityscapes.dataset import CityscapesDataset
        from zoo.repro.datasets.opening import open_files

        shared = runpy.run_path(str(Path(__file__).parents[1] / "repro" / "shifted_predictions.py"))
        folder = self.root / "predictions"
        dataset = open_files(CityscapesDataset, self.city, "val", cache=self.root / "cache")
        shared["write_shifted_predictions"](folder, dataset)
        return folder

    @cached_property
    def tfrecord(self) -> bytes:
        """The two scenes as DeepLab2 writes them."""
        import tensorflow as tf

        from zoo.repro.cityscapes.dataset import CityscapesDataset
        from zoo.repro.datasets.opening import open_files

        dataset = open_files(CityscapesDataset, self.city, "val", cache=self.root / "cache")
        path = self.root / "val.tfrecord"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for index, image_id in enumerate(dataset.image_ids):
                sample = dataset.load(index)
                height, width = sample.panoptic.shape
                texts = {
                    "image/encoded": tf.io.encode_png(sample.image).numpy(),
                    "image/filename": image_id.encode(),
                    "image/segmentation/class/encoded": sample.panoptic.astype("<i4").tobytes(),
                    "image/segmentation/class/format": b"raw",
                }
                feature = {
                    key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                    for key, value in texts.items()
                }
                for key, value in (("image/height", height), ("image/width", width)):
                    feature[key] = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
                example = tf.train.Example(features=tf.train.Features(feature=feature))
                writer.write(example.SerializeToString())
        return path.read_bytes()

    @cached_property
    def converted(self) -> dict[str, bytes]:
        """Files of `zoo convert`, by the end of their names."""
        import zoo
        from zoo.network.weights import write_weights

        found = {}
        for end in ("safetensors", "weights.h5"):
            # Keras asks NumPy in an old way.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                write_weights(zoo.load(NAME), self.root / f"net.{end}")
            found[end] = (self.root / f"net.{end}").read_bytes()
        return found

    @cached_property
    def exported(self) -> dict[str, tuple[Path, str]]:
        """A file of `zoo export` for each runtime that is installed, and what it says of itself."""
        from importlib.util import find_spec

        from zoo.network.exporting import ExportOptions, export_entry
        from zoo.registry import load_registry
        from zoo.runtimes.choice import FILE_RUNTIMES

        registry, found = load_registry(), {}
        for name, runtime in FILE_RUNTIMES.items():
            if find_spec(runtime.package) is not None:
                out = self.root / "exported" / f"net{runtime.suffix}"
                options = ExportOptions(name, size=(33, 65), verify=False)
                report = export_entry(registry.resolve(NAME), registry, out, options)
                found[name] = (out, report.file.about.model_dump_json())
        return found


def with_digest(archive: bytes) -> bytes:
    """Returns the file of an image's statistics with the digest of what it holds, right for any contents."""
    import hashlib

    return archive + hashlib.sha256(archive).digest()


def masked_crc(data: bytes) -> bytes:
    """Returns a TFRecord's checksum of data."""
    import google_crc32c

    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _turned() -> Any:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    return exif

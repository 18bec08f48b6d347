"""Ways to damage whole files: JSON, YAML, statistics, TFRecords, and any file of a folder."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import yaml
from mutators import HOSTILE_TEXTS, damage_bytes, damage_text, damage_value, flip_bit, hostile
from seeds import masked_crc, with_digest

YAML_TRAPS = (
    "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{k}: &{k} [{','.join(['*' + p] * 9)}]\n" for p, k in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "entries: &e {x: *e}\n",
    "a: &a [*a]\nentries: *a\n",
    "entries: !!python/object/apply:os.system ['touch /tmp/zoo-fuzz-escaped']\n",
    "entries: !!binary x\n",
    "[" * 100_000,
    "entries: " + "{a: " * 5000,
    "? [x]\n: y\n",
    "version: 1e999999999\n",
    "version: 0x" + "f" * 10_000 + "\n",
    "version: " + "9" * 10_000 + "\n",
    "version: 1:" + "59:" * 500 + "1\n",
    "<<: *missing\n",
    "%YAML 9.9\n---\nentries: {}\n",
    "--- a\n--- b\n",
    "\ufeffversion: 1\n",
    "entries: {\u043cini/net: {extends: minicity/mobilenet_v3_small_os16}}\n",
    "entries: {minicity/m\u043ebilenet_v3_small_os16: {extends: minicity/mobilenet_v3_small_os16}}\n",
    'entries: {"own/\\x1b[31mred": {extends: minicity/mobilenet_v3_small_os16}}\n',
    'datasets: {"a\\u202eb": {title: x, format: coco, split: ../../x, images: 2}}\n',
    "datasets: {x: {title: x, format: coco, split: val, images: 1e400}}\n",
)


def yaml_text(value: Any) -> str:
    try:
        return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))
    except RecursionError:
        return "[" * 1000


def damage_a_file(folder: Path, rng: Random) -> None:
    """Damages, renames, or removes one of the files below a folder, or makes it a link or a folder."""
    path = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    way = rng.randrange(10)
    if way == 0:
        path.unlink()
    elif way == 1:
        names = [text for text in HOSTILE_TEXTS if 0 < len(text) < 100 and not set(text) & set("/\0\ud800")]
        path.rename(path.with_name(rng.choice(names) + path.name))
    elif way == 2:
        path.unlink()
        path.symlink_to(rng.choice((path.name, "/dev/zero", "/nothing", "/", "/dev/null")))
    elif way == 3:
        path.unlink()
        path.mkdir()
    elif path.suffix == ".json":
        damage_json(path, rng)
    else:
        path.write_bytes(rng.choice((flip_bit, damage_bytes))(path.read_bytes(), rng))


def damage_json(path: Path, rng: Random) -> bool:
    """Damages a JSON file; returns whether it is JSON still."""
    text = path.read_text(encoding="utf-8")
    if rng.random() < 0.75:
        data = json.dumps(damage_value(json.loads(text), rng)).encode()
    elif rng.random() < 0.5:
        data = damage_text(text, rng).encode("utf-8", errors="surrogatepass")
    else:
        data = damage_bytes(text.encode(), rng)
    path.write_bytes(data)
    try:
        json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        return False
    return True


def damage_statistics(path: Path, rng: Random) -> None:
    """Damages an image's statistics; half of the time their digest is right for what they are then."""
    data = path.read_bytes()
    if rng.random() < 0.4:
        path.write_bytes(damage_bytes(data, rng))
        return
    with np.load(io.BytesIO(data[:-32])) as file:
        arrays = {key: file[key] for key in file.files}
    key = rng.choice(list(arrays))
    array = arrays[key]
    ways: tuple[Callable[[], Any], ...] = (
        lambda: array.astype(rng.choice(("<f4", "<i8", "|S3", "<U2", "<c8", "|b1", "<M8[s]", "<u1"))),
        lambda: array.reshape(-1)[: rng.randrange(3)],
        lambda: np.concatenate([array.reshape(-1)] * 3),
        lambda: np.full(array.shape, rng.choice((-1, 10**9, 2**62, 255)), np.int64),
        lambda: np.full(array.shape, rng.choice((np.nan, np.inf, -1.0))),
        lambda: np.array([{"an": "object"}], object),
        lambda: array[None],
    )
    if rng.random() < 0.2:
        del arrays[key]
    else:
        arrays[key] = rng.choice(ways)()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    path.write_bytes(with_digest(buffer.getvalue()))


def other_example(data: bytes, rng: Random) -> bytes:
    """Returns a TFRecord of one example with a damaged feature, or of damaged bytes, and right checksums."""
    import tensorflow as tf

    length = int.from_bytes(data[:8], "little")
    example = tf.train.Example.FromString(data[12 : 12 + length])
    key = rng.choice(sorted(example.features.feature))
    feature, value = example.features.feature[key], hostile(rng)
    if feature.bytes_list.value and rng.random() < 0.6:
        feature.bytes_list.value[0] = damage_bytes(feature.bytes_list.value[0], rng)
    elif type(value) is int and -(2**63) <= value < 2**63:
        feature.int64_list.value[:] = [value]
    elif isinstance(value, str):
        feature.bytes_list.value[:] = [value.encode("utf-8", errors="replace")]
    else:
        feature.Clear()
    content = example.SerializeToString()
    if rng.random() < 0.2:
        content = damage_bytes(content, rng)
    head = len(content).to_bytes(8, "little")
    return head + masked_crc(head) + content + masked_crc(content) + data[16 + length :]

"""Imports TensorFlow without the start-up messages of its native libraries, which no setting silences."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from zoo.errors import UsageError
from zoo.files.processes import without_collection

_ONEDNN_FLAGS = {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"}
"""A processor with any of these makes TensorFlow compute with oneDNN."""


def import_tensorflow() -> Any:
    """Imports TensorFlow, lists its devices, and returns it; what it prints is shown only where that fails.

    Does nothing special where `TF_CPP_MIN_LOG_LEVEL` is set: whoever sets it wants to see messages.

    Raises:
      UsageError: it is not installed.
    """
    if "tensorflow" not in sys.modules and find_spec("tensorflow") is None:
        raise UsageError(
            "TensorFlow is not installed, and alone reads checkpoints, SavedModels and TFRecords; install "
            "it, or run `zoo convert NAME FILE` where it is, set KERAS_BACKEND to jax or torch, and give "
            "the file: --weights FILE, zoo.load(..., weights=FILE)"
        )
    if "tensorflow" not in sys.modules and "TF_CPP_MIN_LOG_LEVEL" not in os.environ:
        # Not even errors: what they say comes as exceptions too, and a broken image is one line, not two.
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        with held_back_stderr(), without_collection():
            import tensorflow as tf

            tf.config.list_physical_devices()
    import tensorflow as tf

    return tf


def keep_feature_maps() -> None:
    """Makes TensorFlow keep the memory of feature maps where it does not compute with oneDNN.

    By default the system maps and clears each map anew there, up to a third of a network's time; with oneDNN
    the default is as fast. It counts for this process and those that it starts. `TF_CPU_ALLOCATOR_USE_BFC`
    decides instead where it is set.
    """
    if "TF_CPU_ALLOCATOR_USE_BFC" not in os.environ and not _computes_with_onednn():
        os.environ["TF_CPU_ALLOCATOR_USE_BFC"] = "1"
        # In MiB: 4 TiB are no limit, where TensorFlow's own is 64 GiB.
        os.environ.setdefault("TF_CPU_BFC_MEM_LIMIT_IN_MB", str(2**22))


def _computes_with_onednn() -> bool:
    """Returns whether TensorFlow will; also where that cannot be told."""
    if chosen := os.environ.get("TF_ENABLE_ONEDNN_OPTS"):
        return chosen != "0"
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            flags = next((line.split() for line in stream if line.startswith("flags")), None)
    except OSError:
        return True
    return flags is None or not _ONEDNN_FLAGS.isdisjoint(flags)


@contextmanager
def held_back_stderr() -> Iterator[None]:
    """Holds back what native libraries print, and shows it only where the block fails."""
    import tempfile

    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(stderr, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)

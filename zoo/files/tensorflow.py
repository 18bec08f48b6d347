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
    """Makes TensorFlow keep the memory of feature maps; by default the system maps and clears each one anew.

    Without oneDNN, as on processors without AVX-512, that takes up to a third of a network's time. It counts
    for this process and those that it starts, unless `TF_CPU_ALLOCATOR_USE_BFC` is set, to 0 for the default.
    """
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")
    # In MiB: 4 TiB are no limit, where TensorFlow's own is 64 GiB.
    os.environ.setdefault("TF_CPU_BFC_MEM_LIMIT_IN_MB", str(2**22))


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

"""The weights of a restored network in one file that needs no TensorFlow: safetensors, or Keras' own form.

Beside the values a file holds the name of its entry, the entry's network, and the receipt of what was
restored, whose digest is checked whenever the file is read.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo.errors import CheckpointError, UsageError
from zoo.files.atomic import writing
from zoo.runtimes.choice import WEIGHTS_SUFFIXES

if TYPE_CHECKING:
    import keras

    from zoo.model.checkpoint import Receipt
    from zoo.network.network import Network

_SAFETENSORS, _KERAS = WEIGHTS_SUFFIXES
_ABOUT = "zoo"
"""Under this name a file says what it holds, as JSON."""


def check_weights_path(path: Path) -> None:
    """Raises a `UsageError` where a path does not end as one of the forms does."""
    if not path.name.endswith(WEIGHTS_SUFFIXES):
        raise UsageError(f"{path}: expected a file name that ends with {_SAFETENSORS} or {_KERAS}")


def write_weights(network: Network, path: Path) -> Receipt:
    """Writes a network that was restored, and not folded, to a file that `zoo.load(..., weights=)` reads.

    Returns:
      The receipt that the file holds.

    Raises:
      UsageError: another ending of the file's name.
      ZooError: it cannot be written; then nothing of it is left.
    """
    check_weights_path(path)
    assert network.receipt is not None
    about = {
        "entry": network.entry.name,
        "network": network.entry.network.model_dump(mode="json"),
        "receipt": network.receipt.to_json(),
    }
    write = _write_safetensors if path.name.endswith(_SAFETENSORS) else _write_keras
    with writing(path, "give another path"):
        path.parent.mkdir(parents=True, exist_ok=True)
        # In a folder beside it: Keras asks for a file name that ends as its own do.
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            temporary = Path(folder) / path.name
            write(network.keras_model, json.dumps(about), temporary)
            os.replace(temporary, path)
    return network.receipt


class WeightsFile(NamedTuple):
    """A file of `write_weights`: the entry that it is wanted for, and its path."""

    owner: str
    path: Path

    @property
    def url(self) -> str:
        """Where the file is."""
        return self.path.absolute().as_uri()

    @property
    def bytes(self) -> int:
        """The file's size."""
        return self.path.stat().st_size

    @property
    def sha256(self) -> str:
        """The digest of the archive that the weights came from, else of the weights; raises as `about`."""
        receipt = self.about()["receipt"]
        return str(receipt["archive_sha256"] or receipt["sha256"])

    def about(self) -> dict[str, Any]:
        """Returns what the file says of itself, without reading its values.

        Raises:
          UsageError: another ending of the file's name, or the weights of another entry.
          CheckpointError: the file is absent or corrupt.
        """
        check_weights_path(self.path)
        if not self.path.is_file():
            raise CheckpointError(f"{self.owner}: no file {self.path}; `zoo convert` writes one")
        read = _about_safetensors if self.path.name.endswith(_SAFETENSORS) else _about_keras
        with self._refusing():
            about: dict[str, Any] = json.loads(read(self.path))
            entry, _ = about["entry"], about["receipt"]["archive_sha256"]
        if entry != self.owner:
            raise UsageError(
                f"{self.owner}: {self.path} holds the weights of {entry}; load that, or give another file"
            )
        return about

    def restore_into(self, model: keras.Model, part: str = "") -> Receipt:
        """Reads all weights into a Keras network, and returns the receipt of the checkpoint that they were.

        Raises:
          UsageError: another ending of the file's name, or the weights of another entry.
          CheckpointError: the file is absent or corrupt, or does not restore the whole network.
        """
        from zoo.model.checkpoint import Receipt, values_digest

        about = self.about()
        restore = _read_safetensors if self.path.name.endswith(_SAFETENSORS) else _read_keras
        with self._refusing():
            restore(model, self)
            given = {each.name: about["receipt"][each.name] for each in dataclasses.fields(Receipt)}
            digest = values_digest(model, given["restored"])
        if digest != given["sha256"]:
            raise self._refusal(
                f"expected weights of sha256 {given['sha256']}, found {digest}: it is corrupt"
            )
        lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
        return Receipt(**{**given, **lists, "prefix": str(self.path)})

    def check_shapes(self, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """Raises a `CheckpointError` where names or shapes are not those of the network's variables."""
        for name in sorted({*expected, *found}):
            if expected.get(name) != found.get(name):
                wanted, held = expected.get(name, "no such variable"), found.get(name, "none")
                raise self._refusal(
                    f"does not restore the whole network: {name}: expected {wanted}, found {held}"
                )

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        from safetensors import SafetensorError

        try:
            yield
        except (
            SafetensorError,
            KeyError,
            ValueError,
            TypeError,
            OSError,
            RuntimeError,
            UserWarning,
        ) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise self._refusal(f"is corrupt, or not of `zoo convert` ({reason})") from error

    def _refusal(self, problem: str) -> CheckpointError:
        return CheckpointError(f"{self.owner}: {self.path}: {problem}; write it again with `zoo convert`")


# --- safetensors ------------------------------------------------------------------------------------------


def _write_safetensors(model: keras.Model, about: str, path: Path) -> None:
    from safetensors.numpy import save_file

    from zoo.model.backend import values_of
    from zoo.model.checkpoint import variables

    values = {name: np.ascontiguousarray(values_of(each), "<f4") for name, each in variables(model).items()}
    save_file(values, path, metadata={_ABOUT: about})


def _about_safetensors(path: Path) -> str:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as stored:
        return str((stored.metadata() or {})[_ABOUT])


def _read_safetensors(model: keras.Model, file: WeightsFile) -> None:
    from safetensors import safe_open

    from zoo.model.backend import take_values
    from zoo.model.checkpoint import variables

    ours = variables(model)
    with safe_open(file.path, framework="numpy") as stored:
        found = {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
        file.check_shapes({name: tuple(variable.shape) for name, variable in ours.items()}, found)
        for name, variable in ours.items():
            take_values(variable, stored.get_tensor(name))


# --- the form of Keras, with what it is about in a data set of its own ------------------------------------


def _write_keras(model: keras.Model, about: str, path: Path) -> None:
    import h5py

    model.save_weights(path)
    with h5py.File(path, "a") as file:
        file.create_dataset(_ABOUT, data=about)


def _about_keras(path: Path) -> bytes:
    import h5py

    with h5py.File(path) as stored:
        about: bytes = stored[_ABOUT][()]
    return about


def _read_keras(model: keras.Model, file: WeightsFile) -> None:
    with warnings.catch_warnings():
        # Keras goes on without a part that the file lacks.
        warnings.simplefilter("error", UserWarning)
        model.load_weights(file.path)

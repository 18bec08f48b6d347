"""SavedModels of `zoo export`: run by TensorFlow, wherever it puts them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.files.tensorflow import import_tensorflow
from zoo.runtimes.model_file import ABOUT, Session

if TYPE_CHECKING:
    from zoo.model.postprocess.options import PostprocessOptions
    from zoo.registry.network_options import EvaluationOptions

_ABOUT_FILE = Path("assets.extra", f"{ABOUT}.json")
"""Where a SavedModel holds what TensorFlow does not read."""


PRECISIONS = ("float32", "bfloat16")
"""What `write` takes; a network is built in bfloat16."""


def files_of(path: Path) -> list[Path]:
    """Returns the files that make up a model."""
    return sorted(each for each in path.rglob("*") if each.is_file())


def read_about(path: Path) -> str:
    """Returns what a SavedModel says of itself."""
    return (path / _ABOUT_FILE).read_text(encoding="utf-8")


def load(path: Path, precision: str) -> Session:
    """Returns a SavedModel as a function of one image."""
    tf = import_tensorflow()
    # What was loaded owns the variables of its function.
    loaded = tf.saved_model.load(str(path))
    function = loaded.signatures["serving_default"]
    (argument,) = function.structured_input_signature[1]

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        assert loaded is not None
        found = function(**{argument: tf.constant(image)})
        return {name: values.numpy() for name, values in found.items()}

    return run


def write(network: Any, size: tuple[int, int], about: str, path: Path, precision: str) -> None:
    """Writes a Keras network."""
    import_tensorflow()
    from zoo.runtimes.tensorflow_graph import OneImageGraph

    _save(OneImageGraph.of_network(network, size), about, path)


def write_whole(
    network: Any,
    size: tuple[int, int],
    evaluation: EvaluationOptions,
    options: PostprocessOptions,
    about: str,
    path: Path,
) -> None:
    """Writes a Keras network with all that surrounds it; see `zoo.runtimes.whole_pipeline`."""
    import_tensorflow()
    from zoo.runtimes.whole_pipeline import WholePipeline

    _save(WholePipeline(network, size, evaluation, options), about, path)


def _save(graph: Any, about: str, path: Path) -> None:
    tf = import_tensorflow()
    tf.saved_model.save(graph, str(path), signatures={"serving_default": graph.function})
    note = path / _ABOUT_FILE
    note.parent.mkdir()
    note.write_text(about, encoding="utf-8")

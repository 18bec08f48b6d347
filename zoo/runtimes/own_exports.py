"""Which files of `zoo export` this cache's user wrote; any other one is a program of somebody else."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from zoo.errors import UsageError, ZooError
from zoo.files.atomic import write_atomically
from zoo.files.cache import Cache
from zoo.registry.lookup import load_builtin_registry
from zoo.runtimes.choice import FILE_RUNTIMES

TRUST = "if you trust whoever made it, give --trust"


def remember_export(sha256: str) -> None:
    """Writes down that a file was exported here, by the digest of `zoo.runtimes.model_file.digest`."""
    # Without it the file is as good, and `--trust` runs it.
    with suppress(ZooError):
        write_atomically(_note(sha256), "")


def require_own_export(runtime: str, model: Path) -> None:
    """Raises a UsageError where a model file is not, to the last bit, one that was exported here.

    What a file says of itself proves nothing, so this asks the cache.
    """
    from zoo.runtimes.model_file import digest

    if not model.name.endswith(FILE_RUNTIMES[runtime].suffix):
        return  # which is refused when it is read
    if not _note(digest(FILE_RUNTIMES[runtime].imported(runtime).files_of(model))).is_file():
        raise UsageError(
            f"--model {model}: expected a file that `zoo export` wrote here, found another; a model file is "
            f"a program, which may read and write your files: {TRUST}"
        )


def require_published(name: str, url: str) -> None:
    """Raises a UsageError about the SavedModel `name` where the built-in registry does not have its URL."""
    builtin = load_builtin_registry().entries
    if all(entry.saved_model is None or entry.saved_model.url != url for entry in builtin):
        raise UsageError(
            f"{name}: expected a SavedModel of the built-in registry, found another; it is a program, which "
            f"may read and write your files: {TRUST}"
        )


def _note(sha256: str) -> Path:
    return Cache().root / "exported" / sha256

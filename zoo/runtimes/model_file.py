"""A file of `zoo export`: what it says of itself, its digest, and whether it is the right one."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from zoo.errors import ArchiveError, UsageError
from zoo.fetch.verify import digest_file
from zoo.registry import Entry
from zoo.runtimes.choice import FILE_RUNTIMES, check_runtime, version_of

ABOUT = "zoo"
"""Under this name a file says what it is, as JSON of `About`."""

Session = Callable[[np.ndarray], dict[str, np.ndarray]]
"""A loaded file: one image [1, H, W, 3] float32, RGB 0..255, to its maps, each a batch of one."""

Precision = Literal["float32", "float16", "bfloat16", "int8"]


class CheckpointRecord(BaseModel):
    """The checkpoint whose values a file holds, as run records have it; `sha256` is the archive's."""

    url: str
    sha256: str
    bytes: int
    receipt: dict[str, Any]


class About(BaseModel):
    """What a file says of itself: what this project reads, and what only people and other programs need.

    Attributes:
      entry, entry_digest: whose network it is, and the digest of that entry's declaration.
      precision: what the network computes in, or what its weights are stored in.
      input_size: (height, width) in px of the one image that it takes.
      with_post_processing: whether it holds all of `zoo.runtimes.whole_pipeline`, and takes any size.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    entry: str
    entry_digest: str
    checkpoint: CheckpointRecord
    precision: Precision
    input_size: tuple[int, int]
    with_post_processing: bool = False


@dataclasses.dataclass(frozen=True)
class ModelFile:
    """A file of `zoo export` that says that it is an entry's.

    Attributes:
      runtime: its name in `FILE_RUNTIMES`.
      path: the file, or the folder.
      sha256: of its bytes; see `digest`.
      about: what it says of itself.
    """

    runtime: str
    path: Path
    sha256: str
    about: About

    def require_size(self, size: tuple[int, int]) -> None:
        """Raises a `UsageError` where the file does not take images of `size` (height, width)."""
        if self.about.input_size != size:
            height, width = self.about.input_size
            raise UsageError(
                f"{self.about.entry}: --model {self.path}: expected a file for images of {size[0]} x "
                f"{size[1]} pixels, found one for {height} x {width}; "
                f"`zoo export --size {size[0]}x{size[1]}` writes it"
            )

    def load(self) -> Session:
        """Loads the file into its runtime.

        Raises:
          ArchiveError: the runtime refuses it.
        """
        module = FILE_RUNTIMES[self.runtime].imported(self.runtime)
        try:
            session: Session = module.load(self.path, self.about.precision)
        except Exception as error:  # Each runtime has errors of its own.
            raise _foreign(self.path, self.runtime, error) from error
        return session

    def to_json(self) -> dict[str, Any]:
        """Returns what the run record says of the runtime."""
        return {
            "name": self.runtime,
            "version": version_of(self.runtime),
            "model": self.path.name,
            "model_sha256": self.sha256,
            "model_precision": self.about.precision,
            "model_input_size": list(self.about.input_size),
        }


def read_model_file(runtime: str, path: Path, entry: Entry) -> ModelFile:
    """Reads what a file says of itself, without loading it, and checks that it is for `entry`.

    Raises:
      UsageError: the runtime is not installed, there is no such file, or it is for another entry.
      ArchiveError: it was not written by `zoo export`, or is damaged.
    """
    check_runtime(runtime, path)
    module, suffix = FILE_RUNTIMES[runtime].imported(runtime), FILE_RUNTIMES[runtime].suffix
    if not path.name.endswith(suffix):
        raise _foreign(path, runtime, f"its name does not end in {suffix}")
    try:
        about = About.model_validate_json(module.read_about(path))
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc'])) or 'no description'}: {first['msg']}"
        raise _foreign(path, runtime, reason) from error
    except Exception as error:  # Each runtime has errors of its own.
        raise _foreign(path, runtime, error) from error
    if about.entry != entry.name:
        raise UsageError(
            f"{entry.name}: --model {path}: is the network of {about.entry}; name that entry, or give "
            "another file"
        )
    if about.entry_digest != entry.digest():
        raise UsageError(
            f"{entry.name}: --model {path}: expected a file made from the entry as it is declared now "
            f"(digest {entry.digest()[:12]}), found {about.entry_digest[:12]}; "
            "export it again with `zoo export`"
        )
    return ModelFile(runtime, path, digest(module.files_of(path)), about)


def digest(files: list[Path]) -> str:
    """Returns the SHA-256 (hex) of one file, or over the names and SHA-256s of several, in their order."""
    each = [digest_file(path).sha256 for path in files]
    if len(each) == 1:
        return each[0]
    lines = "".join(f"{sha256}  {path.name}\n" for sha256, path in zip(each, files, strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()


def _foreign(path: Path, runtime: str, reason: Exception | str) -> ArchiveError:
    text = " ".join(str(reason).split())[:200] or type(reason).__name__
    return ArchiveError(
        f"--model {path}: expected a file for {runtime} of `zoo export`, found another or a damaged one "
        f"({text}); write it again"
    )

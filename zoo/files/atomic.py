"""Writes files whole or not at all, and says in one line what cannot be written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import ZooError, cannot_write

GIVE_OUT = "give another path with --out"
"""What to do about an output that cannot be written."""


def write_atomically(
    path: Path, content: str | bytes | memoryview, *, durable: bool = True, remedy: str = GIVE_OUT
) -> None:
    """Writes a file so that readers see the old content or the new one, never a part.

    Folders above it are made, links are followed, and the file gets the permissions of an ordinary new file.
    What is not a plain file, such as `/dev/stdout`, is written to as it is. Text becomes UTF-8, its line ends
    unchanged. `durable` waits for the disk, so that a power cut leaves the old file or the new one too;
    `remedy` says what to do about a path that is wrong, for the message.

    Raises:
      ZooError: it cannot be written; then nothing of it is left.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with writing(path, remedy):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        if path.is_symlink():
            path = path.resolve()
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}")
        try:
            with temporary.open("xb") as stream:
                stream.write(data)
                if durable:
                    stream.flush()
                    os.fsync(stream.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def writing(path: Path, remedy: str = GIVE_OUT) -> Iterator[None]:
    """Turns a failure to write the file or folder `path` into a ZooError of one line that names it."""
    try:
        yield
    except OSError as error:
        raise ZooError(cannot_write(path, error, remedy)) from error

"""The file in which a `zoo` that another process started leaves why it failed."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from zoo.errors import ZooError
from zoo.files.json_files import write_json

EXIT_FILE = "ZOO_EXIT_FILE"
"""The environment variable that holds the path of the file."""


def write_exit_file(message: str, exit_code: int, error: BaseException | None = None) -> None:
    """Writes why the command failed, its exit code, and how many images an interrupted run has done."""
    path = os.environ.get(EXIT_FILE)
    if not path:
        return
    progress = {name: getattr(error, name, None) for name in ("images_done", "images")}
    # Without the file the caller still has the exit code and the output.
    with suppress(ZooError):
        write_json(Path(path), {"message": message, "exit_code": exit_code, **progress})

"""Errors meant for a person: one line each, no traceback, and an exit code."""

from __future__ import annotations

import errno
from pathlib import Path


class ZooError(Exception):
    """Something could not be done: what, where, expected, found, what to do next.

    The command line prints the message as one line and exits with `exit_code`.
    """

    exit_code = 3


class UsageError(ZooError):
    """The call itself is wrong: an unknown name, a bad option, an invalid registry file."""

    exit_code = 2


def not_installed(option: str, what: str, wanted: str) -> UsageError:
    """Returns the error about an option that needs `what`, which the package `wanted` brings."""
    return UsageError(
        f"{option}: expected {what}, which is not installed; `pip install '{wanted}'` brings it"
    )


class UnknownNameError(UsageError):
    """A name that matches no entry, or more than one."""


class RegistryError(UsageError):
    """A registry file that does not follow the schema: file, line, key, expected, found."""


class DownloadError(ZooError):
    """A file could not be fetched."""


class VerificationError(ZooError):
    """A file differs from what was declared, pinned, or seen before."""


class ArchiveError(ZooError):
    """An archive that is corrupt, unsafe, or not of the published form."""


class CheckpointError(ZooError):
    """A checkpoint that does not restore the whole network."""


class DataError(ZooError):
    """A data set that is incomplete or not of the expected layout."""


class EvaluationError(ZooError):
    """An official script or a run that could not finish."""


class InUseError(ZooError):
    """Another process is using a folder."""


class InterruptedRunError(ZooError):
    """A run stopped by the user; what was computed is kept.

    Attributes:
      images_done: how many of the run's `images` are done; None where no run over images was stopped.
      images: how many images the run is over.
    """

    exit_code = 130

    def __init__(self, message: str, images_done: int | None = None, images: int | None = None) -> None:
        super().__init__(message)
        self.images_done = images_done
        self.images = images


def cannot_write(path: Path, error: OSError, remedy: str = "give another folder") -> str:
    """Returns the message about a file or folder that cannot be written: why, and what to do.

    Args:
      path: what was to be written.
      error: what the system said.
      remedy: what to do about a path that is wrong.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"cannot write {path}: the disk is full; free space and call again: "
            "a run or a download resumes where it stopped"
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        file = next((part for part in (path, *path.parents) if part.is_file()), path)
        return f"cannot write {path}: {file} is a file, not a folder; {remedy}"
    reason = error.strerror or type(error).__name__
    return f"cannot write {path}: {reason[:1].lower()}{reason[1:]}; {remedy}"

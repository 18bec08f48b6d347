"""On which workers something is computed, as a user asks for it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from zoo.errors import UsageError

LOCAL = "local"
AUTO = "auto"

_HOST_AND_PORT = re.compile(r"(ray://)?[^\s/:]+:\d+|ray://[^\s/:]+|ray://\[[^\s\]]+\]:\d+|\[[^\s\]]+\]:\d+")


def is_address(text: str) -> bool:
    """Returns whether a text is an address of a Ray cluster: `local`, `auto`, `host:port`, or `ray://...`."""
    return text in (LOCAL, AUTO) or _HOST_AND_PORT.fullmatch(text) is not None


@dataclass(frozen=True)
class Workers:
    """How many processes of Ray work, where, and with what each.

    Raises:
      UsageError: an address, or a number, that makes no sense.
    """

    # `local` starts Ray on this machine and ends it afterwards; `auto` takes the cluster that `RAY_ADDRESS`
    # names or that runs on this machine; `host:port` and `ray://host:port` name one.
    address: str = AUTO
    actors: int | None = None  # None for as many as the cluster can hold
    cpus_per_actor: float | None = None  # None for a share of a node; also the threads of each
    gpus_per_actor: float | None = None  # None for one where the cluster has GPUs
    attempts: int = 3  # so often an item, or the start of a worker, is tried
    patience_s: float = 120.0  # so long nobody works before it is an error

    def __post_init__(self) -> None:
        if not is_address(self.address):
            raise UsageError(f"--ray {self.address}: expected local, auto, HOST:PORT or ray://HOST:PORT")
        if self.actors is not None and self.actors < 1:
            raise UsageError(f"--actors {self.actors}: expected at least 1")
        cpus, gpus = self.cpus_per_actor, self.gpus_per_actor
        if cpus is not None and not 0 < cpus < 10_000:
            raise UsageError(f"--cpus-per-actor {cpus:g}: expected a number above 0")
        if gpus is not None and not (0 <= gpus <= 1 or (float(gpus).is_integer() and 0 <= gpus < 1000)):
            raise UsageError(f"--gpus-per-actor {gpus:g}: expected 0, a part of 1, or a whole number")

    def words(self) -> list[str]:
        """Returns the options of the command line that ask for these workers."""
        given = {
            "--ray": self.address,
            "--actors": self.actors,
            "--cpus-per-actor": self.cpus_per_actor,
            "--gpus-per-actor": self.gpus_per_actor,
        }
        return [word for name, value in given.items() if value is not None for word in (name, str(value))]


@dataclass(frozen=True)
class Share:
    """What each of several workers has."""

    actors: int
    cpus: float
    gpus: float

    @property
    def threads(self) -> int:
        """With how many threads each worker computes."""
        return max(1, int(self.cpus))

    def __str__(self) -> str:
        gpus = f" and {self.gpus:g} GPU" if self.gpus else ""
        return f"{self.actors} x {self.cpus:g} CPU{gpus}"

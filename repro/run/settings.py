"""What a user may choose about a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from zoo.errors import UsageError


@dataclass(frozen=True)
class RunSettings:
    """What a user may choose about a run.

    Raises:
      UsageError: there is no such precision.
    """

    limit: int | None = None  # evaluate only the first images
    device: str = "auto"  # see `zoo.network.devices.strategy_for`
    precision: str = "float32"  # or `bfloat16`, what convolutions compute in
    scales: tuple[float, ...] = (1.0,)  # image scales whose predictions are averaged
    flip: bool = False  # average with the predictions for the mirrored image too
    keep_going: bool = False  # leave out images that cannot be used, with a message, instead of an error
    restart: bool = False  # discard an unfinished run instead of resuming it

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "bfloat16"):
            raise UsageError(f"--precision {self.precision}: expected float32 or bfloat16")

    def recorded(self) -> dict[str, Any]:
        """Returns the settings that the run record holds, as JSON values."""
        unrecorded = ("keep_going", "restart")
        settings = {key: value for key, value in asdict(self).items() if key not in unrecorded}
        return {**settings, "scales": list(self.scales)}

    def changes_numbers(self) -> list[str]:
        """Returns the options that differ from how the published numbers were measured."""
        options = {
            f"--precision {self.precision}": self.precision != "float32",
            f"--scales {','.join(f'{scale:g}' for scale in self.scales)}": self.scales != (1.0,),
            "--flip": self.flip,
        }
        return [option for option, is_changed in options.items() if is_changed]

    def folder_name(self, entry: str) -> str:
        """Returns the name of the run's folder: the entry, and each option that is not the default."""
        options = {
            f"limit{self.limit}": self.limit is not None,
            self.device.partition(":")[0]: self.device != "auto",
            self.precision: self.precision != "float32",
            f"scales{'_'.join(f'{scale:g}' for scale in self.scales)}": self.scales != (1.0,),
            "flip": self.flip,
        }
        given = [name for name, is_given in options.items() if is_given]
        return "__".join([entry.replace("/", "__"), *given])


AS_PUBLISHED = RunSettings()
"""The settings with which the published numbers were measured."""

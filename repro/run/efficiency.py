"""What a run needed: the size of its network, the network's time, and the memory of the process."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.registry import Entry


def efficiency(
    entry: Entry | None, timings: Mapping[str, Any], replicas: int = 1
) -> dict[str, float | int | None]:
    """Returns the part of a run record that says what the run needed; None for what is not known.

    Args:
      entry: what was measured; None for predictions whose network is not known. Parameters and multiply-adds
        are those that the registry declares, else those of the network as it is built.
      timings: of the record: seconds in the network, all and in its first call, and for how many images.
      replicas: how many images a call of the network takes.
    """
    # The first call takes many times as long as the others: it traces the network.
    network_s = timings.get("network_s", 0) - timings.get("network_first_s", 0)
    images = timings.get("images_computed", 0) - replicas
    return {
        **(_size(entry) if entry is not None else {"parameters": None, "multiply_adds": None}),
        "seconds_per_image": network_s / images if network_s and images > 0 else None,
        "peak_memory_bytes": peak_memory_bytes(),
    }


def _size(entry: Entry) -> dict[str, float | int | None]:
    parameters, multiply_adds = entry.parameters, entry.multiply_adds
    if parameters is None or multiply_adds is None:
        from zoo.network.entry_summary import summarize_entry

        built = summarize_entry(entry).summary
        parameters, multiply_adds = parameters or built.parameters, multiply_adds or built.multiply_adds
    return {"parameters": parameters, "multiply_adds": multiply_adds}


def peak_memory_bytes() -> int | None:
    """Returns the most main memory that this process has held since it began, whatever it was used for.

    What a device of its own holds and what other processes hold, those of the official scripts too, is not
    in it. None where the system does not say.
    """
    if sys.platform == "linux":
        # Not `getrusage`: that begins with what the process held that started this one.
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        held = dict(line.split(":", 1) for line in lines if ":" in line).get("VmHWM")
        return None if held is None else int(held.split()[0]) * 1024
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    import psutil

    return getattr(psutil.Process().memory_info(), "peak_wset", None)

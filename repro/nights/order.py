"""The order of a night's entries on a cluster."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import ZooError
from zoo.repro.records.night_folder import last_record
from zoo.repro.records.record import read_record

if TYPE_CHECKING:
    from zoo.registry import Entry, Registry


def longest_first(entries: Sequence[Entry], registry: Registry, night: Path) -> list[Entry]:
    """Returns entries by the time that their networks need for their data sets, the longest first.

    It is what the last record before `night` says; without one, multiply-adds at the rate of the others.
    """
    seconds: dict[str, float] = {}
    rates = []
    for entry in entries:
        path, measured = last_record(night, entry.name), None
        # A damaged record of an earlier night is no reason to lose this one.
        with suppress(ZooError):
            measured = read_record(path).get("efficiency", {}).get("seconds_per_image") if path else None
        if measured:
            seconds[entry.name] = measured
            if entry.multiply_adds:
                rates.append(measured / entry.multiply_adds)
    rate = statistics.median(rates) if rates else 1.0

    def expected_s(entry: Entry) -> float:
        images = registry.dataset(entry.dataset).images or 1
        return seconds.get(entry.name, rate * (entry.multiply_adds or 0)) * images

    return sorted(entries, key=expected_s, reverse=True)

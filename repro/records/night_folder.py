"""A night's folder: the records and the summary of one date, and the nights before it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any

from zoo.errors import UsageError
from zoo.files.words import utc_now
from zoo.repro.records.claim_words import NOT_JUDGED
from zoo.repro.records.schema import SCHEMA_VERSION, NightSummary, read_checked

HELD = "held"
MISSED = "missed"
FAILED = "failed"
NOT_RUN = "not run"
UNFINISHED = "unfinished"
RESULTS = (HELD, NOT_JUDGED, MISSED, FAILED, UNFINISHED, NOT_RUN)
"""The results that an entry can have, best first."""

_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})(?:\.([1-9]\d*))?")


@dataclass(frozen=True)
class Outcome:
    """What became of one entry."""

    entry: str  # full name
    result: str  # one of `RESULTS`; `not judged` where no claim was judged
    reason: str | None = None  # the error, or why it was not run; None where it was measured
    wanted: bool = True  # whether the night fails if it is not run: it was named, or measured before
    duration_s: float | None = None  # of the process that ended last
    peak_memory_bytes: int | None = None  # the most that its processes held at one time
    begun_with: str | None = None  # digest of the software and options of an unfinished run


@dataclass
class Night:
    """One night."""

    folder: Path  # where its files are; named by date, with a number from the second night of a date on
    settings: Mapping[str, Any]  # the options that change what is measured
    outcomes: dict[str, Outcome]  # by entry, in the order in which they run
    started: str  # ISO 8601, UTC
    finished: str | None = None  # when the last entry ended; None until then

    def record_path(self, entry: str) -> Path:
        """Returns where an entry's run record is, or will be."""
        return record_path(self.folder, entry)

    def log_path(self, entry: str) -> Path:
        """Returns the file that holds everything the entry's process printed."""
        return self.record_path(entry).with_name("log.txt")

    def measured(self) -> list[str]:
        """Returns the entries that have a record of this night."""
        return [name for name in self.outcomes if self.record_path(name).exists()]

    def to_json(self) -> dict[str, Any]:
        """Returns what is needed to resume the night."""
        return {
            "schema": SCHEMA_VERSION,
            "night": self.folder.name,
            "started": self.started,
            "finished": self.finished,
            "settings": dict(self.settings),
            "entries": [asdict(outcome) for outcome in self.outcomes.values()],
        }


def record_path(folder: Path, entry: str) -> Path:
    """Returns where the record of an entry is in the folder of a night."""
    return folder / entry.replace("/", "__") / "record.json"


def check_date(text: str | None) -> str:
    """Returns a date as `2026-11-25`; today's in UTC for None. Raises a UsageError where it is not a date."""
    if text is None:
        return utc_now()[:10]
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise UsageError(f"--date {text}: expected a date such as 2026-11-25") from None


def open_night(out: Path, day: str, settings: Mapping[str, Any]) -> Night:
    """Returns the unfinished night of a date, or the next one where all are finished.

    An unfinished night with other settings counts as finished: what one night holds is measured alike.

    Raises:
      DataError: a summary cannot be read.
    """
    number = 1
    while True:
        folder = out / (day if number == 1 else f"{day}.{number}")
        night = _read_night(folder)
        if night is None:
            return Night(folder, settings, {}, utc_now())
        if night.finished is None and night.settings == settings:
            return night
        number += 1


def nights_before(folder: Path) -> Iterator[Path]:
    """Yields the folders of the nights before one, the last night first."""
    key = _key(folder)
    earlier = [path for path in folder.parent.iterdir() if _NAME.fullmatch(path.name) and _key(path) < key]
    yield from sorted(earlier, key=_key, reverse=True)


def last_record(folder: Path, entry: str) -> Path | None:
    """Returns the newest record of an entry in the nights before one, None where there is none."""
    records = (record_path(night, entry) for night in nights_before(folder))
    return next((path for path in records if path.exists()), None)


def _key(folder: Path) -> tuple[str, int]:
    match = _NAME.fullmatch(folder.name)
    assert match is not None, folder
    return match[1], int(match[2] or 1)


def _read_night(folder: Path) -> Night | None:
    path = folder / "summary.json"
    try:
        remedy = "move it away, or give another --date or --out"
        state = read_checked(path, NightSummary, "the summary of a night", remedy)
    except FileNotFoundError:
        return None
    names = [field.name for field in fields(Outcome)]
    outcomes = [Outcome(**{name: row[name] for name in names}) for row in state["entries"]]
    by_entry = {outcome.entry: outcome for outcome in outcomes}
    return Night(folder, state["settings"], by_entry, state["started"], state["finished"])

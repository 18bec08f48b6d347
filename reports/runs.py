"""Reads run records, alone or with the folder of their run."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import DataError
from zoo.files.json_files import read_json
from zoo.repro.records.record import read_record, run_name

if TYPE_CHECKING:
    import numpy as np

    from zoo.repro.records.run_folder import RunFolder


# The metrics per class that have a value, or None, for every class of the data set.
_CLASS_NAMING = ("pq", "iou")


@dataclass(frozen=True)
class Run:
    """A run record, and the file from which it was read."""

    path: Path
    record: dict[str, Any]

    @property
    def entry(self) -> str:
        """What was measured: the entry, or the name of the predictions that were scored."""
        return run_name(self.record)

    @property
    def is_of_predictions(self) -> bool:
        """Whether predictions were scored that another program made."""
        return self.record["entry"] is None

    @property
    def started(self) -> str:
        """When the run began, ISO 8601, UTC; empty where the record does not say."""
        return str(self.record.get("timings", {}).get("started", ""))

    @property
    def when(self) -> datetime | None:
        """`started` as a time."""
        try:
            return datetime.fromisoformat(self.started)
        except ValueError:
            return None

    @property
    def day(self) -> str:
        """The day on which the run began, as `2026-11-25`; `?` where the record does not say."""
        return self.started[:10] or "?"

    @property
    def settings(self) -> str:
        """What the run was asked to compute, in words; see `settings_of`."""
        return settings_of(self.record)

    @property
    def title(self) -> str:
        """The entry and the settings, which name a history of runs."""
        return f"{self.entry}, {self.settings}"

    @property
    def class_names(self) -> list[str]:
        """The data set's classes, by train id."""
        return next(filter(None, (list(self.per_class("internal", it)) for it in _CLASS_NAMING)), [])

    @property
    def thing_names(self) -> set[str]:
        """Names of the classes that have instances."""
        names = self.class_names
        ids = self.record.get("post_processing", {}).get("thing_class_ids", ())
        return {names[i] for i in ids if 0 <= i < len(names)}

    def value(self, evaluator: str, metric: str) -> float | None:
        """Returns a metric in percent, None where it was not measured or nothing of its kind occurs."""
        return finite_or_none(self.record.get("metrics", {}).get(evaluator, {}).get(metric))

    def per_class(self, evaluator: str, metric: str) -> dict[str, float | None]:
        """Returns class -> value, None where the class does not occur; nothing where it was not measured."""
        values = (self.record.get("per_class") or {}).get(evaluator, {}).get(metric, {})
        return {name: finite_or_none(value) for name, value in values.items()}

    def claim(self, evaluator: str, metric: str) -> dict[str, Any] | None:
        """Returns the claim about a metric; None where nothing was published."""
        claims = self.record["claims"]
        return next((it for it in claims if (it["evaluator"], it["metric"]) == (evaluator, metric)), None)

    def image_ids(self) -> list[str]:
        """Returns the images of the run; none unless the statistics of all are beside the record."""
        names = self.folder.images_of(self.record)
        return names if len(names) == self.record["images"] else []

    def images(self) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
        """Yields the name and the statistics of each image in `image_ids`.

        Raises:
          DataError: a file is damaged.
        """
        names = self.image_ids()
        yield from zip(names, self.folder.read_statistics(names), strict=True)

    @property
    def folder(self) -> RunFolder:
        """The folder that holds the record, and the run's files where they were kept."""
        # It reads arrays; most reports need the record alone.
        from zoo.repro.records.run_folder import RunFolder

        return RunFolder(self.path.parent)


def open_run(path: Path) -> Run:
    """Returns the run whose record is `path`, or is in the folder `path`, or is the only one below it.

    Raises:
      DataError: there is no record, or several, or it does not follow the schema.
    """
    found = record_files([path])
    if len(found) > 1:
        such = f"give one of them, as {found[0]} or {found[1]}"
        raise DataError(f"{path}: expected one run record, found {len(found)}; {such}")
    path = found[0]
    record = read_record(path)
    return Run(path / "record.json" if path.is_dir() else path, record)


def find_runs(paths: Iterable[Path]) -> list[Run]:
    """Returns all runs in files, run folders, and folders above them, the oldest first.

    In a folder above, `record.json` of each run folder counts, and every other `*.json` file that is a run
    record. Of a record and its copies, the one beside the files of its run counts.

    Raises:
      DataError: a path holds no run record, or a record cannot be read.
    """
    found: dict[str, Run] = {}
    for record in record_files(paths):
        run = open_run(record)
        content = json.dumps(run.record, sort_keys=True)
        if content not in found or (run.image_ids() and not found[content].image_ids()):
            found[content] = run
    return sorted(found.values(), key=lambda run: (run.started, str(run.path)))


def runs_in_order(paths: Iterable[str | os.PathLike[str]]) -> list[Run]:
    """Returns the runs that `find_runs` finds in each path, in the order of the paths, each once."""
    return list({run.path: run for path in paths for run in find_runs([Path(path)])}.values())


def record_files(paths: Iterable[Path]) -> list[Path]:
    """Returns the records and run folders that are given, and those below the folders that are given.

    Raises:
      DataError: there is no record in a folder.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir() or (path / "record.json").exists():
            found.append(path)
        elif below := sorted(_records_below(path)):
            found += below
        elif next(path.rglob("run.json"), None) is not None:
            remedy = "the run there is unfinished; run its `zoo reproduce` again to go on"
            raise DataError(f"{path}: no run record in it; {remedy}")
        else:
            raise DataError(f"{path}: no run record in it; `zoo reproduce NAME --out DIR` writes one")
    return found


def one_of_each_entry(runs: Iterable[Run]) -> list[Run]:
    """Returns the newest run of each entry, but before all others one measured as the published numbers."""

    def rank(run: Run) -> tuple[bool, bool, str]:
        settings = run.record.get("settings", {})
        plain = {"precision": "float32", "scales": [1.0], "flip": False}
        is_plain = all(settings.get(name, value) == value for name, value in plain.items())
        return is_plain, run.record["images"] == run.record["images_in_dataset"], run.started

    return [max(group, key=rank) for group in by_entry(runs).values()]


def by_entry(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Returns entry -> its runs, in the order given."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.entry, []).append(run)
    return groups


def _records_below(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        if "record.json" in files:
            yield Path(root) / "record.json"
        if "record.json" in files or "run.json" in files:
            # The folder of a run, maybe an unfinished one, holds many other files; none of them is a record.
            folders.clear()
            continue
        for path in (Path(root) / name for name in files if name.endswith(".json")):
            if {"schema", "entry", "claims"} <= set(read_json(path) or ()):
                yield path


def finite_or_none(value: Any) -> float | None:
    """Returns a finite number as a float, and None for anything else."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def conditions(record: Mapping[str, Any]) -> dict[str, str]:
    """Returns what a record was measured with and on, as text by name: what may change from run to run."""
    found: dict[str, Any] = {
        **record.get("settings", {}),
        "predictions": _short(record.get("predictions", {}).get("sha256")),
        "device": record.get("device", {}).get("kind"),
        "images": record.get("images"),
        "data": _short(record.get("dataset", {}).get("fingerprint")),
        "checkpoint": _short(record.get("checkpoint", {}).get("sha256")),
        "runtime": _runtime_of(record),
        "registry entry": _short(record.get("entry_digest")),
        **{f"{name} version": version for name, version in record.get("versions", {}).items()},
        "zoo's code": _short(record.get("code")),
    }
    return {name: _shown(value) for name, value in found.items() if value not in (None, "")}


def _runtime_of(record: Mapping[str, Any]) -> str:
    """Returns the name of what ran the network, and the digest of its model file where it has one."""
    runtime = record.get("runtime") or {"name": "tensorflow"}
    return " ".join(filter(None, (runtime["name"], _short(runtime.get("model_sha256")))))


def settings_of(record: Mapping[str, Any]) -> str:
    """Returns what the run of a record was asked to compute, in words.

    Numbers of other settings are not comparable. Device, versions and data are not settings: where they
    change, a history says so.
    """
    asked, images, of = (record.get(key) for key in ("settings", "images", "images_in_dataset"))
    if not asked:
        return "settings not recorded"
    scales = asked.get("scales") or [1.0]
    words = [
        str(asked.get("precision", "")),
        "" if scales == [1.0] else f"scales {', '.join(f'{scale:g}' for scale in scales)}",
        "with mirrored images" if asked.get("flip") else "",
        "all images" if images == of else f"{images} of {of or '?'} images",
    ]
    return " · ".join(word for word in words if word)


class ChangedCondition(NamedTuple):
    """A condition that differs between two records; `none` where one of them has no such condition."""

    name: str
    before: str
    after: str


def changed_conditions(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[ChangedCondition]:
    """Returns each condition that differs between two records."""
    old, new = conditions(before), conditions(after)
    return [
        ChangedCondition(name, old.get(name, "none"), new.get(name, "none"))
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]


def _short(digest: Any) -> str | None:
    return str(digest)[:10] if digest else None


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)
    return str(value)

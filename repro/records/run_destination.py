"""Where a run is made, and how its results replace earlier ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from zoo.errors import EvaluationError, ZooError
from zoo.files.atomic import writing
from zoo.files.cache import UNFINISHED_SUFFIX
from zoo.files.json_files import read_json
from zoo.files.locks import holding
from zoo.repro.records.record import read_record
from zoo.repro.records.run_folder import RunFolder

_TITLES = {
    "entry": "entry",
    "entry_digest": "declaration of the entry",
    "checkpoint_sha256": "checkpoint",
    "predictions_sha256": "predictions",
    "dataset_fingerprint": "data",
    "settings": "settings",
    "device": "kind of device",
    "runtime": "runtime",
    "versions": "package versions",
    "code": "code of zoo",
}


class RunDestination:
    """The place of one entry's results with one choice of settings.

    A run is made in `unfinished`, beside `finished`, and takes its place by a rename once its record is
    written: whatever ends a run early leaves the last results as they are. Results of something else (another
    checkpoint, other data, other software) are not replaced but kept under a name with their date.
    """

    def __init__(self, path: Path) -> None:
        path = Path(path)
        self.finished = RunFolder(path)
        self.unfinished = RunFolder(path.with_name(path.name + UNFINISHED_SUFFIX))
        self._replaced = RunFolder(path.with_name(f".{path.name}.replaced"))

    def in_use(self) -> AbstractContextManager[None]:
        """Holds the destination for this process.

        Raises:
          InUseError: another process is running in it.
          ZooError: it cannot be written.
        """
        path = self.finished.root
        return holding(path.with_name(f".{path.name}.lock"), f"{path}: another process is running there")

    def check(self, identity: Mapping[str, Any], *, restart: bool = False) -> None:
        """Raises early what `open` would raise, without touching a file.

        Raises:
          EvaluationError: an unfinished run of another identity is here, with images that it has evaluated;
            or the destination is a file.
        """
        root = self.finished.root
        if root.exists() and not root.is_dir():
            raise EvaluationError(
                f"{root}: is a file, expected a folder; move it away, or give another --out"
            )
        found = self.unfinished.identity()
        if restart or found in (None, identity) or self._is_complete() or not self.unfinished.has_images():
            return
        assert found is not None
        changed = [key for key in {**found, **identity} if found.get(key) != identity.get(key)]
        raise EvaluationError(
            f"{self.unfinished.root}: holds an unfinished run with "
            f"another {', another '.join(_TITLES.get(key, key) for key in changed)}; "
            "--restart discards it, another --out keeps it"
        )

    def open(self, identity: Mapping[str, Any], *, restart: bool = False) -> RunFolder:
        """Returns the folder to make the run in; an unfinished run of the same identity is resumed.

        Numbers of a finished run are never reused: asking again measures again.

        Raises:
          EvaluationError: see `check`.
          ZooError: a folder cannot be written.
        """
        self.check(identity, restart=restart)
        if self._is_complete() or self._replaced.root.exists():
            # A process ended between its last write and the rename.
            self.finish()
        if restart or self.unfinished.identity() != identity:
            with writing(self.unfinished.root):
                self.unfinished.clear()
        self.unfinished.create(identity)
        return self.unfinished

    def finish(self) -> Path | None:
        """Replaces the last results by the run whose record is written.

        Returns where the last results are kept if they are of something else, else None.
        """
        root, kept = self.finished.root, None
        with writing(root):
            if self._is_complete():
                if root.exists():
                    kept = self._name_for_kept()
                    os.rename(root, kept or self._replaced.root)
                os.rename(self.unfinished.root, root)
            self._remove_replaced()
        return kept

    def discard(self) -> None:
        """Removes the unfinished run."""
        self.unfinished.clear()
        self.unfinished.root.rmdir()

    @contextmanager
    def sending(self) -> Iterator[Callable[[list[Path]], None] | None]:
        """Gives what takes the files of each image once they are complete, or None where nothing has to."""
        yield None

    @property
    def place(self) -> str:
        """Where the results are."""
        return str(self.finished.root)

    def _is_complete(self) -> bool:
        record = read_json(self.unfinished.root / "record.json")
        # Where a script failed, the next run resumes at the scripts.
        return record is not None and "failed" not in record.get("official_scripts", {})

    def _name_for_kept(self) -> Path | None:
        """Returns a free name with the date of the finished run, None where it is to be replaced."""
        root = self.finished.root
        record = root / "record.json"
        if not record.exists() or self.finished.identity() == self.unfinished.identity():
            return None
        try:
            started = datetime.fromisoformat(str(read_record(root)["timings"]["started"]))
        except (ZooError, KeyError, TypeError, ValueError):
            started = datetime.fromtimestamp(record.stat().st_mtime, timezone.utc)
        name = f"{root.name}__{started:%Y-%m-%dT%H-%M-%S}"
        free, number = root.with_name(name), 2
        while free.exists():
            free, number = root.with_name(f"{name}.{number}"), number + 1
        return free

    def _remove_replaced(self) -> None:
        """Removes what a run had written; moves the user's own files to the new folder."""
        old = self._replaced.root
        if not old.exists():
            return
        self._replaced.clear()
        for path in old.iterdir():
            target = self.finished.root / path.name
            if path.name == ".lock":
                # Earlier versions locked the folder itself.
                path.unlink()
            elif not target.exists():
                os.rename(path, target)
        if old.is_symlink():
            old.unlink()
        elif not any(old.iterdir()):
            old.rmdir()

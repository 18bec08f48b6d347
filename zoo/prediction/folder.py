"""The folder that a user's predictions go to: what they are made with, and which are done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from zoo.errors import DataError, UsageError, ZooError
from zoo.files.atomic import writing
from zoo.files.json_files import read_json, write_json
from zoo.files.locks import holding

SETTINGS_NAME = "predict.json"
LOG_NAME = "predicted.jsonl"

_TITLES = {
    "entry": "",
    "entry_digest": "another declaration of the entry",
    "checkpoint_sha256": "another checkpoint",
}


class Source(NamedTuple):
    """A user's file, as it was when its prediction was made."""

    path: str
    bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Source:
        """Returns what a file is now; raises a DataError where it cannot be looked at."""
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
        return cls(str(path), status.st_size, status.st_mtime_ns)


class Done(NamedTuple):
    """A picture or video whose predictions are written."""

    source: Source
    frames: int | None  # of a video

    def names(self, name: str) -> list[str]:
        """Returns what the predictions of its picture, or of its frames, are called."""
        if self.frames is None:
            return [name]
        return [frame_name(name, number) for number in range(1, self.frames + 1)]


def frame_name(video: str, number: int) -> str:
    """Returns what the predictions of a video's frame are called, `number` counting from 1."""
    return f"{video}/{number:06d}"


class PredictionFolder:
    """A folder of predictions by one network with one choice of settings.

    `predict.json` holds what the predictions are made with; `predicted.jsonl` gets a line for each picture or
    video once its predictions are written, so that an interrupted call resumes.
    """

    def __init__(self, root: Path, settings: Mapping[str, Any]) -> None:
        """Takes a folder that may be new; nothing is written yet.

        Args:
          root: the folder.
          settings: what the predictions are made with, as JSON values.
        """
        self.root = root
        self._settings = dict(settings)
        self._log = root / LOG_NAME
        self._done: dict[str, Done] = {}

    def in_use(self) -> AbstractContextManager[None]:
        """Holds the folder for this process; raises an InUseError where another one writes to it."""
        return holding(self.root / ".lock", f"{self.root}: another process is writing predictions there")

    def open(self) -> None:
        """Reads what is done; notes what the predictions are made with where the folder is new.

        Raises:
          UsageError: it holds predictions made with something else.
          ZooError: its notes are damaged, or it cannot be written.
        """
        path = self.root / SETTINGS_NAME
        found = read_json(path)
        if found is None:
            if path.exists() or self._log.exists():
                raise ZooError(f"{path}: is missing or damaged; give another --out, or remove the folder")
            write_json(path, self._settings)
        elif found != self._settings:
            raise UsageError(
                f"{self.root}: holds predictions made with {self._what_differs(found)}; give another --out"
            )
        self._read_log()

    def _what_differs(self, found: Mapping[str, Any]) -> str:
        for key in (*self._settings, *found):
            value = found.get(key)
            if value != self._settings.get(key):
                if value is None or isinstance(value, bool):
                    return f"--{key}" if value else f"no --{key}"
                words = ",".join(map(str, value)) if isinstance(value, list) else value
                return _TITLES.get(key, f"--{key} {words}") or f"{words}"
        raise AssertionError(found)

    def _read_log(self) -> None:
        if not self._log.exists():
            return
        data = self._log.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            # The process ended in the middle of a line.
            with writing(self._log), self._log.open("r+b") as file:
                file.truncate(len(whole))
        for line in whole.splitlines():
            try:
                note = json.loads(line)
                source = Source(note["path"], note["bytes"], note["mtime_ns"])
                self._done[note["name"]] = Done(source, note["frames"])
            except (ValueError, KeyError, TypeError):
                continue

    def find(self, name: str, path: Path) -> Done | None:
        """Returns what is noted of a picture or video, None where it is not done or has changed since.

        Raises:
          UsageError: the predictions of that name are those of another file.
        """
        done = self._done.get(name)
        if done is None or not path.exists():
            # What is gone is said when it is read.
            return None
        source = Source.of(path)
        if done.source[1:] == source[1:]:
            return done
        if done.source.path != source.path:
            raise UsageError(
                f"{self.root}: holds {name} of {done.source.path}, found {path} of the same name; "
                "give another --out, or both in one call"
            )
        return None

    def note(self, name: str, source: Source, frames: int | None = None) -> None:
        """Notes that the predictions of a picture or video are written."""
        self._done[name] = Done(source, frames)
        line = json.dumps({"name": name, **source._asdict(), "frames": frames})
        with writing(self._log), self._log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def names(self) -> Iterable[str]:
        """Yields the names of all predictions in the folder, those of frames too."""
        for name in sorted(self._done):
            yield from self._done[name].names(name)

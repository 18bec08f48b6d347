"""Starts the official scripts in processes and folders of their own, and says plainly how they ended."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import EvaluationError
from zoo.files.processes import signal_group

# Of what a script that failed has printed: a traceback's worth.
_LINES_KEPT = 20
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class ScriptError(EvaluationError):
    """An official script failed; `output` is the end of what it printed, line by line."""

    def __init__(self, message: str, output: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.output = list(output)


class Jobs:
    """Runs jobs of `zoo.repro.official.process`; `close` ends those that still run."""

    def __init__(self, folder: Path) -> None:
        """Takes the folder in which each job gets a folder of its own."""
        self._folder = folder
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False
        self._lock = threading.Lock()

    def run(
        self,
        name: str,
        job: Mapping[str, Any],
        *,
        environment: Mapping[str, str] | None = None,
        patience_s: float,
    ) -> tuple[Path, float]:
        """Runs one job to its end.

        Args:
          name: name of the job's working folder; one of an earlier run is removed.
          job: `script`, the official module; `run`, what calls it (see `zoo.repro.official.process.main`);
            and what that needs. Paths are taken relative to the working folder.
          environment, patience_s: variables to set, and seconds after which the script is given up.

        Returns:
          The working folder and the seconds that the job took.

        Raises:
          ScriptError: the script failed, or took too long; with its last line and where its output is.
          EvaluationError: it was ended, or not started, because the run ended.
        """
        work = self._folder / name
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        (work / "job.json").write_text(json.dumps({**job, "parent": os.getpid()}, indent=1), encoding="utf-8")
        log = work / "log.txt"
        start = time.perf_counter()
        with log.open("wb") as output:
            process = self._start(work, output, environment or {})
            try:
                code = process.wait(patience_s)
            except subprocess.TimeoutExpired:
                signal_group(process)
                process.wait()
                message = f"{job['script']}: was ended after {patience_s:.0f} s; its output is in {log}"
                raise ScriptError(message, _last_lines(log)) from None
            finally:
                with self._lock:
                    self._running.discard(process)
        if self._closed:
            raise EvaluationError(f"{job['script']}: was ended because the run ended")
        if code != 0:
            lines = _last_lines(log) or ["no output"]
            message = f"{job['script']}: ended with code {code}: {lines[-1]}; its output is in {log}"
            raise ScriptError(message, lines)
        return work, time.perf_counter() - start

    def close(self) -> None:
        """Ends every job that still runs."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for process in running:
            signal_group(process)
            process.wait()

    def _start(self, work: Path, output: Any, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        variables = {key: value for key, value in os.environ.items() if not key.startswith("CITYSCAPES_")}
        # One thread each: the scripts' processes share the cores already.
        variables |= {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with self._lock:
            if self._closed:
                raise EvaluationError(f"{work.name}: not started because the run ended")
            process = subprocess.Popen(
                [sys.executable, "-m", "zoo.repro.official.process", "job.json"],
                cwd=work,
                env={**variables, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running.add(process)
        return process


def provenance(jobs: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    """Returns packages with versions, and each module's SHA-256 and whether it is as published.

    A module is as published where its digest is the one in the list of files that its package came with.
    Each job names an official module as its `script`.
    """
    packages: dict[str, str] = {}
    scripts: dict[str, Any] = {}
    for module in (job["script"] for job in jobs):
        package = module.partition(".")[0]
        distribution = importlib.metadata.distribution(package)
        packages[package] = f"{package} {distribution.version}"
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise EvaluationError(f"{module}: is not installed; install {package} again")
        digest = hashlib.sha256(Path(spec.origin).read_bytes()).digest()
        listed = {str(file): file.hash for file in distribution.files or []}
        listed_hash = listed.get(module.replace(".", "/") + ".py")
        encoded = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        as_published = None
        if listed_hash is not None and listed_hash.mode == "sha256":
            as_published = listed_hash.value == encoded
        scripts[module.rsplit(".", 1)[1]] = {"sha256": digest.hex(), "as_published": as_published}
    return {"package": ", ".join(packages.values()), "scripts": scripts}


def mirror_files(files: Mapping[str, Path], folder: Path) -> None:
    """Makes a folder of links to files (copies where links are not allowed), by name relative to it."""
    for name, target in files.items():
        link = folder / name
        link.parent.mkdir(parents=True, exist_ok=True)
        try:
            link.symlink_to(target.resolve())
        except OSError:
            shutil.copyfile(target, link)


def _last_lines(log: Path) -> list[str]:
    text = _COLOUR.sub("", log.read_text(encoding="utf-8", errors="replace"))
    return [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()][-_LINES_KEPT:]

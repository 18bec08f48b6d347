"""A night: measures every entry that can be measured here, one after the other, each in its own process."""

from __future__ import annotations

import hashlib
import itertools
import json
import signal
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import InterruptedRunError, ZooError
from zoo.fetch.fetcher import Fetcher
from zoo.fetch.locations import on_disk
from zoo.files.atomic import write_atomically, writing
from zoo.files.cache import Cache
from zoo.files.json_files import write_json
from zoo.files.keras_backend import chosen_backend
from zoo.files.locks import holding
from zoo.files.progress import say
from zoo.files.words import counted, readable_size, utc_now
from zoo.reports.page import html
from zoo.reports.runs import find_runs, open_run
from zoo.reports.tables.measured import measured_tables
from zoo.reports.tables.night_summary import summarize, summary_markdown
from zoo.repro.cluster.connection import connected, import_ray
from zoo.repro.cluster.workers import LOCAL
from zoo.repro.datasets.opening import open_dataset
from zoo.repro.nights.limited import Call, Ended, wait_for_one
from zoo.repro.nights.order import longest_first
from zoo.repro.records.claim_words import NOT_JUDGED, NOT_MEASURABLE
from zoo.repro.records.claims import all_hold
from zoo.repro.records.night_folder import (
    FAILED,
    HELD,
    MISSED,
    NOT_RUN,
    UNFINISHED,
    Night,
    Outcome,
    check_date,
    last_record,
    nights_before,
    open_night,
    record_path,
)
from zoo.repro.records.record import read_record
from zoo.repro.records.software import code_digest, versions
from zoo.repro.run.settings import RunSettings
from zoo.runtimes.choice import DEFAULT

if TYPE_CHECKING:
    from zoo.registry import Entry, Registry
    from zoo.repro.cluster.workers import Workers

WORK = "work"
"""The folder of the run folders, beside the nights."""

# How many nights the history on a page goes back.
_PAGE_NIGHTS = 60
# One that ends, adds up and writes while another computes.
_RUNS_ON_A_CLUSTER = 2


@dataclass(frozen=True)
class NightSettings:
    """What a user may choose about a night."""

    data: Mapping[str, Path] = field(default_factory=dict)  # data set -> its folder, if it is not bundled
    fetch: bool = False  # whether checkpoints and data sets that are not on disk may be downloaded
    timeout_s: float | None = None  # how long an entry may take
    memory_bytes: int | None = None  # what an entry's processes may hold together
    limit: int | None = None  # evaluate only the first images of each data set
    device: str = "auto"  # see `zoo.network.devices.strategy_for`
    runtime: str = DEFAULT  # see `zoo.runtimes.choice.RUNTIMES`
    model: Path | None = None  # the file of `zoo export` that it runs
    threshold: float = 0.1  # percentage points by which a metric may fall since an entry's last record
    strict: bool = False  # whether claims that were not judged have an exit code of their own
    date: str | None = None  # as `2026-11-25`; None for today's, UTC
    registry_files: tuple[Path, ...] = ()  # the user's own
    workers: Workers | None = None  # of a cluster, for all runs


def run_night(registry: Registry, names: Sequence[str], out: Path, settings: NightSettings) -> dict[str, Any]:
    """Measures entries, each in a process of its own, and returns the night's summary.

    A night that was stopped resumes with the entries that have no record yet, and resumes their unfinished
    runs. Records and summary are in `out/<date>`; run folders are in `out/work`, where the next night's
    replace them. Names are of entries, or globs; none stand for all entries.

    Raises:
      InterruptedRunError: stopped by the user; the summary so far is written.
      UsageError: an unknown name, or not a date.
      ZooError: another process is running a night in `out`, or it cannot be written; a named folder does not
        hold its data set.
    """
    day = check_date(settings.date)
    for name, folder in settings.data.items():
        # Each entry reports images that cannot be used; a folder without the data set is a wrong call.
        open_dataset(registry.dataset(name), folder, Fetcher(), keep_going=True)
    entries = registry.select(names)
    named = {registry.resolve(name).name for name in names if not set(name) & set("*?[")}
    with holding(out / ".lock", f"{out}: another night is running there"), _ended_by_sigterm():
        night = open_night(out, day, _compared(settings))
        return _NightRun(night, registry, out, settings).run(entries, named)


@dataclass(frozen=True)
class _NightRun:
    """A night that is running."""

    night: Night
    registry: Registry
    out: Path
    settings: NightSettings

    def run(self, entries: Sequence[Entry], named: set[str]) -> dict[str, Any]:
        night = self.night
        if night.outcomes:
            measured = counted(len(night.measured()), "entry", "entries")
            say(f"resuming night {night.folder.name} with {measured} measured")
        queue = self._plan(entries, named)
        self._write()
        with self._cluster() as workers:
            self._measure(queue, workers)
        night.finished = utc_now()
        self._write_page()
        return self._write()

    @contextmanager
    def _cluster(self) -> Iterator[Workers | None]:
        """Yields the workers that the runs use; Ray on this machine is started once for all."""
        workers = self.settings.workers
        if workers is None or workers.address != LOCAL:
            yield workers
            return
        with connected(workers):
            yield replace(workers, address=import_ray().get_runtime_context().gcs_address)

    def _measure(self, queue: Sequence[Entry], workers: Workers | None) -> None:
        """Runs each entry to its end, or to a limit; on a cluster the longest first, and several at once.

        There, workers that one run no longer needs begin with the next.
        """
        night, waiting, at_once, done = self.night, deque(queue), 1, 0
        if workers is not None:
            waiting, at_once = deque(longest_first(queue, self.registry, night.folder)), _RUNS_ON_A_CLUSTER
        try:
            with ExitStack() as stack:
                running: dict[str, Call] = {}
                while waiting or running:
                    while waiting and len(running) < at_once:
                        entry = waiting.popleft()
                        number = len(queue) - len(waiting)
                        say(f"{number} of {len(queue)}: {entry.name} (output: {night.log_path(entry.name)})")
                        running[entry.name] = stack.enter_context(self._begin(entry, workers))
                    name, ended = wait_for_one(running)
                    del running[name]
                    night.outcomes[name] = self._outcome(name, ended)
                    self._write()
                    say(_describe(night.outcomes[name]))
                    done += 1
        except KeyboardInterrupt:
            self._write()
            self._write_page()
            raise InterruptedRunError(
                f"night {night.folder.name}: interrupted with {done} of {len(queue)} entries done; "
                f"run the same command again to resume (so far: {night.folder / 'summary.md'})"
            ) from None

    def _plan(self, entries: Sequence[Entry], named: set[str]) -> list[Entry]:
        """Notes the entries that cannot be measured here, and returns those that are to be measured."""
        night, before, queue = self.night, self.night.outcomes, []
        night.outcomes = {
            name: outcome
            for name, outcome in before.items()
            if night.record_path(name).exists() or outcome.result == FAILED
        }
        for entry in entries:
            record = night.record_path(entry.name)
            waiting = before.get(entry.name, Outcome(entry.name, UNFINISHED, "stopped before its turn"))
            if record.exists():
                # Killed between writing the record and the summary: only duration and memory are lost.
                if waiting.result == UNFINISHED:
                    night.outcomes[entry.name] = Outcome(entry.name, _judged(read_record(record)))
            elif (missing := self._what_is_missing(entry)) is None:
                queue.append(entry)
                night.outcomes[entry.name] = waiting
            else:
                wanted = entry.name in named or last_record(night.folder, entry.name) is not None
                night.outcomes[entry.name] = Outcome(entry.name, NOT_RUN, missing, wanted)
        return queue

    def _what_is_missing(self, entry: Entry) -> str | None:
        """Returns why an entry cannot be measured here, or None."""
        cache, dataset = Cache(), self.registry.dataset(entry.dataset)
        if dataset.name not in self.settings.data and dataset.path is None:
            if dataset.archive is None:
                return f"no data; give --data {dataset.name}=DIR"
            if not (self.settings.fetch or on_disk(dataset.archive.url, cache)):
                return f"no data; give --data {dataset.name}=DIR, or --fetch"
        if not (self.settings.fetch or on_disk(entry.checkpoint.url, cache)):
            if entry.checkpoint.url.startswith("file://"):
                return f"no checkpoint; {entry.checkpoint.url} is not there"
            return "no checkpoint; `zoo fetch` it, or give --fetch"
        return None

    def _begin(self, entry: Entry, workers: Workers | None) -> Call:
        """Starts the run of one entry."""
        night, digest = self.night, self._software_digest(entry)
        # Resumes only what this night began with the same software.
        restart = night.outcomes[entry.name].begun_with != digest
        begun = Outcome(entry.name, UNFINISHED, "stopped while it ran", begun_with=digest)
        night.outcomes[entry.name] = begun
        self._write()
        # The record of another night, or of a process that ended before its record was copied.
        made, log = self._made(entry.name), night.log_path(entry.name)
        with writing(log):
            made.unlink(missing_ok=True)
            log.parent.mkdir(parents=True, exist_ok=True)
        words, settings = self._words(entry, restart=restart), self.settings
        words += [] if workers is None else workers.words()
        return Call(words, log, timeout_s=settings.timeout_s, memory_bytes=settings.memory_bytes)

    def _outcome(self, name: str, ended: Ended) -> Outcome:
        """Returns what became of an entry whose process has ended; copies its record into the night."""
        begun, made = self.night.outcomes[name], self._made(name)
        outcome = replace(begun, duration_s=ended.duration_s, peak_memory_bytes=ended.peak_memory_bytes)
        if ended.exit_code in (0, 1) and ended.limit is None and made.exists():
            record = read_record(made)
            write_json(self.night.record_path(name), record)
            return replace(outcome, result=_judged(record), reason=None, begun_with=None)
        return replace(outcome, result=FAILED, reason=ended.error.removeprefix(f"{name}: "))

    def _made(self, entry: str) -> Path:
        """Returns where `zoo reproduce` leaves the record of an entry."""
        chosen = self.settings
        settings = RunSettings(
            limit=chosen.limit, device=chosen.device, runtime=chosen.runtime, model=chosen.model
        )
        return self.out / WORK / settings.folder_name(entry) / "record.json"

    def _words(self, entry: Entry, *, restart: bool) -> list[str]:
        settings = self.settings
        words = [word for path in settings.registry_files for word in ("--registry", str(path))]
        words += ["reproduce", entry.name, "--out", str(self.out / WORK), "--device", settings.device]
        if entry.dataset in settings.data:
            words += ["--data", str(settings.data[entry.dataset])]
        if settings.limit is not None:
            words += ["--limit", str(settings.limit)]
        if settings.runtime != chosen_backend():
            words += ["--runtime", settings.runtime]
        if settings.model is not None:
            words += ["--model", str(settings.model), "--trust"]
        return [*words, "--restart"] if restart else words

    def _software_digest(self, entry: Entry) -> str:
        data = str(self.settings.data.get(entry.dataset, ""))
        parts = json.dumps([code_digest(), versions(), entry.digest(), data], sort_keys=True)
        return hashlib.sha256(parts.encode()).hexdigest()

    def _write(self) -> dict[str, Any]:
        """Writes all that is made from the night's records; returns the summary."""
        night, settings = self.night, self.settings
        summary = summarize(night, settings.threshold, strict=settings.strict)
        write_json(night.folder / "summary.json", summary)
        known = {entry.name for entry in self.registry.entries}
        records = [night.record_path(name) for name in night.measured() if name in known]
        measured = measured_tables(self.registry, map(open_run, records))
        write_atomically(night.folder / "summary.md", summary_markdown(summary, night))
        write_atomically(night.folder / "measured.md", measured)
        return summary

    def _write_page(self) -> None:
        """Writes the night's page: the history of its entries, and the pictures in the run folders."""
        night = self.night
        folders = [night.folder, *itertools.islice(nights_before(night.folder), _PAGE_NIGHTS - 1)]
        entries = night.measured()
        records = [record_path(folder, name) for folder in folders for name in entries]
        records = [path for path in (*records, *map(self._made, entries)) if path.exists()]
        if not entries:
            return
        try:
            text = html.page(find_runs(records))
        except ZooError as error:
            # A damaged record of an earlier night is no reason to lose this one.
            say(f"no page of the night: {error}")
        else:
            write_atomically(night.folder / "report.html", text)


def _compared(settings: NightSettings) -> dict[str, Any]:
    """Returns the settings that a stopped night must have had to be resumed."""
    runtime = {"runtime": settings.runtime, "model": str(settings.model)}
    return {
        "limit": settings.limit,
        "device": settings.device,
        **(runtime if settings.runtime != DEFAULT else {}),
    }


def _judged(record: Mapping[str, Any]) -> str:
    claims = record["claims"]
    if all(claim["verdict"] in (NOT_JUDGED, NOT_MEASURABLE) for claim in claims):
        return NOT_JUDGED
    return HELD if all_hold(claims) else MISSED


def _describe(outcome: Outcome) -> str:
    why = f": {outcome.reason}" if outcome.reason else ""
    used = f"{outcome.duration_s or 0:.0f} s, {readable_size(outcome.peak_memory_bytes or 0)}"
    return f"{outcome.entry}: {outcome.result}{why} ({used})"


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Treats SIGTERM like an interrupt."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

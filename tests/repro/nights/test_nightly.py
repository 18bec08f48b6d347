"""A night from end to end: the installed program, killed, interrupted, gone on with, and compared."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from zoo.repro.records.night_folder import record_path

CITY = "minicity/mobilenet_v3_small_os16"
COCO = "minicoco/mobilenet_v3_small_os16"
DAMAGED = "mine/damaged"
DAY = "2026-11-25"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="process groups")

Call = Callable[..., Any]


def folder_of(entry: str) -> str:
    return entry.replace("/", "__")


@dataclass
class Stopped:
    """A night that was started and stopped before its end."""

    code: int
    stderr: str
    summary: dict[str, Any]


@dataclass
class Nights:
    """One night that was interrupted, killed, and ended in a third call; and the one after it."""

    out: Path
    interrupted: Stopped
    killed: Stopped
    record_kept: bool
    images_kept: set[str]
    first: subprocess.CompletedProcess[str]
    second: subprocess.CompletedProcess[str]

    def summary(self, night: str) -> dict[str, Any]:
        text = (self.out / night / "summary.json").read_text(encoding="utf-8")
        summary: dict[str, Any] = json.loads(text)
        return summary

    def rows(self, night: str) -> dict[str, dict[str, Any]]:
        return {row["entry"]: row for row in self.summary(night)["entries"]}


@pytest.fixture(scope="module")
def own_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with an entry whose archive ends too early, and one whose archive is not there."""
    folder = tmp_path_factory.mktemp("own")
    archive = resources.files("zoo.assets").joinpath("minicity_mobilenet_v3_small_os16.tar.gz").read_bytes()
    (folder / "damaged.tar.gz").write_bytes(archive[:-4096])
    path = folder / "own.yaml"
    path.write_text(
        "entries:\n"
        + "".join(
            f"  mine/{name}:\n    extends: {CITY}\n    title: Own\n    checkpoint: {name}.tar.gz\n"
            "    published: {official: {pq: 74.2}, source: here}\n"
            for name in ("damaged", "absent")
        )
    )
    return path


@pytest.fixture(scope="module")
def nights(
    own_registry: Path,
    zoo_command: Call,
    zoo_start: Call,
    tmp_path_factory: pytest.TempPathFactory,
) -> Nights:
    out = tmp_path_factory.mktemp("nights")
    words = ["--registry", own_registry, "nightly", "--out", out, "--date", DAY, "--limit", 2]

    def stop(until: Callable[[], bool], number: signal.Signals) -> Stopped:
        with zoo_start(*words) as process:
            while not until():
                assert process.poll() is None, process.communicate()[1]
                time.sleep(0.01)
            process.send_signal(number)
            stderr = process.communicate()[1]
        summary = json.loads((out / DAY / "summary.json").read_text(encoding="utf-8"))
        return Stopped(process.returncode, stderr, summary)

    def images_of(entry: str) -> list[Path]:
        """Returns the statistics of the entry's run, finished or not."""
        return sorted((out / "work").glob(f"{folder_of(entry)}__limit2*/images/*.npz"))

    def has_images(entry: str) -> bool:
        return any(images_of(entry))

    def times_of(entry: str) -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in images_of(entry)}

    interrupted = stop((out / DAY / folder_of(CITY) / "log.txt").exists, signal.SIGINT)
    killed = stop(lambda: has_images(COCO), signal.SIGKILL)
    record_ns = record_path(out / DAY, CITY).stat().st_mtime_ns
    before = times_of(COCO)
    first = zoo_command(*words)
    record_kept = record_path(out / DAY, CITY).stat().st_mtime_ns == record_ns
    after = times_of(COCO)
    images_kept = {name for name in before if before[name] == after.get(name)}

    # The last night, had it been better: what is measured tonight fell.
    path = record_path(out / DAY, CITY)
    record = json.loads(path.read_text(encoding="utf-8"))
    record["metrics"]["official"]["pq"] += 0.3
    record["metrics"]["official"]["miou"] -= 0.3
    path.write_text(json.dumps(record), encoding="utf-8")
    second = zoo_command(*words, CITY, COCO, "--json")
    return Nights(out, interrupted, killed, record_kept, images_kept, first, second)


def test_an_interrupt_writes_the_summary_so_far(nights: Nights) -> None:
    assert nights.interrupted.code == 130
    last = nights.interrupted.stderr.splitlines()[-1]
    assert last.startswith(f"zoo: error: night {DAY}: interrupted with 0 of 4 entries done; ")
    assert last.endswith(f"{nights.out / DAY / 'summary.md'})")
    rows = {row["entry"]: row for row in nights.interrupted.summary["entries"]}
    assert {rows[name]["result"] for name in (CITY, COCO, DAMAGED)} == {"unfinished"}
    assert rows[CITY]["reason"] == "stopped while it ran"
    assert rows[COCO]["reason"] == "stopped before its turn"
    assert nights.interrupted.summary["finished"] is None
    assert nights.interrupted.summary["exit_code"] == 3


def test_a_killed_night_keeps_what_is_done(nights: Nights) -> None:
    assert nights.killed.code == -signal.SIGKILL
    rows = {row["entry"]: row for row in nights.killed.summary["entries"]}
    assert (rows[CITY]["result"], rows[COCO]["result"]) == ("not judged", "unfinished")


def test_a_stopped_night_goes_on(nights: Nights) -> None:
    assert f"zoo: resuming night {DAY} with 2 entries measured" in nights.first.stderr
    assert f"zoo: 1 of 2: {COCO}" in nights.first.stderr
    log = (nights.out / DAY / folder_of(COCO) / "log.txt").read_text(encoding="utf-8")
    found = re.search(r"resuming a run with (\d) images? done in", log)
    assert found is not None, log
    # One more may have been written between our look and the end of the killed process.
    assert 1 <= len(nights.images_kept) <= int(found[1])
    # What was measured before the night was killed is not measured again.
    assert nights.record_kept
    city = (nights.out / DAY / folder_of(CITY) / "log.txt").read_text(encoding="utf-8")
    assert city.count("zoo: run record: ") == 1


def test_one_failure_does_not_stop_the_others(nights: Nights) -> None:
    rows = nights.rows(DAY)
    assert nights.first.returncode == nights.summary(DAY)["exit_code"] == 3
    assert nights.summary(DAY)["finished"]
    for name, claims in ((CITY, 6), (COCO, 5)):
        assert rows[name]["result"] == "not judged"
        assert len(rows[name]["claims"]) == claims
        assert (rows[name]["images"], rows[name]["images_in_dataset"]) == (2, 30)
        assert rows[name]["duration_s"] > 1
        assert rows[name]["peak_memory_bytes"] > 100e6
        assert rows[name]["change"]["night"] is None
    assert rows[DAMAGED]["result"] == "failed"
    assert "damaged.tar.gz" in rows[DAMAGED]["reason"]
    assert "\n" not in rows[DAMAGED]["reason"]
    assert "record" not in rows[DAMAGED]


def test_the_summary_is_complete(nights: Nights) -> None:
    rows = nights.rows(DAY)
    assert rows["cityscapes/resnet50_os32"]["reason"] == "no data; give --data cityscapes=DIR"
    assert rows["mine/absent"]["result"] == "not run"
    assert rows["mine/absent"]["reason"].startswith("no checkpoint; file://")
    page = (nights.out / DAY / "summary.md").read_text(encoding="utf-8")
    for text in (page, nights.first.stdout):
        assert all(row["entry"] in text for row in rows.values())
        assert rows[DAMAGED]["reason"] in text
        assert "3 not judged, 1 failed, 37 not run. Exit code 3." in text
    measured = (nights.out / DAY / "measured.md").read_text(encoding="utf-8")
    assert "### Bundled entries" in measured
    assert f"- {CITY}: 2 of 30 images" in measured


def test_the_second_night_is_compared_with_the_first(nights: Nights) -> None:
    assert nights.second.returncode == 1, nights.second.stderr
    summary = json.loads(nights.second.stdout)
    assert summary == nights.summary(f"{DAY}.2")
    assert summary["exit_code"] == 1
    changes = {row["entry"]: row["change"] for row in summary["entries"]}
    assert list(changes) == [CITY, COCO]
    assert {change["night"] for change in changes.values()} == {DAY}
    (fell,), (rose,) = changes[CITY]["fell"], changes[CITY]["rose"]
    assert (fell["evaluator"], fell["metric"]) == ("official", "pq")
    assert (rose["evaluator"], rose["metric"]) == ("official", "miou")
    assert fell["difference"] == pytest.approx(-0.3)
    # Everything else is the same to the last digit, on the same machine.
    others = [change for change in changes[CITY]["metrics"] if change not in (fell, rose)]
    assert {change["difference"] for change in (*others, *changes[COCO]["metrics"])} == {0}


def test_the_page_has_the_history_and_the_pictures(nights: Nights) -> None:
    pages = [(nights.out / night / "report.html").read_text(encoding="utf-8") for night in (DAY, f"{DAY}.2")]
    for entry in (CITY, COCO):
        assert all(entry in page for page in pages)
    assert pages[0].count("History") < pages[1].count("History")
    assert all("data:image/" in page for page in pages)


def test_a_night_is_measured_anew(nights: Nights) -> None:
    log = (nights.out / f"{DAY}.2" / folder_of(COCO) / "log.txt").read_text(encoding="utf-8")
    assert "resuming a run" not in log
    record = json.loads((nights.out / f"{DAY}.2" / folder_of(COCO) / "record.json").read_text())
    assert record["timings"]["images_computed"] == 2


def test_a_night_is_small(nights: Nights) -> None:
    files = [path for path in (nights.out / f"{DAY}.2").rglob("*") if path.is_file()]
    sizes = {path.name: path.stat().st_size for path in files}
    assert sum(size for name, size in sizes.items() if name != "report.html") < 400_000
    assert sizes["report.html"] < 2_000_000
    assert set(sizes) == {
        "record.json",
        "log.txt",
        "measured.md",
        "report.html",
        "summary.json",
        "summary.md",
    }
    assert {path.name for path in nights.out.iterdir()} == {".lock", "work", DAY, f"{DAY}.2"}


# ---- what does not run ----


def test_an_entry_that_is_named_has_to_run(zoo_call: Call, tmp_path: Path) -> None:
    done = zoo_call("nightly", "cityscapes/resnet50_os32", "coco/*", "--out", tmp_path, "--json")
    assert done.returncode == 3
    rows = {row["entry"]: row for row in json.loads(done.stdout)["entries"]}
    assert {name for name, row in rows.items() if row["wanted"]} == {"cityscapes/resnet50_os32"}
    assert {row["result"] for row in rows.values()} == {"not run"}
    assert len(rows) == 12


def test_what_ran_in_an_earlier_night_has_to_run(zoo_call: Call, own_registry: Path, tmp_path: Path) -> None:
    (tmp_path / "2026-11-20" / "mine__absent").mkdir(parents=True)
    (tmp_path / "2026-11-20" / "mine__absent" / "record.json").write_text("{}")
    words = ["--registry", own_registry, "nightly", "mine/a*", "--out", tmp_path, "--date", DAY]
    done = zoo_call(*words)
    assert done.returncode == 3
    assert "- mine/absent: not run: no checkpoint; file://" in done.stdout


def test_limits_are_verdicts(zoo_call: Call, tmp_path: Path) -> None:
    words = ["nightly", CITY, "--out", tmp_path, "--date", DAY, "--json"]
    done = zoo_call(*words, "--timeout-minutes", 0.01)
    assert done.returncode == 3
    (row,) = json.loads(done.stdout)["entries"]
    assert (row["result"], row["reason"]) == ("failed", "ended after 0.01 minutes")
    done = zoo_call(*words, "--memory-gib", 0.1)
    (row,) = json.loads(done.stdout)["entries"]
    assert row["reason"].endswith("GiB of memory, limit 0.1 GiB")
    # The first one had ended: this is another night.
    assert json.loads(done.stdout)["night"] == f"{DAY}.2"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["no/such_entry"], "no entry 'no/such_entry'"),
        (["--data", "cityscapes"], "--data cityscapes: expected DATASET=DIR"),
        (["--data", "mars=here"], "no data set 'mars'"),
        (["--data", "coco=a", "--data", "coco=b"], "expected one folder of coco"),
        (["--date", "tonight"], "--date tonight: expected a date"),
        (["--timeout-minutes", "0"], "--timeout-minutes"),
    ],
)
def test_a_wrong_call(
    zoo_call: Call, one_line: Call, tmp_path: Path, words: list[str], expected: str
) -> None:
    assert expected in one_line(zoo_call("nightly", "--out", tmp_path / "out", *words), 2)
    assert not (tmp_path / "out").exists()


def test_two_nights_at_a_time(zoo_call: Call, one_line: Call, tmp_path: Path) -> None:
    from filelock import FileLock

    with FileLock(tmp_path / ".lock"):
        message = one_line(zoo_call("nightly", "--out", tmp_path), 3)
    assert message.startswith(f"{tmp_path}: another night is running there")

"""The command line: what it prints where, its exit codes, and how fast it starts."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from zoo.cli import app as cli
from zoo.cli.entries import entries_table
from zoo.errors import InterruptedRunError
from zoo.files.cache import Cache
from zoo.files.contents import entries
from zoo.registry import load_registry

NAME = "minicity/mobilenet_v3_small_os16"
COMMANDS = (
    ["list"],
    ["show"],
    ["fetch"],
    ["verify"],
    ["load-check"],
    ["reproduce"],
    ["nightly"],
    ["explain"],
    ["cache", "show"],
    ["cache", "prune"],
    ["report", "diff"],
    ["report", "published"],
    ["report", "measured"],
    ["report", "write"],
    ["report", "lint"],
)

Call = Callable[..., Any]

# ---- starting ----

LOADED = """
import json, sys
{first}
heavy = ("tensorflow", "keras", "numba", "pandas", "requests", "numpy", "cityscapesscripts", "pycocotools")
print(json.dumps([name for name in heavy if name in sys.modules]))
"""


@pytest.mark.parametrize(
    "first",
    [
        "import zoo",
        "import zoo.cli",
        *(
            f"sys.argv = {['zoo', *words]}\nimport contextlib, io, zoo.cli\n"
            "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): zoo.cli.main()"
            for words in (["list"], ["list", "--json"], ["show", NAME], ["reproduce", "--help"])
        ),
    ],
    ids=["import zoo", "import zoo.cli", "list", "list --json", "show", "reproduce --help"],
)
def test_starts_without_what_is_heavy(first: str, zoo_environment: dict[str, str], zoo_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(first=first)],
        env=zoo_environment,
        cwd=zoo_folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_the_installed_script_is_the_program() -> None:
    (script,) = (point for point in metadata.distribution("panoptic-zoo").entry_points if point.name == "zoo")
    assert script.load() is cli.main


def test_version(zoo_call: Call) -> None:
    done = zoo_call("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"zoo {metadata.version('panoptic-zoo')}\n"


# ---- list and show ----


def test_list_has_a_row_for_each_entry(zoo_call: Call) -> None:
    done = zoo_call("list")
    header, *rows = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert header.split()[0] == "Name"
    assert [row.split()[0] for row in rows] == [entry.name for entry in load_registry().entries]
    (row,) = (row for row in rows if row.startswith("cityscapes/resnet50_os32 "))
    assert row.split()[-5:] == ["59.8", "76.0", "60.24", "76.36", "30.01"]
    assert "1025 x 2049" in row


def test_list_as_json_is_the_registry(zoo_call: Call) -> None:
    done = zoo_call("list", "--json")
    entries = json.loads(done.stdout)
    assert [entry["name"] for entry in entries] == [entry.name for entry in load_registry().entries]
    (entry,) = (entry for entry in entries if entry["name"] == "cityscapes/resnet50_os32")
    assert entry["evaluation"]["crop_size"] == [1025, 2049]
    assert {(claim["metric"], claim["evaluator"]): claim["value"] for claim in entry["published"]}[
        "miou", "official"
    ] == "76.0"


@pytest.mark.parametrize(
    ("filters", "keeps"),
    [
        (["coco/*"], lambda name: name.startswith("coco/")),
        (["minicity/*", "coco/*"], lambda name: name.split("/")[0] in ("minicity", "coco")),
        (["*_os16"], lambda name: name.endswith("_os16")),
        (["--dataset", "cityscapes"], lambda name: name.startswith("cityscapes/")),
        (["--backbone", "mobilenet_v3_*"], lambda name: "/mobilenet_v3_" in name),
        (
            ["cityscapes/*", "--backbone", "resnet50"],
            lambda name: name.startswith("cityscapes/resnet50_os"),
        ),
    ],
)
def test_list_filters(zoo_call: Call, filters: list[str], keeps: Callable[[str], bool]) -> None:
    done = zoo_call("list", *filters, "--json")
    found = [entry["name"] for entry in json.loads(done.stdout)]
    assert found == [entry.name for entry in load_registry().entries if keeps(entry.name)]
    assert found


def shown(width: int | None) -> list[str]:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width or 400)
    console.print(entries_table(load_registry().entries))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
def test_list_on_a_narrow_terminal_keeps_names_and_numbers_whole(width: int) -> None:
    everything, lines = shown(None), shown(width)
    notes = lines[len(everything) :]
    lines = lines[: len(everything)]
    left_out = [title for title in ("PQ [**]", "AP [**]", "Input", "Mult-adds") if title not in lines[0]]
    assert left_out
    assert notes[0].startswith(f"Not shown in {width} characters: ")
    assert all(title in " ".join(notes) for title in left_out)
    assert max(map(len, lines)) <= width
    columns = lines[0].split("  ")
    assert {"Name", "PQ [*]", "mIoU [*]"} <= {column.strip() for column in columns}
    for line, whole in zip(lines, everything, strict=True):
        assert "…" not in line
        assert line.split()[0] == whole.split()[0]


def test_show_has_everything_of_an_entry(zoo_call: Call) -> None:
    done = zoo_call("show", "resnet50_os32")
    assert done.returncode == 2, "a short name that fits two entries"
    done = zoo_call("show", "cityscapes/resnet50_os32")
    assert (done.returncode, done.stderr) == (0, "")
    for part in ("name: cityscapes/resnet50_os32", "crop_size", "'59.8'", "checkpoint:", "digest:"):
        assert part in done.stdout
    entry = load_registry().resolve("cityscapes/resnet50_os32")
    record = json.loads(zoo_call("show", entry.name, "--json").stdout)
    assert record["digest"] == entry.digest()
    assert record["checkpoint"]["url"] == entry.checkpoint.url


def test_show_knows_backbones(zoo_call: Call) -> None:
    done = zoo_call("show", "imagenet/resnet50_beta")
    assert (done.returncode, done.stderr) == (0, "")
    assert "resnet50_beta_imagenet1k" in done.stdout
    assert json.loads(zoo_call("show", "imagenet/resnet50_beta", "--json").stdout)["kind"] == "backbone"


def test_a_registry_of_the_user_is_listed(zoo_call: Call, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        f"entries:\n  mine/small:\n    extends: {NAME}\n    title: Mine\n    checkpoint: mine.tar.gz\n"
        "    published: {official: {pq: 50.0}, source: here}\n"
    )
    done = zoo_call("--registry", own, "list", "mine/*", "--json")
    (entry,) = json.loads(done.stdout)
    assert entry["checkpoint"]["url"] == (tmp_path / "mine.tar.gz").as_uri()
    assert json.loads(zoo_call("list", "mine/*", "--json", "--registry", own).stdout) == [entry]
    # It does not outlive its call.
    assert zoo_call("list", "mine/*").returncode == 2


# ---- help, completion, usage errors ----


@pytest.mark.parametrize(
    "words",
    [
        *(["list"], ["show", NAME], ["fetch", NAME], ["verify", NAME], ["load-check", NAME]),
        *(["reproduce", NAME], ["nightly", "--out", "nights"], ["data", "check", "minicity"]),
        *(["report", "published"], ["report", "measured", "record.json"], ["report", "write"]),
        ["report", "lint", "tables.md"],
    ],
    ids=" ".join,
)
def test_every_command_that_reads_the_registry_takes_a_registry_file(
    zoo_call: Call, one_line: Call, words: list[str]
) -> None:
    assert "nowhere.yaml: expected a registry file" in one_line(
        zoo_call(*words, "--registry", "nowhere.yaml"), 2
    )
    assert "ZOO_REGISTRY" in zoo_call(*words, "--help").stdout


@pytest.mark.parametrize("command", [*COMMANDS, [], ["cache"], ["report"]], ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(zoo_call: Call, command: list[str], option: str) -> None:
    done = zoo_call(*command, option)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: " in done.stdout
    if command in COMMANDS:
        assert "Example" in done.stdout
        assert f"zoo {' '.join(command)} " in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("zoo show mini", NAME),
        ("zoo reproduce cityscapes/resnet50_o", "cityscapes/resnet50_os32"),
        ("zoo fetch imagenet/resnet50_b", "imagenet/resnet50_beta"),
        ("zoo rep", "reproduce"),
    ],
)
def test_completion(zoo_environment: dict[str, str], zoo_folder: Path, words: str, expected: str) -> None:
    environment = {
        **zoo_environment,
        "_ZOO_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv = ['zoo']; from zoo.cli import main; main()"],
        env=environment,
        cwd=zoo_folder,
        capture_output=True,
        text=True,
    )
    assert expected in done.stdout.split(), done.stderr
    assert all(found.startswith(words.split()[-1]) for found in done.stdout.split())


@pytest.mark.parametrize(
    "words",
    [
        ["what"],
        ["--what"],
        ["cache", "what"],
        ["report", "what"],
        *([*command, "--what"] for command in COMMANDS),
        *([command] for command in ("show", "fetch", "verify", "load-check", "reproduce", "nightly")),
        *([command, "no/such_entry"] for command in ("show", "fetch", "verify", "load-check", "list")),
        ["show", NAME, NAME],
        ["list", "--dataset", "mars"],
        *([command, "nothing/*"] for command in ("list", "fetch", "verify", "reproduce")),
        ["nightly", "nothing/*", "--out", "nights"],
        ["list", "--backbone", "vgg"],
        ["list", "coco/*", "--dataset", "minicity"],
        *(["report", command] for command in ("diff", "measured", "lint")),
        ["report", "published", "--dataset", "mars"],
        ["report", "lint", "tables.md", "--dataset", "mars"],
        ["report", "diff", "record.json", "--format", "pdf"],
        ["cache", "prune", "everything"],
        ["cache", "prune", "--older-than-days", "long"],
        ["--registry", "nowhere.yaml", "list"],
    ],
    ids=" ".join,
)
def test_usage_errors_are_one_line_and_exit_code_2(zoo_call: Call, one_line: Call, words: list[str]) -> None:
    message = one_line(zoo_call(*words), 2)
    assert len(message) > 10


def test_a_suggestion_of_the_parser_reads_as_ours(zoo_call: Call, one_line: Call) -> None:
    message = one_line(zoo_call("reproduc"), 2)
    assert message.endswith("(did you mean 'reproduce'?); `zoo --help` shows how")
    assert "(did you mean" in one_line(zoo_call("list", "--backbon", "x"), 2)


def test_a_group_without_a_command_shows_its_help(zoo_call: Call) -> None:
    for words in ([], ["cache"], ["report"]):
        done = zoo_call(*words)
        assert "Usage: " in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (KeyboardInterrupt(), 130, "zoo: error: interrupted\n"),
        (
            InterruptedRunError("a/b: interrupted with 3 of 30"),
            130,
            "zoo: error: a/b: interrupted with 3 of 30\n",
        ),
        (OSError(28, os.strerror(28), "some/file"), 3, "zoo: error: some/file: No space left on device; "),
        (PermissionError(13, os.strerror(13)), 3, "zoo: error: Permission denied; "),
    ],
)
def test_what_stops_a_command_is_one_line(
    zoo_call: Call, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, expected: str
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr("zoo.registry.load_registry", fail)
    done = zoo_call("list")
    assert done.returncode == code
    assert done.stderr.startswith(expected)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.skipif(os.name != "posix", reason="pipes")
@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["show", NAME]], ids=" ".join)
def test_a_reader_that_leaves_early_sees_no_traceback(
    zoo_environment: dict[str, str], zoo_folder: Path, words: list[str]
) -> None:
    reading, writing = os.pipe()
    # A reader that has left before anything was written.
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "zoo.cli", *words],
        env=zoo_environment,
        cwd=zoo_folder,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 3


# ---- files ----


def test_fetch_verify_and_load_check_the_bundled_entry(zoo_call: Call, zoo_cache: Path) -> None:
    done = zoo_call("fetch", NAME)
    assert (done.returncode, done.stderr) == (0, "")
    name, _, prefix = done.stdout.strip().partition(": ")
    assert name == NAME
    assert Path(f"{prefix}.index").is_file()
    assert zoo_cache in Path(prefix).parents

    fetched = json.loads(zoo_call("fetch", NAME, "--json").stdout)
    declared = load_registry().resolve(NAME).checkpoint
    assert fetched == {
        "entry": NAME,
        "checkpoint": prefix,
        "sha256": declared.sha256,
        "bytes": declared.bytes,
        "url": declared.url,
    }

    done = zoo_call("verify", NAME)
    assert done.returncode == 0, done.stderr
    assert NAME in done.stdout
    report = json.loads(zoo_call("verify", NAME, "--json").stdout)
    assert declared.sha256 in json.dumps(report)

    done = zoo_call("load-check", NAME)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    receipt = json.loads(zoo_call("load-check", NAME, "--json").stdout)
    assert receipt["ok"] is True
    assert receipt["missing"] == receipt["different_shape"] == receipt["unused"] == []
    assert receipt["archive_sha256"] == declared.sha256

    # The same checkpoint by its path, and something that is none.
    assert zoo_call("load-check", NAME, "--checkpoint", prefix).returncode == 0
    done = zoo_call("load-check", NAME, "--checkpoint", f"{prefix}-not")
    assert done.returncode == 3
    assert done.stderr.startswith("zoo: error: ")


def test_cache_show_and_prune(zoo_call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cache = tmp_path / "cache of its own"
    monkeypatch.setenv("ZOO_CACHE", str(cache))
    empty = json.loads(zoo_call("cache", "show", "--json").stdout)
    assert (empty["root"], empty["bytes"]) == (str(cache), 0)
    assert zoo_call("fetch", NAME).returncode == 0

    filled = json.loads(zoo_call("cache", "show", "--json").stdout)
    assert filled["bytes"] > 9_000_000
    done = zoo_call("cache", "show")
    assert (done.returncode, done.stderr) == (0, "")
    assert str(cache) in done.stdout
    assert "checkpoints" in done.stdout

    dry = json.loads(zoo_call("cache", "prune", "--dry-run", "--json").stdout)
    assert (dry["dry_run"], dry["freed_bytes"]) == (True, filled["bytes"])
    assert json.loads(zoo_call("cache", "show", "--json").stdout) == filled
    none = json.loads(zoo_call("cache", "prune", "--older-than-days", 1, "--json").stdout)
    assert (none["removed"], none["freed_bytes"]) == ([], 0)
    done = zoo_call("cache", "prune", "checkpoints")
    assert done.returncode == 0
    assert "removed" in done.stdout
    assert not any(
        filled["kinds"]["checkpoints"]["entries"][0]["name"] in str(path) for path in cache.glob("c*/*")
    )
    refused = zoo_call("cache", "prune")
    assert refused.returncode == 2
    assert "expected --yes" in refused.stderr
    zoo_call("cache", "prune", "--yes")
    assert json.loads(zoo_call("cache", "show", "--json").stdout)["bytes"] == 0


@pytest.mark.parametrize(("answer", "left"), [("n\n", 1), ("y\n", 0)])
def test_prune_asks_on_a_terminal(
    zoo_call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str, left: int
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    (Cache(tmp_path).folder("downloads") / "file").write_bytes(b"1234")
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    done = zoo_call("cache", "prune")
    assert (done.returncode, "4 B?" in done.stderr) == (0, True)
    assert len(entries(Cache(tmp_path))) == left


@pytest.mark.parametrize("days", ["-3", "nan"])
def test_prune_refuses_an_age_that_is_none(
    zoo_call: Call, one_line: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, days: str
) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    (Cache(tmp_path).folder("downloads") / "file").write_bytes(b"1234")
    assert "expected 0 or more" in one_line(zoo_call("cache", "prune", f"--older-than-days={days}"), 2)
    assert len(entries(Cache(tmp_path))) == 1


@pytest.fixture
def record(tmp_path: Path) -> Path:
    claims = [
        {
            "metric": "pq",
            "evaluator": "official",
            "published": 74.2,
            "decimals": 1,
            "tolerance": 0.2,
            "measured": 74.16493662953422,
            "difference": 74.16493662953422 - 74.2,
            "verdict": "match",
        }
    ]
    folder = tmp_path / "minicity__mobilenet_v3_small_os16"
    folder.mkdir()
    whole = {"schema": 1, "entry": NAME, "images": 30, "images_in_dataset": 30, "metrics": {}}
    (folder / "record.json").write_text(json.dumps({**whole, "claims": claims}))
    return folder


def test_report_diff_in_every_format(zoo_call: Call, record: Path) -> None:
    outputs = {}
    for form in ("terminal", "markdown", "csv", "json"):
        for path in (record, record / "record.json"):
            done = zoo_call("report", "diff", path, "--format", form)
            assert (done.returncode, done.stderr) == (0, "")
            outputs[form] = done.stdout
    assert outputs["markdown"].splitlines()[1].startswith("| ---")
    (row,) = csv.DictReader(io.StringIO(outputs["csv"]))
    (claim,) = json.loads(outputs["json"])
    assert float(row["measured"]) == claim["measured"] == 74.16493662953422
    assert (row["entry"], claim["entry"]) == (NAME, NAME)
    for form in ("terminal", "markdown"):
        assert "74.16" in outputs[form]
        assert "match" in outputs[form]
    assert zoo_call("report", "diff", record).stdout == outputs["terminal"]
    several = zoo_call("report", "diff", record, record, "--format", "json")
    assert len(json.loads(several.stdout)) == 2


def test_report_of_what_is_no_record(zoo_call: Call, one_line: Call, tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("{}")
    assert "not a run record" in one_line(zoo_call("report", "diff", tmp_path / "notes.json"), 3)
    for command in ("diff", "measured"):
        assert "no run record there" in one_line(zoo_call("report", command, tmp_path / "nowhere"), 3)


# ---- what cannot be written, or is closed ----


@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["--version"]], ids=" ".join)
@pytest.mark.skipif(os.name != "posix", reason="a shell")
def test_a_closed_output_is_one_line(
    zoo_environment: dict[str, str], zoo_folder: Path, words: list[str]
) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", sys.executable, "-m", "zoo.cli", *words],
        env=zoo_environment,
        cwd=zoo_folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 3
    assert done.stderr.startswith("zoo: error: standard output is closed; ")
    assert done.stderr.count("\n") == 1


WITHOUT_TENSORFLOW = """
import sys
sys.argv = {words}
sys.modules["tensorflow"] = sys.modules["numba"] = sys.modules["pandas"] = None
import zoo.cli
zoo.cli.main()
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["reproduce", NAME, "--device", "cuda"], "--device cuda: expected auto, cpu"),
        (["reproduce", NAME, "--device", "gpu:x"], "--device gpu:x: expected a number"),
        (["reproduce", NAME, "--precision", "float16"], "--precision float16: expected float32 or bfloat16"),
        (["reproduce", NAME, "--scales", "0"], "--scales 0: expected numbers"),
        (["nightly", "--out", "nights", "--device", "cuda"], "--device cuda: expected auto, cpu"),
        (["verify", NAME, "--against", "saved_model", "--image", "no.png"], "--image no.png: no such file"),
        (["report", "diff", "record.json", "--format", "pdf"], "expected terminal, markdown, csv or json"),
        (["report", "compare", "a", "b", "--format", "pdf"], "expected terminal or markdown"),
        (["explain", "a", "--format", "pdf"], "expected terminal, markdown or json"),
        (["data", "check", "mars"], "no data set 'mars'"),
    ],
    ids=" ".join,
)
def test_usage_errors_come_before_heavy_imports(
    zoo_environment: dict[str, str], zoo_folder: Path, words: list[str], expected: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW.format(words=["zoo", *words])],
        env=zoo_environment,
        cwd=zoo_folder,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert expected in done.stderr

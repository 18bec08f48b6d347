"""The command line: what it prints where, its exit codes, and how fast it starts."""

from __future__ import annotations

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
from zoo.errors import InterruptedRunError

NAME = "minicity/mobilenet_v3_small_os16"
COMMANDS = (
    ["list"],
    ["show"],
    ["fetch"],
    ["verify"],
    ["load-check"],
    ["convert"],
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
            for words in (
                ["list"],
                ["list", "--json"],
                ["list", "--format", "markdown"],
                ["show", NAME],
                ["reproduce", "--help"],
            )
        ),
    ],
    ids=["import zoo", "import zoo.cli", "list", "list --json", "list --format", "show", "reproduce --help"],
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
        ["nightly", NAME, "--out", "s3://bucket/nights"],
        ["predict", NAME, "photo.jpg", "--out", "gs://bucket/seen"],
        ["score", "https://example.org/out", "--dataset", "minicity"],
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
        [sys.executable, "-m", "zoo", *words],
        env=zoo_environment,
        cwd=zoo_folder,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 3


# ---- what cannot be written, or is closed ----


@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["--version"]], ids=" ".join)
@pytest.mark.skipif(os.name != "posix", reason="a shell")
def test_a_closed_output_is_one_line(
    zoo_environment: dict[str, str], zoo_folder: Path, words: list[str]
) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", sys.executable, "-m", "zoo", *words],
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

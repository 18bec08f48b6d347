"""Compares the runtimes of `zoo export` with the reference's goldens, and with TensorFlow's speed.

    python bench/runtimes.py --only 'cityscapes/mobilenet_v3_small_*' --runtime onnx --runtime openvino
    python bench/runtimes.py --results measured.json

Each network and runtime has a process of its own, in which the network has the values of the goldens. It is
written for the runtime at both sizes of the goldens, run, and compared: the largest difference of a map, in
its standard deviations. Then it is written at the published input, and runs in turn with the same network
compiled by TensorFlow in float32, so that whatever else the machine does meets both. The ratio is the
median over the turns. Peak memory is the resident set of a further process that does nothing but load the
file and run it, and size that of the file.

What was measured is kept in `--results`, pair by pair, and all of it is written to docs/runtimes.md.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import runpy
import shutil
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
GOLDENS = ROOT / "tests" / "data" / "networks"
PAGE = ROOT / "docs" / "runtimes.md"
SIZES = ((65, 129), (289, 577))
TOLERANCE = 1e-4
# There float32 itself rounds more, see tests/data/networks/README.md.
ROUNDING = {("cityscapes/swidernet_sac_1_1_4.5_os16", "289x577"): 3e-4}
AT_MOST_S = 60.0
_ABOUT = (
    "Written by `bench/runtimes.py`; do not edit. Networks with the values of the goldens, written by the"
    " code of `zoo export`. Error: largest difference of a map from the reference implementation's, in "
    "the map's standard deviations; a float32 file may have 1e-4 (3e-4 for SWideRNet-SAC-(1,1,4.5) at 289"
    " x 577, where runs of the reference itself in float32 differ by as much). Seconds are medians for "
    "one image at the published input, TensorFlow's in float32 measured in turn with the runtime's in one"
    " process; faster is TensorFlow's time over the runtime's, the median over the turns. Peak is the "
    "memory of a process that only loads the file and runs it. A dash: not measured."
)
_HEADER = (
    "network", "runtime", "precision", "error 65 x 129", "error 289 x 577", "s/image", "TensorFlow s",
    "faster", "peak GiB", "file MB",
)  # fmt: skip


def golden(name: str, size: str) -> dict[str, np.ndarray]:
    """Returns the image and the maps of a golden."""
    key = name.partition("/")[2] if "mobilenet" in name else name.replace("/", "_")
    with np.load(GOLDENS / f"image_{size}.npz") as image, np.load(GOLDENS / f"{key}_{size}.npz") as maps:
        return {**maps, "image": image["image"]}


def difference(name: str, size: str, expected: dict[str, np.ndarray], maps: dict[str, np.ndarray]) -> float:
    """Returns the largest difference of all maps, in standard deviations of each."""
    step = 4 if size == "289x577" else 1
    worst = 0.0
    for key, values in maps.items():
        found = values[0, ::step, ::step]
        if key == "semantic_logits" and name.startswith("coco/"):
            found = found[..., ::4]
        worst = max(worst, float(np.abs(found - expected[key]).max() / expected[key].std()))
    return worst


def golden_network(name: str) -> Any:
    """Returns a network with the values of the goldens, folded."""
    from zoo.model.build import build_network
    from zoo.model.checkpoint import variables
    from zoo.model.folding import fold_batch_norm
    from zoo.registry import load_registry

    values = runpy.run_path(str(ROOT / "tests" / "model" / "golden_weights.py"))["values"]
    network = build_network(load_registry().resolve(name).network, SIZES[0], random_values=False)
    for key, variable in variables(network).items():
        variable.assign(values(key, tuple(variable.shape)))
    return fold_batch_norm(network, consume=True)


def measure(name: str, runtime: str, precision: str, *, timed: bool, turns: int) -> dict[str, Any]:
    """Measures one network and runtime in this process."""
    from zoo.model.inference import aspp_window, at_size
    from zoo.registry import load_registry
    from zoo.runtimes.choice import FILE_RUNTIMES

    entry = load_registry().resolve(name)
    module = FILE_RUNTIMES[runtime].imported(runtime)
    network = golden_network(name)
    result: dict[str, Any] = {"network": name, "runtime": runtime, "precision": precision, "errors": {}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"network{FILE_RUNTIMES[runtime].suffix}"
        for height, width in SIZES:
            window = ((height - 1) // entry.output_stride + 1, (width - 1) // entry.output_stride + 1)
            module.write(at_size(network, (height, width), window), (height, width), "{}", path, precision)
            size = f"{height}x{width}"
            expected = golden(name, size)
            maps = module.load(path, precision)(expected["image"][None].astype(np.float32))
            result["errors"][size] = difference(name, size, expected, maps)
            _remove(module.files_of(path), path)
            gc.collect()
        if timed:
            full = at_size(network, entry.evaluation.crop_size, aspp_window(network))
            module.write(full, entry.evaluation.crop_size, "{}", path, precision)
            result["bytes"] = sum(each.stat().st_size for each in module.files_of(path))
            result["peak_bytes"] = int(
                subprocess.check_output(
                    [
                        sys.executable,
                        __file__,
                        "--peak",
                        runtime,
                        str(path),
                        precision,
                        *map(str, full.input_shape[1:3]),
                    ]
                )
            )
            result |= _in_turn(full, module.load(path, precision), turns)
    return result


def _remove(files: list[Path], path: Path) -> None:
    for each in files:
        each.unlink()
    shutil.rmtree(path, ignore_errors=True)


def _in_turn(network: Any, session: Any, turns: int) -> dict[str, Any]:
    """Times TensorFlow and a runtime, one image each in turn."""
    from zoo.model.inference import compile_inference

    predict = compile_inference(network, fold=False)
    image = np.random.default_rng(0).integers(0, 256, (1, *network.input_shape[1:])).astype(np.float32)

    def tensorflow() -> None:
        for values in predict(image).values():
            values.numpy()

    calls = {"tensorflow_s": tensorflow, "runtime_s": lambda: session(image)}
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {key: [] for key in calls}
    begun = time.perf_counter()
    while len(seconds["runtime_s"]) < turns and time.perf_counter() - begun < AT_MOST_S:
        for key, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[key].append(time.perf_counter() - start)
    pairs = zip(seconds["tensorflow_s"], seconds["runtime_s"], strict=True)
    ratio = statistics.median(before / after for before, after in pairs)
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    return {**medians, "ratio": ratio, "turns": len(seconds["runtime_s"])}


def print_peak(runtime: str, path: str, precision: str, height: str, width: str) -> None:
    """Prints the most memory that this process held for two images, in bytes."""
    import resource

    from zoo.runtimes.choice import FILE_RUNTIMES

    session = FILE_RUNTIMES[runtime].imported(runtime).load(Path(path), precision)
    for _ in range(2):
        session(np.full((1, int(height), int(width), 3), 100, np.float32))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def machine() -> str:
    """Names this machine's processor, its cores, and what it computes with."""
    from zoo.network.devices import describe_processor

    names = describe_processor()["names"] or [platform.machine()]
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {name} " in cpu]
    return f"{names[0]}; {', '.join(found)}"


def versions() -> str:
    """Returns the versions of all runtimes."""
    names = ("tensorflow", "keras", "onnxruntime", "openvino", "ai-edge-litert")
    return ", ".join(f"{name} {metadata.version(name)}" for name in names)


def page(results: list[dict[str, Any]]) -> str:
    """Returns the page of all results."""
    lines = ["# Runtimes", "", *textwrap.wrap(_ABOUT, 118), ""]
    for where in dict.fromkeys(result["machine"] for result in results):
        lines += [f"## {where}", ""]
        lines += [f"| {' | '.join(_HEADER)} |", f"| {' | '.join(['---'] * 3 + ['---:'] * 7)} |"]
        lines += [_row(result) for result in results if result["machine"] == where]
        lines += ["", _summary([result for result in results if result["machine"] == where]), ""]
    return "\n".join(lines)


def _row(result: dict[str, Any]) -> str:
    def number(key: str, form: str, scale: float = 1.0) -> str:
        return format(result[key] / scale, form) if key in result else "-"

    errors = [f"{result['errors'][f'{height}x{width}']:.1e}" for height, width in SIZES]
    cells = [
        result["network"],
        result["runtime"],
        result["precision"],
        *errors,
        number("runtime_s", ".3f"),
        number("tensorflow_s", ".3f"),
        number("ratio", ".2f"),
        number("peak_bytes", ".2f", 2**30),
        number("bytes", ".0f", 1e6),
    ]
    return f"| {' | '.join(cells)} |"


def _summary(results: list[dict[str, Any]]) -> str:
    versions = "; ".join(dict.fromkeys(result["versions"] for result in results))
    days = sorted({result["measured"] for result in results})
    return f"Measured {' to '.join(dict.fromkeys([days[0], days[-1]]))} with {versions}."


def misses(result: dict[str, Any]) -> Iterator[str]:
    """Yields what is wrong with a float32 result."""
    for size, error in result["errors"].items():
        limit = ROUNDING.get((result["network"], size), TOLERANCE)
        if result["precision"] == "float32" and not error <= limit:
            where = f"{result['network']} on {result['runtime']} at {size}"
            yield f"{where}: {error:.1e}, expected at most {limit:.0e}"


def main() -> None:
    """Measures, keeps the results, writes the page, and ends with 1 where a map is wrong."""
    from zoo.registry import load_registry
    from zoo.runtimes.choice import FILE_RUNTIMES

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="*", help="a glob of networks")
    parser.add_argument("--runtime", action="append", choices=FILE_RUNTIMES, help="all by default")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--untimed", action="store_true", help="only the goldens")
    parser.add_argument("--results", type=Path, default=Path("runtimes.json"))
    parser.add_argument("--peak", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print_peak(*options.peak)
        return
    if options.one:
        result = measure(*options.one, options.precision, timed=not options.untimed, turns=options.turns)
        print(json.dumps(result))
        return
    kept = json.loads(options.results.read_text()) if options.results.exists() else {}
    names = [entry.name for entry in load_registry().entries if not entry.name.startswith("mini")]
    wrong = []
    for name in (each for each in names if fnmatchcase(each, options.only)):
        for runtime in options.runtime or FILE_RUNTIMES:
            words = [sys.executable, __file__, "--one", name, runtime, "--precision", options.precision]
            words += ["--turns", str(options.turns), *["--untimed"] * options.untimed]
            done = subprocess.run(
                words, stdout=subprocess.PIPE, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
            )
            if done.returncode:
                print(f"{name} on {runtime}: failed with {done.returncode}", file=sys.stderr)
                wrong.append(name)
                continue
            result = json.loads(done.stdout.splitlines()[-1])
            result |= {"machine": machine(), "versions": versions()}
            result["measured"] = datetime.now(timezone.utc).date().isoformat()
            key = f"{result['machine']} {name} {runtime} {options.precision}"
            kept[key] = {**kept.get(key, {}), **result}
            print(_row(kept[key]), flush=True)
            wrong += misses(result)
            options.results.write_text(json.dumps(kept, indent=1))
            PAGE.write_text(page(list(kept.values())), encoding="utf-8")
    for line in wrong:
        print(line, file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

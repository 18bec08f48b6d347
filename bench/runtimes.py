"""Compares all runtimes with the reference's goldens, and those of `zoo export` with TensorFlow's speed.

    python bench/runtimes.py --only 'cityscapes/mobilenet_v3_small_*' --runtime onnx --runtime openvino
    python bench/runtimes.py --untimed --runtime jax --python ENVIRONMENT/bin/python
    python bench/runtimes.py --results measured.json

Each network has a process of its own, in which it has the values of the goldens. It is written for each
runtime at both sizes of the goldens, run, and compared: the largest difference of a map, in its standard
deviations. Then it is written at the published input, and runs in turn with the same network
compiled by TensorFlow in float32, so that whatever else the machine does meets both. The ratio is the
median over the turns. Peak memory is the resident set of a further process that does nothing but load the
file and run it, and size that of the file. The backends of Keras are only compared with the goldens, here or
by the Python of another environment.

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
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from runtimes_page import chart, errors_of, page

from zoo.files.keras_backend import BACKENDS
from zoo.registry import load_registry
from zoo.runtimes.choice import FILE_RUNTIMES, RUNTIMES

ROOT = Path(__file__).parents[1]
GOLDENS = ROOT / "tests" / "data" / "networks"
PAGE = ROOT / "docs" / "runtimes.md"
CHART = ROOT / "docs" / "runtimes.svg"
SMALL, LARGER = ("65x65", "65x129"), ("289x577", "193x385")
TOLERANCE = 1e-4
TIMES_ROUNDING = 10
# There float32 itself rounds more, see tests/data/networks/README.md.
ROUNDING = {("cityscapes/swidernet_sac_1_1_4.5_os16", "289x577"): 3e-4}
AT_MOST_S = 60.0


def sizes_of(name: str) -> list[str]:
    """Returns the sizes of an entry's goldens, the small one first; none where it has no goldens."""
    return [size for size in (*SMALL, *LARGER) if (GOLDENS / f"{_file_of(name)}_{size}.npz").exists()]


def _file_of(name: str) -> str:
    return name.partition("/")[2] if "mobilenet" in name else name.replace("/", "_")


def golden(name: str, size: str) -> dict[str, np.ndarray]:
    """Returns the image and the maps of a golden."""
    with np.load(GOLDENS / f"{_file_of(name)}_{size}.npz") as arrays:
        found = dict(arrays)
    if "image" not in found:
        with np.load(GOLDENS / f"image_{size}.npz") as image:
            found["image"] = image["image"]
    return found


def difference(expected: dict[str, np.ndarray], maps: dict[str, np.ndarray]) -> float:
    """Returns the largest difference of all maps, in standard deviations of each."""
    worst = 0.0
    for key, values in maps.items():
        # Goldens keep every second, or fourth, row, column, slot or channel of what is large.
        kept = expected[key].shape
        steps = (slice(None, None, -(-had // has)) for had, has in zip(values.shape[1:], kept, strict=True))
        deviation = expected.get(f"deviation/{key}", expected[key].std())
        worst = max(worst, float(np.abs(values[0][tuple(steps)] - expected[key]).max() / deviation))
    return worst


def limit(name: str, size: str) -> float:
    """Returns the largest difference that is right, in standard deviations."""
    # What rounding alone gives in the reference, where a pixel's slot is a matter of it.
    spreads = [float(value) for key, value in golden(name, size).items() if key.startswith("spread/")]
    return TIMES_ROUNDING * max(spreads) if spreads else ROUNDING.get((name, size), TOLERANCE)


def golden_network(name: str) -> Any:
    """Returns a network with the values of the goldens, folded."""
    from zoo.model.build import build_network
    from zoo.model.checkpoint import variables
    from zoo.model.folding import fold_batch_norm

    values = runpy.run_path(str(ROOT / "tests" / "model" / "golden_weights.py"))["values"]
    size = _pixels(sizes_of(name)[0])
    network = build_network(load_registry().resolve(name).network, size, random_values=False)
    for key, variable in variables(network).items():
        variable.assign(values(key, tuple(variable.shape)))
    return fold_batch_norm(network, consume=True)


def _pixels(size: str) -> tuple[int, int]:
    height, _, width = size.partition("x")
    return int(height), int(width)


def measure(name: str, runtime: str, network: Any, precision: str, timed_turns: int) -> dict[str, Any]:
    """Measures a runtime in this process, with a network of `golden_network`; times nothing in 0 turns."""
    from zoo.model.inference import aspp_window, at_size, compile_inference

    entry = load_registry().resolve(name)
    result: dict[str, Any] = {"network": name, "runtime": runtime, "precision": precision, "errors": {}}
    result["versions"] = versions(runtime)
    module = FILE_RUNTIMES[runtime].imported(runtime) if runtime in FILE_RUNTIMES else None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"network{FILE_RUNTIMES[runtime].suffix if module else ''}"
        for size in sizes_of(name):
            height, width = _pixels(size)
            window = ((height - 1) // entry.output_stride + 1, (width - 1) // entry.output_stride + 1)
            at_this = at_size(network, (height, width), window)
            expected = golden(name, size)
            image = expected["image"][None].astype(np.float32)
            if module is None:
                maps = _arrays(compile_inference(at_this, fold=False)(image))
            else:
                module.write(at_this, (height, width), "{}", path, precision)
                maps = module.load(path, precision)(image)
                _remove(module.files_of(path), path)
            result["errors"][size] = difference(expected, maps)
            gc.collect()
        if timed_turns and module is not None:
            full = at_size(network, entry.evaluation.crop_size, aspp_window(network))
            result |= _timed(full, runtime, path, precision, timed_turns)
    return result


def _arrays(maps: dict[str, Any]) -> dict[str, np.ndarray]:
    from zoo.model.backend import as_array

    return {name: as_array(values) for name, values in maps.items()}


def _timed(network: Any, runtime: str, path: Path, precision: str, turns: int) -> dict[str, Any]:
    """Writes a network at its own size, and returns the file's bytes, memory and seconds."""
    module, size = FILE_RUNTIMES[runtime].imported(runtime), network.input_shape[1:3]
    module.write(network, size, "{}", path, precision)
    words = [sys.executable, __file__, "--peak", runtime, str(path), precision, *map(str, size)]
    return {
        "bytes": sum(each.stat().st_size for each in module.files_of(path)),
        "peak_bytes": int(subprocess.check_output(words)),
        **_in_turn(network, module.load(path, precision), turns),
    }


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


def versions(runtime: str) -> list[str]:
    """Returns the versions of a runtime and of what writes its files or runs on it."""
    names = {"onnx": "onnxruntime", "openvino": "openvino", "litert": "ai-edge-litert"}
    chosen = [names.get(runtime, runtime.replace("saved_model", "tensorflow")), "keras"]
    chosen += ["tensorflow"] * (runtime not in BACKENDS)
    return [f"{name} {metadata.version(name)}" for name in dict.fromkeys(chosen)]


def known_networks() -> list[str]:
    """Returns the entries that have goldens, the smallest network first."""
    names = [entry.name for entry in load_registry().entries]
    return [name for name in names if sizes_of(name) and not name.startswith("mini")]


def misses(result: dict[str, Any]) -> Iterator[str]:
    """Yields what is wrong with a float32 result."""
    for size, error in result["errors"].items():
        at_most = limit(result["network"], size)
        if result["precision"] == "float32" and not error <= at_most:
            where = f"{result['network']} on {result['runtime']} at {size}"
            yield f"{where}: {error:.1e}, expected at most {at_most:.0e}"


def arguments() -> argparse.Namespace:
    """Returns what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="*", help="a glob of networks")
    parser.add_argument("--runtime", action="append", choices=RUNTIMES, help="all that are installed")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--untimed", action="store_true", help="only the goldens")
    parser.add_argument("--missing", action="store_true", help="only what --results does not have")
    parser.add_argument("--python", default=sys.executable, help="of the environment that has the runtime")
    parser.add_argument("--results", type=Path, default=Path("runtimes.json"))
    parser.add_argument("--peak", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args()


def run(options: argparse.Namespace, name: str, runtimes: list[str]) -> Iterator[dict[str, Any]]:
    """Measures runtimes of one network in a process of its own; yields those that did not fail."""
    words = [options.python, __file__, "--one", name, *runtimes, "--precision", options.precision]
    words += ["--turns", str(options.turns), *["--untimed"] * options.untimed]
    backend = runtimes[0] if runtimes[0] in BACKENDS else "tensorflow"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": backend}
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(b"{"):
                measured = datetime.now(timezone.utc).date().isoformat()
                yield {**json.loads(line), "machine": machine(), "measured": measured}


def kept_in(results: Path) -> dict[str, Any]:
    """Returns what was measured before, here or by another process."""
    kept: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    return kept


def keep(results: Path, result: dict[str, Any]) -> None:
    """Adds a result to those that are kept, and writes the page."""
    key = key_of(result["network"], result["runtime"], result["precision"])
    kept = kept_in(results)
    kept[key] = {**kept.get(key, {}), **result}
    results.write_text(json.dumps(kept, indent=1))
    networks = known_networks()
    PAGE.write_text(page(list(kept.values()), networks, CHART.name), encoding="utf-8")
    CHART.write_text(chart(list(kept.values()), networks), encoding="utf-8")
    print(f"{result['network']} on {result['runtime']}: {errors_of(result)}", flush=True)


def key_of(network: str, runtime: str, precision: str) -> str:
    """Returns the name of a result of this machine."""
    return f"{machine()} {network} {runtime} {precision}"


def main() -> None:
    """Measures, keeps the results, writes the page, and ends with 1 where a map is wrong."""
    options = arguments()
    if options.peak:
        print_peak(*options.peak)
        return
    if options.one:
        name, *runtimes = options.one
        network = golden_network(name)
        for runtime in runtimes:
            turns = 0 if options.untimed else options.turns
            print(json.dumps(measure(name, runtime, network, options.precision, turns)), flush=True)
        return
    wrong = []
    for name in (each for each in known_networks() if fnmatchcase(each, options.only)):
        chosen = options.runtime or [each for each in RUNTIMES if each not in ("jax", "torch")]
        if options.missing:
            kept = kept_in(options.results)
            chosen = [each for each in chosen if key_of(name, each, options.precision) not in kept]
        found = []
        for result in run(options, name, chosen) if chosen else ():
            keep(options.results, result)
            found.append(result["runtime"])
            wrong += misses(result)
        wrong += [f"{name} on {runtime}: failed" for runtime in chosen if runtime not in found]
    for line in wrong:
        print(line, file=sys.stderr)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

"""Times what `zoo predict` does around the network, at 1024 x 2048 for the published MobileNetV3-Small.

    python bench/predict.py --count 8 --repetitions 7

Draws scenes, then takes turns on a warm network: the network alone over pictures in memory, and the stream of
the command over the files, with everything that it writes. Prints seconds per picture, and what the stream
adds to the network, for the least of the repetitions and in the median. Random weights would find nothing to
draw: the bundled ones are widened into the published network.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil
from draw_scenes import draw_dataset
from reproduce import REGISTRY


class Timing(NamedTuple):
    """Wall time, and the time of all cores together, which other programs disturb less."""

    wall_s: float
    cpu_s: float

    @classmethod
    def now(cls) -> Timing:
        return cls(time.perf_counter(), time.process_time())

    def since(self, count: int) -> Timing:
        now = Timing.now()
        return Timing((now.wall_s - self.wall_s) / count, (now.cpu_s - self.cpu_s) / count)


def prepared_network(work: Path):
    """Returns the published network with widened weights, ready to predict."""
    from zoo.fetch.fetcher import Fetcher
    from zoo.network.loading import load_entry
    from zoo.registry import load_registry

    registry, prefix = work / "registry.yaml", work / "published" / "ckpt-1"
    registry.write_text(REGISTRY.format(count=1), encoding="utf-8")
    script = Path(__file__).with_name("widened.py")
    arguments = [registry, "drawn/bundled", "drawn/published", prefix]
    subprocess.run([sys.executable, script, *arguments], check=True, stdout=subprocess.DEVNULL)
    with tarfile.open(work / "published.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.add(prefix.parent, "published")
    entry = load_registry([registry]).resolve("drawn/published")
    return load_entry(entry, Fetcher().checkpoint(entry), optimize=True, device="auto")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=8, help="number of scenes")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--write", default="overlay", help="forms, with commas between")
    options = parser.parse_args()

    from zoo.inputs.finding import find_inputs
    from zoo.inputs.picture import read_picture
    from zoo.network.predicting import InputPrediction
    from zoo.prediction.folder import PredictionFolder
    from zoo.prediction.forms import writer_of

    forms = options.write.split(",")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        draw_dataset(work / "scenes", count=options.count, height=1024, width=2048, seed=1)
        inputs = find_inputs([str(work / "scenes" / "leftImg8bit")]).inputs
        network = prepared_network(work)
        images = [read_picture(each.path) for each in inputs[:4]]

        def alone() -> Timing:
            start = Timing.now()
            for number in range(len(inputs)):
                network.maps([images[number % len(images)]])
            return start.since(len(inputs))

        def whole(repetition: int) -> tuple[Timing, dict[str, float]]:
            out = work / f"out{repetition}"
            folder = PredictionFolder(out, {})
            folder.open()
            writers = {form: writer_of(form, out, network.classes) for form in forms}
            run = InputPrediction(inputs, folder, writers, video=False)
            start = Timing.now()
            run.run(network)
            run.finish()
            return start.since(len(inputs)), run.times.to_json()

        alone(), whole(-1)
        networks, streams = [], []
        for repetition in range(options.repetitions):
            networks.append(alone())
            streams.append(whole(repetition))
    print(f"{processor()}; {len(inputs)} pictures of 1024 x 2048, written: {options.write}")
    for unit in ("wall_s", "cpu_s"):
        pairs = [
            (getattr(stream, unit), getattr(network, unit))
            for (stream, _), network in zip(streams, networks, strict=True)
        ]
        # Each stream with the network beside it: both had the machine as it was then.
        added = statistics.median(stream / network for stream, network in pairs) - 1
        stream, network = (min(values) for values in zip(*pairs, strict=True))
        print(f"  {unit} a picture: network {network:.3f}, stream {stream:.3f} (least)")
        print(f"    around the network: {stream / network - 1:.0%} of its time; median of pairs {added:.0%}")
    for stage, total in min(streams, key=lambda each: each[0])[1].items():
        print(f"    {stage:<20} {total / len(inputs):.3f}")


def processor() -> str:
    """Returns the processor's name, and how many cores this process may use."""
    lines = Path("/proc/cpuinfo")
    names = lines.read_text(encoding="utf-8").split("model name\t: ") if lines.exists() else []
    name = names[1].splitlines()[0] if len(names) > 1 else platform.processor()
    return f"{name}, {len(psutil.Process().cpu_affinity())} cores"


if __name__ == "__main__":
    main()

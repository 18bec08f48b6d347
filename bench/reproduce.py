"""Times a whole `zoo reproduce` at 1024 x 2048 against the network's own time over the same images.

    python bench/reproduce.py --count 30

Draws the scenes, then runs, each in a process of its own: the network alone, the whole command, and the
network alone again (machines may be busy: the two are averaged). Prints seconds per image, the ratio, and
peak memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import psutil
from draw_scenes import draw_dataset

REGISTRY = """\
version: 1
datasets:
  drawn: {{title: drawn scenes, format: cityscapes, split: val, images: {count}}}
templates:
  drawn:
    dataset: drawn
    title: MobilenetV3-S
    network: {{train_crop_size: [1025, 2049]}}
    evaluation: {{crop_size: [1025, 2049], stuff_area_limit: 2048}}
entries:
  drawn/bundled:
    extends: [minicity/mobilenet_v3_small_os16, drawn]
    checkpoint: package://zoo/assets/minicity_mobilenet_v3_small_os16.tar.gz
  drawn/published:
    extends: [cityscapes/mobilenet_v3_small_os16, drawn]
    checkpoint: ./published.tar.gz
    network:
      semantic_decoder: {{atrous_rates: [3, 6, 9]}}
      instance_decoder: {{atrous_rates: [3, 6, 9]}}
"""

NETWORK_ALONE = """
import sys, time
from pathlib import Path
from zoo.fetch.fetcher import Fetcher
from zoo.network.loading import load_entry
from zoo.registry import load_registry
from zoo.repro.cityscapes.dataset import CityscapesDataset
from zoo.repro.datasets.opening import open_files

registry, name, data = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
entry = load_registry([registry]).resolve(name)
dataset = open_files(CityscapesDataset, data, "val")
network = load_entry(entry, Fetcher().checkpoint(entry), optimize=True, device="auto")
images = [dataset.load(index).image for index in range(min(4, len(dataset)))]
network.maps(images[:1])
start = time.perf_counter()
for index in range(len(dataset)):
    network.maps([images[index % len(images)]])
print((time.perf_counter() - start) / len(dataset))
"""


def run(command: list[str], cwd: Path) -> tuple[str, float, float]:
    """Returns a command's output, its seconds, and the peak memory of its process tree in bytes."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=cwd, text=True)
    tree, peak = psutil.Process(process.pid), 0
    while process.poll() is None:
        # Shared pages are counted once: proportional set size.
        resident = 0
        try:
            for part in [tree, *tree.children(recursive=True)]:
                resident += part.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        finally:
            time.sleep(0.1)
        peak = max(peak, resident)
    seconds = time.perf_counter() - start
    output = process.stdout.read() if process.stdout else ""
    if process.returncode not in (0, 1):
        raise SystemExit(f"{command[:4]} ended with {process.returncode}")
    return output, seconds, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=30, help="number of scenes")
    parser.add_argument("--data", type=Path, help="drawn scenes, where they exist already")
    parser.add_argument(
        "--network",
        choices=("bundled", "published"),
        default="published",
        help="the bundled network, or the bundled weights in the published MobileNetV3-Small (os16)",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        data = options.data or work / "scenes"
        if not data.exists():
            draw_dataset(data, count=options.count, height=1024, width=2048, seed=1)
        count = len(list(data.glob("leftImg8bit/val/*/*.png")))
        registry = work / "registry.yaml"
        registry.write_text(REGISTRY.format(count=count), encoding="utf-8")

        entry = f"drawn/{options.network}"
        if options.network == "published":
            prefix = work / "published" / "ckpt-1"
            script = Path(__file__).with_name("widened.py")
            run([sys.executable, str(script), str(registry), "drawn/bundled", entry, str(prefix)], work)
            with tarfile.open(work / "published.tar.gz", "w:gz", compresslevel=1) as archive:
                archive.add(prefix.parent, "published")

        alone = [sys.executable, "-c", NETWORK_ALONE, str(registry), entry, str(data)]
        whole = [sys.executable, "-m", "zoo", "--registry", str(registry), "reproduce"]
        whole += [entry, "--data", str(data), "--out", str(work / "run"), "--json"]
        before = float(run(alone, work)[0].splitlines()[-1])
        output, seconds, peak = run(whole, work)
        after = float(run(alone, work)[0].splitlines()[-1])

    timings = json.loads(output)["timings"]
    network = (before + after) / 2
    start_up = seconds - timings["total_s"] + timings["prepare_s"] + timings["load_s"]
    per_image = (seconds - start_up) / count
    print(f"{options.network} network, {count} images of 1024 x 2048; seconds per image:")
    print(f"  network alone                    {network:.3f}  (before {before:.3f}, after {after:.3f})")
    print(f"  whole run, start-up apart        {per_image:.3f}  = network + {per_image / network - 1:.0%}")
    print(f"  whole command with start-up      {seconds / count:.3f}  (start-up {start_up:.1f} s once)")
    for stage, value in timings.items():
        if stage.endswith("_s") and stage not in ("total_s", "prepare_s", "load_s"):
            print(f"    {stage:<30} {value / count:.3f}")
    print(f"  peak memory of all processes     {peak / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()

"""Times all that is not the network in a whole COCO run, against the time of ResNet-50 (os32) at 641 x 641.

    python bench/reproduce_coco.py --count 60

No trained ResNet-50 can be bundled, and a random one predicts nothing like scenes. So the run takes its maps
from the bundled COCO network at 641 x 641, and calls a ResNet-50 of random weights on every image besides:
the cores are as busy as they would be, and post-processing, statistics, files and scripts work on real
segments. Prints seconds per image of both networks alone and of the whole run, and what is left as a share
of ResNet-50's time. The networks are timed before and after: machines may be busy.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from draw_coco import draw_coco
from reproduce import run

REGISTRY = """\
version: 1
datasets:
  drawn: {{title: drawn scenes, format: coco, split: val2017, images: {count}}}
entries:
  drawn/coco:
    extends: minicoco/mobilenet_v3_small_os16
    dataset: drawn
    title: MobilenetV3-S
    checkpoint: package://zoo/assets/minicoco_mobilenet_v3_small_os16.tar.gz
    network: {{train_crop_size: [641, 641]}}
    evaluation:
      crop_size: [641, 641]
      min_resize_value: [641]
      max_resize_value: [641]
      stuff_area_limit: 4096
      nms_kernel: 41
"""

BOTH_NETWORKS = """
import json, sys, time
from pathlib import Path
from zoo.files.tensorflow import import_tensorflow
import_tensorflow()
from zoo.fetch.fetcher import Fetcher
from zoo.network.loading import build, load_entry
from zoo.model.folding import fold_batch_norm
from zoo.model.inference import compile_inference
from zoo.network.network import Network
from zoo.registry import load_registry
from zoo.repro.coco.dataset import CocoDataset
from zoo.repro.datasets.opening import open_files
from zoo.repro.run.reproduce import reproduce_entry

mode, registry_file, data, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
import numpy as np
registry = load_registry([registry_file])
entry = registry.resolve("drawn/coco")
resnet = compile_inference(fold_batch_norm(build("coco/resnet50_os32").keras_model, consume=True), fold=False)
crop = np.random.default_rng(0).uniform(0, 255, (1, 641, 641, 3)).astype(np.float32)

maps_alone = Network.maps

def maps_with_resnet(network, images):
    for _ in images:
        for values in resnet(crop).values():
            values.numpy()
    return maps_alone(network, images)

if mode == "alone":
    dataset = open_files(CocoDataset, data, "val2017")
    network = load_entry(entry, Fetcher().checkpoint(entry), optimize=True, device="auto")
    images = [dataset.load(index).image for index in range(min(4, len(dataset)))]
    def seconds(call):
        call()
        start = time.perf_counter()
        for _ in range(20):
            call()
        return (time.perf_counter() - start) / 20
    small = seconds(lambda: network.maps(images[:1]))
    large = seconds(lambda: [values.numpy() for values in resnet(crop).values()])
    print(json.dumps({"small": small, "resnet": large}))
else:
    Network.maps = maps_with_resnet
    record = reproduce_entry(entry, registry=registry, data=data, out=out)
    print(json.dumps(record["timings"]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=60, help="number of scenes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        draw_coco(work / "data", count=options.count, height=480, width=640, seed=1)
        registry = work / "registry.yaml"
        registry.write_text(REGISTRY.format(count=options.count), encoding="utf-8")

        def child(mode: str) -> tuple[dict[str, float], float]:
            command = [sys.executable, "-c", BOTH_NETWORKS, mode, str(registry), str(work / "data")]
            output, _, peak = run([*command, str(work / "run")], work)
            return json.loads(output.splitlines()[-1]), peak

        before, _ = child("alone")
        timings, peak = child("whole")
        after, _ = child("alone")

    small, resnet = ((before[key] + after[key]) / 2 for key in ("small", "resnet"))
    whole = (timings["total_s"] - timings["prepare_s"] - timings["load_s"]) / options.count
    rest = whole - small - resnet
    print(f"{options.count} images of 480 x 640, resized to 481 x 641; seconds per image:")
    print(f"  ResNet-50 (os32) alone           {resnet:.3f}  ({before['resnet']:.3f}, {after['resnet']:.3f})")
    print(f"  bundled network alone            {small:.3f}  ({before['small']:.3f}, {after['small']:.3f})")
    print(f"  whole run, start-up apart        {whole:.3f}")
    print(f"  all that is not the networks     {rest:.3f}  = {rest / resnet:.0%} of ResNet-50's time")
    for stage, value in timings.items():
        if stage.endswith("_s") and stage not in ("total_s", "prepare_s", "load_s"):
            print(f"    {stage:<30} {value / options.count:.3f}")
    print(f"  peak memory of all processes     {peak / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()

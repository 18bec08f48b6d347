"""Times `zoo score` on drawn predictions of COCO's size against the tools that it replaces, and its memory.

    python bench/score.py --count 500

The tools are panopticapi's `pq_compute` (the same code in cityscapesscripts) in as many processes as zoo uses
threads, and pycocotools' mask AP from run lengths that are ready. Both read the same files as zoo, which also
checks them and measures mean IoU. Each is timed in a process of its own, imports apart, and in turns, because
machines may be busy: medians are compared, of seconds and of the processor's seconds, subprocesses included.
What bounds the ratio is the time in which all PNG files are decoded, in as many processes. With `--work DIR`
what is drawn stays there, and is drawn once.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as run_lengths
from reproduce import run

from zoo.files.processes import available_cores
from zoo.repro.coco.classes import COCO

REGISTRY = """\
version: 1
datasets:
  drawn: {{title: drawn scenes, format: coco, split: val2017, images: {count}}}
entries: {{}}
"""

# Defines `cpu_seconds()`.
CPU = """
import resource
def cpu_seconds():
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in found)
"""

TOOLS = """
import contextlib, io, json, multiprocessing, sys, time
from pathlib import Path
data, predictions, processes = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
from cityscapesscripts.evaluation import evalPanopticSemanticLabeling as panoptic
from zoo.repro.official.process import restore_numpy
restore_numpy()
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
multiprocessing.cpu_count = lambda: processes
seconds = {}
cpu = cpu_seconds()
with contextlib.redirect_stdout(io.StringIO()):
    start = time.perf_counter()
    found = json.loads((predictions / "panoptic.json").read_text())["annotations"]
    by_image = {each["image_id"]: each for each in found}
    truth = json.loads((data / "annotations/panoptic_val2017.json").read_text())
    wanted = [each for each in truth["annotations"] if each["image_id"] in by_image]
    pairs = [(each, by_image[each["image_id"]]) for each in wanted]
    categories = {each["id"]: each for each in truth["categories"]}
    stat = panoptic.pq_compute_multi_core(
        pairs, str(data / "annotations/panoptic_val2017"), str(predictions / "panoptic"), categories)
    pq, _ = stat.pq_average(categories, isthing=None)
    seconds["pq"] = time.perf_counter() - start
    start = time.perf_counter()
    ground_truth = COCO(str(data / "annotations/instances_val2017.json"))
    found = ground_truth.loadRes(str(predictions.parent / "instance.json"))
    evaluation = COCOeval(ground_truth, found, "segm")
    evaluation.params.imgIds = sorted(by_image)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    seconds["ap"] = time.perf_counter() - start
numbers = {"pq": 100 * pq["pq"], "ap": 100 * evaluation.stats[0]}
print(json.dumps({"seconds": seconds, "cpu": cpu_seconds() - cpu, **numbers}))
"""

DECODE = """
import sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from zoo.repro.datasets.image_files import decode_plain_png

def decode(path):
    assert decode_plain_png(path.read_bytes()) is not None

files = sorted(Path(sys.argv[1]).glob("*.png")) + sorted(Path(sys.argv[2]).glob("*.png"))
with ProcessPoolExecutor(int(sys.argv[3])) as processes:
    list(processes.map(decode, files[:8]))  # starts them
    start = time.perf_counter()
    list(processes.map(decode, files, chunksize=50))
    print(time.perf_counter() - start)
"""

ZOO = """
import json, sys, time
from pathlib import Path
from zoo.registry import load_registry
from zoo.repro.run.score import score
registry, data, predictions, out = (Path(word) for word in sys.argv[1:5])
start, cpu = time.perf_counter(), cpu_seconds()
record = score(predictions, dataset="drawn", data=data, out=out, evaluators=["internal"],
               registry=load_registry([registry]))
found = {"seconds": time.perf_counter() - start, "cpu": cpu_seconds() - cpu}
print(json.dumps({**found, "metrics": record["metrics"], "timings": record["timings"]}))
"""


def draw_predictions(data: Path, out: Path, seed: int = 0) -> None:
    """Writes what a fair model might predict for the panoptic ground truth of `draw_coco`."""
    truth = json.loads((data / "annotations/panoptic_val2017.json").read_text(encoding="utf-8"))
    things = {category["id"] for category in truth["categories"] if category["isthing"]}
    known = sorted(COCO.original_ids[1:])
    (out / "panoptic").mkdir(parents=True, exist_ok=True)
    annotations, instances = [], []
    for annotation in truth["annotations"]:
        random = np.random.default_rng([seed, annotation["image_id"]])
        path = data / "annotations/panoptic_val2017" / annotation["file_name"]
        colours = np.asarray(Image.open(path)).astype(np.int32) @ [1, 256, 65536]
        height, width = colours.shape
        # Borders move smoothly by a few pixels, as stride-4 maps make them.
        coarse = random.normal(0, 5, (2, height // 16 + 2, width // 16 + 2)).cumsum(1) / 4
        rows, columns = np.mgrid[:height, :width]
        shift = coarse[:, rows // 16, columns // 16]
        moved = colours[
            np.clip(rows + shift[0].astype(int), 0, height - 1),
            np.clip(columns + shift[1].astype(int), 0, width - 1),
        ]
        predicted, segments = np.zeros((height, width), np.int32), []
        for segment in annotation["segments_info"]:
            mask = moved == segment["id"]
            if not mask.any() or random.random() < 0.1:
                continue
            category = segment["category_id"] if random.random() < 0.9 else int(random.choice(known))
            number = len(segments) + 1
            predicted[mask] = number
            found = {"id": number, "category_id": category, "area": int(mask.sum()), "iscrowd": 0}
            if category in things:
                found["score"] = round(float(random.beta(5, 2)), 6)
                encoded = run_lengths.encode(np.asfortranarray(mask, np.uint8))
                instances.append(
                    {
                        "image_id": annotation["image_id"],
                        "category_id": category,
                        "score": found["score"],
                        "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()},
                    }
                )
            segments.append(found)
        png = np.stack([predicted & 255, predicted >> 8 & 255, predicted >> 16], -1).astype(np.uint8)
        Image.fromarray(png).save(out / "panoptic" / annotation["file_name"])
        annotations.append({**annotation, "segments_info": segments})
    (out / "panoptic.json").write_text(json.dumps({"annotations": annotations}), encoding="utf-8")
    (out.parent / "instance.json").write_text(json.dumps(instances), encoding="utf-8")


def draw(work: Path, count: int) -> None:
    """Draws data, predictions and a registry below `work`, unless they are there."""
    registry = work / "registry.yaml"
    if registry.exists():
        return
    if not (work / "data/annotations").exists():
        from draw_coco import draw_coco

        draw_coco(work / "data", count=count, height=480, width=640, seed=1)
    draw_predictions(work / "data", work / "predicted/folder")
    registry.write_text(REGISTRY.format(count=count), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--work", type=Path, default=None)
    options = parser.parse_args()
    processes = available_cores()
    with tempfile.TemporaryDirectory() as name:
        work = (options.work or Path(name)).resolve()
        parts = {count: work / str(count) for count in (max(1, options.count // 5), options.count)}
        for count, part in parts.items():
            draw(part, count)

        def measure(script: str, *words: object) -> tuple[dict[str, Any], float]:
            output, _, peak = run([sys.executable, "-c", CPU + script, *map(str, words)], Path(name))
            return json.loads(output.splitlines()[-1]), peak

        def zoo(count: int, number: int) -> tuple[dict[str, Any], float]:
            part, out = parts[count], Path(name) / f"run{count}_{number}"
            return measure(ZOO, part / "registry.yaml", part / "data", part / "predicted/folder", out)

        few, many = parts
        zoo(few, 0)  # compiles the pixel loops
        words = [str(parts[many] / "data"), str(parts[many] / "predicted/folder"), str(processes)]
        turns = [(measure(TOOLS, *words), zoo(many, number)) for number in range(options.turns)]
        folders = [str(parts[many] / "data/annotations/panoptic_val2017"), words[1] + "/panoptic"]
        decoded, _, _ = run([sys.executable, "-c", DECODE, *folders, str(processes)], Path(name))
        _, peak_of_few = zoo(few, options.turns)
    (tools, peak_of_tools), (scored, peak) = turns[-1]
    of_tools = median(sum(each["seconds"].values()) for (each, _), _ in turns)
    of_zoo = median(each["seconds"] for _, (each, _) in turns)
    cpu_of_tools, cpu_of_zoo = (median(turn[i][0]["cpu"] for turn in turns) for i in (0, 1))
    print(f"{many} images of 480 x 640, {processes} processes or threads, {cpu_name()}")
    parts_of_tools = [median(each["seconds"][part] for (each, _), _ in turns) for part in ("pq", "ap")]
    print("  pq_compute {:.2f} s, pycocotools {:.2f} s".format(*parts_of_tools))
    print(f"  zoo score {of_zoo:.2f} s; ratio {of_tools / of_zoo:.2f}")
    print(f"  processor: tools {cpu_of_tools:.2f} s, zoo {cpu_of_zoo:.2f} s: {cpu_of_tools / cpu_of_zoo:.2f}")
    bound = float(decoded.splitlines()[-1])
    print(f"  decoding all PNG files alone {bound:.2f} s: the ratio is {of_tools / bound:.1f} at most")
    print(f"  PQ and AP of the tools {tools['pq']:.4f}, {tools['ap']:.4f}; zoo: {scored['metrics']}")
    print(f"  timings of zoo: {scored['timings']}")
    of_few = f"({few} images: {peak_of_few / 2**20:.0f} MiB)"
    print(f"  peak memory: zoo {peak / 2**20:.0f} MiB {of_few}, tools {peak_of_tools / 2**20:.0f} MiB")


def cpu_name() -> str:
    """Returns the processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if "model name" in line), platform.machine()
    )


if __name__ == "__main__":
    main()

"""Says from measured figures how long all entries take on 1 to 256 workers, and why more stop helping.

    python bench/cluster_model.py

Writes docs/cluster/cost.md and cost.svg. The seconds of the networks are those of docs/networks.md, all other
figures those of bench/cluster_figures.json, which bench/cluster_figures.py measures. `python bench/cluster.py
--check` compares this model with real runs.
"""

from __future__ import annotations

import heapq
import json
import math
import re
import statistics
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.registry import load_registry

ROOT = Path(__file__).parent.parent
FIGURES = Path(__file__).with_name("cluster_figures.json")
WORKERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
RUNS_AT_ONCE = 2
PARTS_FOR_EACH_CORE = 3
FEWEST_IMAGES_IN_A_PART = 4
NAMES = {"cityscapes": "Cityscapes val", "coco": "COCO val"}
BOTH = "Both"
KEYS = {
    "images": "images",
    "image_work_s": "reading, post-processing, statistics, files: core seconds per image",
    "official_s": "official scripts: core seconds per image",
    "official_start_s": "official scripts: their start for each part, core seconds",
    "merge_s": "official scripts: adding up, seconds per image",
    "prepare_s": "before the first image, seconds",
    "tail_s": "after the scripts, seconds",
    "bytes_in": "bytes read per image",
    "bytes_out": "predictions and statistics, bytes per image",
    "official_bytes": "what the scripts found, bytes per image",
}
COMMON_KEYS = {
    "ray_start_s": "start of Ray on this machine, seconds",
    "worker_start_s": "start of a worker, seconds",
    "driver_s": "driver, seconds per image",
    "link_bytes_per_s": "network of the driver, bytes per second (assumed)",
}


@dataclass
class Pass:
    """A run of one entry.

    Attributes:
      image_s: seconds of a worker for an image.
      prepare_s: from the start of the run to the first image; its process waits for nothing else.
      part_s: a worker's seconds for each part of the official scripts' work.
      tail_s: from the last part to the record, on the driver alone.
      driver_s: of the driver for each image.
    """

    name: str
    images: int
    image_s: float
    prepare_s: float
    part_s: list[float]
    tail_s: float
    driver_s: float
    ready: float = math.inf  # when its next work can begin
    images_left: int = field(init=False)
    parts_left: list[float] = field(init=False)
    last_end: float = 0.0

    def __post_init__(self) -> None:
        self.images_left, self.parts_left = self.images, list(self.part_s)

    @property
    def work_s(self) -> float:
        """Seconds that one worker would need."""
        return self.images * self.image_s + sum(self.part_s)


@dataclass
class Spent:
    """Seconds of a night, and of all its workers together, by what they did."""

    wall_s: float = 0.0
    images_s: float = 0.0
    starting_s: float = 0.0
    official_s: float = 0.0


def simulate(passes: Sequence[Pass], workers: int, *, ray_start_s: float, worker_start_s: float) -> Spent:
    """Plays a night: entries and shards are one queue, longest first; a worker takes what is ready first."""
    queue = sorted(passes, key=lambda each: -each.work_s)
    spent, active, free = Spent(), [], [(ray_start_s, number) for number in range(workers)]
    holds: dict[int, Pass] = {}

    def activate(now: float) -> None:
        if queue:
            active.append(queue.pop(0))
            active[-1].ready = now + active[-1].prepare_s
            active[-1].last_end = active[-1].ready

    for _ in range(RUNS_AT_ONCE):
        activate(ray_start_s)
    while active:
        now, worker = heapq.heappop(free)
        run = next((each for each in active if each.ready <= now), None)
        if run is None:
            heapq.heappush(free, (min(each.ready for each in active), worker))
            continue
        if run.images_left:
            begun = now if holds.get(worker) is run else now + worker_start_s
            spent.starting_s += begun - now
            spent.images_s += run.image_s
            holds[worker] = run
            end = begun + run.image_s
            # The driver takes one result at a time.
            run.last_end = max(run.last_end, end) + run.driver_s
            run.images_left -= 1
            if not run.images_left:
                run.ready = run.last_end
        else:
            seconds = run.parts_left.pop() if run.parts_left else 0.0
            spent.official_s += seconds
            holds.pop(worker, None)
            end = now + seconds
            run.last_end = max(run.last_end, end)
        if not run.images_left and not run.parts_left:
            done = run.last_end + run.tail_s
            active.remove(run)
            spent.wall_s = max(spent.wall_s, done)
            activate(done)
        heapq.heappush(free, (end, worker))
    return spent


def parts_of(images: int, cores: int) -> list[int]:
    """Returns the sizes of the parts in which the official scripts' work is dealt."""
    size = max(FEWEST_IMAGES_IN_A_PART, -(-images // (PARTS_FOR_EACH_CORE * cores)))
    return [min(size, images - start) for start in range(0, images, size)]


def network_seconds() -> dict[str, float]:
    """Returns seconds per image by entry: measured ones, else those of the rate of the measured networks."""
    page = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\S+/\S+) \| float32 \| *([\d.]+) \|", page, flags=re.MULTILINE)
    measured = {name: float(seconds) for name, seconds in rows}
    sizes = {entry.name: entry.multiply_adds for entry in load_registry().entries if entry.multiply_adds}
    rate = statistics.median(seconds / sizes[name] for name, seconds in measured.items() if name in sizes)
    return {name: size * rate for name, size in sizes.items()} | measured


def passes_over(dataset: str, workers: int, figures: dict[str, Any], seconds: dict[str, float]) -> list[Pass]:
    """Returns a run for each entry of a data set."""
    own, cores = figures["datasets"][dataset], figures["cores_of_a_worker"]
    images, link = own["images"], figures["link_bytes_per_s"]
    parts = [
        (own["official_start_s"] + count * own["official_s"]) / cores
        for count in parts_of(images, workers * cores)
    ]
    names = [entry.name for entry in load_registry().entries if entry.dataset == dataset]
    return [
        Pass(
            name,
            images,
            image_s=seconds[name] + own["image_work_s"] / cores,
            prepare_s=own["prepare_s"],
            part_s=parts,
            tail_s=own["tail_s"] + images * own["merge_s"],
            # All bytes go through its link: predictions come, and go out again for the scripts.
            driver_s=figures["driver_s"] + (2 * own["bytes_out"] + own["official_bytes"]) / link,
        )
        for name in names
    ]


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Returns a Markdown table; the first row is its head."""
    head, *body = rows
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *body]
    return [f"| {' | '.join(row)} |" for row in lines]


def duration(seconds: float) -> str:
    """Returns seconds in the unit in which they are easily read."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def chart(nights: dict[str, dict[int, Spent]]) -> str:
    """Returns an SVG of the wall times, both axes logarithmic; thin lines are perfect scaling."""
    width, height, left, bottom = 640, 360, 60, 40
    highest = max(spent.wall_s for by_workers in nights.values() for spent in by_workers.values())
    lowest = min(by_workers[1].wall_s / WORKERS[-1] for by_workers in nights.values())

    def place(workers: float, seconds: float) -> str:
        x = left + math.log2(workers) / math.log2(WORKERS[-1]) * (width - left - 130)
        share = math.log(seconds / lowest) / math.log(highest / lowest)
        return f"{x:.1f},{height - bottom - share * (height - bottom - 20):.1f}"

    lines = []
    for (name, by_workers), colour in zip(nights.items(), ("#1b6ca8", "#c05621", "#2f855a"), strict=False):
        ideal = " ".join(place(count, by_workers[1].wall_s / count) for count in (1, WORKERS[-1]))
        real = " ".join(place(count, spent.wall_s) for count, spent in by_workers.items())
        x, y = real.split()[-1].split(",")
        lines += [
            f'<polyline points="{ideal}" fill="none" stroke="{colour}" stroke-width="0.7" opacity="0.6"/>',
            f'<polyline points="{real}" fill="none" stroke="{colour}" stroke-width="2.2"/>',
            f'<text x="{float(x) + 8:.0f}" y="{float(y) + 4:.0f}" fill="{colour}">{name}</text>',
        ]
    for count in WORKERS:
        x, _ = place(count, lowest).split(",")
        lines.append(f'<text x="{x}" y="{height - 20}" text-anchor="middle">{count}</text>')
    for unit, seconds in (("1 min", 60), ("10 min", 600), ("1 h", 3600), ("10 h", 36000), ("4 d", 345600)):
        if lowest <= seconds <= highest:
            _, y = place(1, seconds).split(",")
            lines.append(f'<text x="{left - 8}" y="{float(y) + 4:.0f}" text-anchor="end">{unit}</text>')
            lines.append(f'<path d="M{left} {y} H{width - 130}" stroke="#ccc" stroke-width="0.5"/>')
    lines.append(f'<text x="{(left + width - 130) / 2}" y="{height - 4}" text-anchor="middle">workers</text>')
    body = "\n".join(lines)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="12">\n<rect width="{width}" height="{height}" fill="white"/>\n'
        f"{body}\n</svg>\n"
    )


def night_table(by_workers: dict[int, Spent]) -> list[str]:
    """Returns the table of one night."""
    one = by_workers[1].wall_s
    head = ["workers", "wall time", "machine hours", "of perfect scaling"]
    rows = [[*head, "images", "starts", "scripts", "waiting"]]
    for workers, spent in by_workers.items():
        total = workers * spent.wall_s
        parts = (spent.images_s, spent.starting_s, spent.official_s)
        shares = [f"{each / total:.1%}" for each in (*parts, total - sum(parts))]
        scaling = f"{one / spent.wall_s / workers:.0%}"
        rows.append([str(workers), duration(spent.wall_s), f"{total / 3600:,.1f}", scaling, *shares])
    return table(rows)


def flow(text: str, indent: str = "") -> str:
    """Returns a paragraph in lines of at most 118 characters."""
    return textwrap.fill(" ".join(text.split()), 118, subsequent_indent=indent, break_on_hyphens=False)


def page(nights: dict[str, dict[int, Spent]], figures: dict[str, Any]) -> str:
    """Returns docs/cluster/cost.md."""
    own = figures["datasets"]
    entries = load_registry().entries
    lines = [
        "# What a cluster costs",
        "",
        flow(f"""
            Made by `python bench/cluster_model.py` from measured figures: do not edit. A worker is a
            process with {figures["cores_of_a_worker"]} cores of the machine of the figures
            ({figures["machine"]}); machine hours are the hours of all workers, waiting ones too. All
            entries are one night, longest first, {RUNS_AT_ONCE} runs at a time: while the last images of
            one are computed, workers that are free begin the next."""),
        "",
        "![Wall time by number of workers](cost.svg)",
        "",
    ]
    for name, by_workers in nights.items():
        datasets = [key for key, title in NAMES.items() if name in (title, BOTH)]
        count = sum(entry.dataset in datasets for entry in entries)
        images = " and ".join(f"{own[key]['images']:,}" for key in datasets)
        lines += [f"## {name}: {count} entries, {images} images", "", *night_table(by_workers), ""]
    lines += [*why(nights[BOTH], figures), "", "## Figures", ""]
    lines += [
        flow("""
            Seconds of the networks are in [networks.md](../networks.md); for entries that are not there,
            multiply-adds at the median rate of those that are. The others, from `bench/cluster_figures.json`:
            """),
        "",
        *table(
            [
                ["figure", *own],
                *([text, *(f"{own[name][key]:,}" for name in own)] for key, text in KEYS.items()),
            ]
        ),
        "",
        *table([["figure", "value"], *([text, f"{figures[key]:,}"] for key, text in COMMON_KEYS.items())]),
    ]
    return "\n".join(lines) + "\n"


def why(by_workers: dict[int, Spent], figures: dict[str, Any]) -> list[str]:
    """Returns the section that says where more workers stop helping."""
    most, own = WORKERS[-1], figures["datasets"]
    one, last = by_workers[1].wall_s, by_workers[most]
    enough = max(count for count, spent in by_workers.items() if one / spent.wall_s >= 0.8 * count)
    starts = last.starting_s / (most * last.wall_s)
    driver_s = figures["driver_s"] * own["coco"]["images"]
    reasons = [
        f"""**Starts.** Every worker loads every network whose images it takes:
            {figures["worker_start_s"]:.0f} s each time, however few images are left for it.""",
        """**The slowest shard.** A shard is one image, which takes up to two minutes in the largest
            network. Workers that get no last one begin the next network, and wait where there is none.""",
        f"""**The driver.** It writes each image's files and statistics, and sends the files out again for the
            scripts: {figures["driver_s"] * 1000:.0f} ms for each image besides the bytes, so that no
            network over COCO val takes less than {duration(driver_s)}, whatever the number of workers.""",
        """**The end of a run.** Official scripts look at images on all workers, but each adds up, matches and
            averages in one process, and the driver writes the record; another run uses the workers meanwhile,
            except at the very end.""",
    ]
    return [
        "## Where it stops, and why",
        "",
        flow(f"""
            Up to {enough} workers, both data sets together scale to at least 80 % of perfect. At {most}
            workers the wall time is {duration(last.wall_s)}, and {starts:.0%} of the workers' time goes to
            starts:"""),
        "",
        *(flow(f"- {reason}", "  ") for reason in reasons),
    ]


def main() -> None:
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    seconds, starts = network_seconds(), {key: figures[key] for key in ("ray_start_s", "worker_start_s")}
    nights: dict[str, dict[int, Spent]] = {}
    for name in (*NAMES.values(), BOTH):
        datasets = [key for key, title in NAMES.items() if name in (title, BOTH)]
        nights[name] = {}
        for workers in WORKERS:
            passes = [
                each for dataset in datasets for each in passes_over(dataset, workers, figures, seconds)
            ]
            nights[name][workers] = simulate(passes, workers, **starts)
    folder = ROOT / "docs" / "cluster"
    (folder / "cost.md").write_text(page(nights, figures), encoding="utf-8")
    (folder / "cost.svg").write_text(chart(nights), encoding="utf-8")
    print("\n".join(night_table(nights[BOTH])))


if __name__ == "__main__":
    main()

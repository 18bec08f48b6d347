"""The page that bench/runtimes.py writes: tables of errors and speed, and a chart."""

from __future__ import annotations

import math
import textwrap
from typing import Any

from zoo.runtimes.choice import RUNTIMES

_ERRORS = (
    "Written by `bench/runtimes.py`; do not edit. Networks with the values of the goldens, folded as for "
    "predictions and by `zoo export`, on every runtime in float32: the largest difference of a map from the "
    "reference implementation's, in millionths of the map's standard deviation; first at 65 x 129, then at "
    "289 x 577 (axial networks: 193 x 385, where there are goldens; kMaX-DeepLab: the first alone, on COCO "
    "at 65 x 65). At most 100 is right, 300 for SWideRNet-SAC-(1,1,4.5) at 289 x 577, where runs of the "
    "reference itself in float32 differ by as much, and for kMaX-DeepLab ten times what rounding gives in "
    "the reference, 420 to 960: it changes which slot a pixel belongs to. A dash: not measured."
)
_SPEED = (
    "Seconds are medians for one image at the published input, TensorFlow's in float32 measured in turn "
    "with the runtime's in one process; faster is TensorFlow's time over the runtime's, the median over the "
    "turns. Peak is the memory of a process that only loads the file and runs it."
)
_COLORS = ("#e69f00", "#0072b2", "#d55e00", "#009e73", "#56b4e9", "#cc79a7", "#000000")
_HEADER = (
    "network", "runtime", "precision", "s/image", "TensorFlow s", "faster", "peak GiB", "file MB",
)  # fmt: skip


def page(results: list[dict[str, Any]], networks: list[str], picture: str) -> str:
    """Returns the page of all results, a row for each of `networks`; `picture` is the file of the chart."""
    lines = ["# Runtimes", "", *textwrap.wrap(_ERRORS, 118), "", f"![Largest errors]({picture})", ""]
    for where in dict.fromkeys(result["machine"] for result in results):
        here = [result for result in results if result["machine"] == where]
        lines += [
            f"## {where}",
            "",
            *_error_table(here, networks),
            "",
            *textwrap.wrap(_summary(here), 118),
            "",
        ]
        timed = [result for result in here if "ratio" in result]
        if timed:
            lines += ["### Speed", "", *textwrap.wrap(_SPEED, 118), ""]
            lines += [f"| {' | '.join(_HEADER)} |", f"| {' | '.join(['---'] * 3 + ['---:'] * 5)} |"]
            lines += [*map(_row, timed), ""]
    return "\n".join(lines)


def _error_table(results: list[dict[str, Any]], networks: list[str]) -> list[str]:
    of_pair = {(each["network"], each["runtime"]): each for each in results if each["precision"] == "float32"}
    lines = [
        f"| {' | '.join(['network', *RUNTIMES])} |",
        f"| {' | '.join(['---'] + ['---:'] * len(RUNTIMES))} |",
    ]
    for network in networks:
        cells = [errors_of(of_pair.get((network, runtime))) for runtime in RUNTIMES]
        lines.append(f"| {' | '.join([network, *cells])} |")
    return lines


def errors_of(result: dict[str, Any] | None) -> str:
    """Returns the errors of a result at each size, in millionths."""
    if result is None:
        return "-"
    return ", ".join(f"{1e6 * error:.1f}" for error in result["errors"].values())


def _row(result: dict[str, Any]) -> str:
    cells = [
        result["network"],
        result["runtime"],
        result["precision"],
        f"{result['runtime_s']:.3f}",
        f"{result['tensorflow_s']:.3f}",
        f"{result['ratio']:.2f}",
        f"{result['peak_bytes'] / 2**30:.2f}",
        f"{result['bytes'] / 1e6:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _summary(results: list[dict[str, Any]]) -> str:
    found = sorted({version for result in results for version in result["versions"]})
    days = sorted({result["measured"] for result in results})
    return f"Measured {' to '.join(dict.fromkeys([days[0], days[-1]]))} with {', '.join(found)}."


def chart(results: list[dict[str, Any]], networks: list[str]) -> str:
    """Returns an SVG of each network's and runtime's largest error, beside the one that is right."""
    colors = dict(zip(RUNTIMES, _COLORS, strict=True))
    left, right, top, row = 300, 700, 40, 18
    bottom = top + row * len(networks)

    def place(error: float) -> float:
        return left + (right - left) * (math.log10(max(error, 1e-6)) + 6) / 3

    parts = []
    for power in range(-6, -2):
        x = place(10.0**power)
        parts.append(f'<path d="M{x:.1f} {top}V{bottom}" stroke="{"#c00" if power == -4 else "#ddd"}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">1e{power}</text>')
    for number, network in enumerate(networks):
        y = top + row * number + row / 2
        parts.append(f'<text x="{left - 10}" y="{y + 4}" text-anchor="end">{network}</text>')
        for result in results:
            if result["network"] == network and result["precision"] == "float32":
                x, color = place(max(result["errors"].values())), colors[result["runtime"]]
                parts.append(f'<circle cx="{x:.1f}" cy="{y}" r="4" fill="{color}" fill-opacity="0.7"/>')
    for number, (runtime, color) in enumerate(colors.items()):
        x = left - 180 + 85 * number
        parts.append(f'<circle cx="{x}" cy="20" r="4" fill="{color}"/>')
        parts.append(f'<text x="{x + 9}" y="24">{runtime}</text>')
    parts.append(
        f'<text x="{(left + right) / 2}" y="{bottom + 34}" text-anchor="middle">largest error, standard '
        "deviations; at most the red line is right</text>"
    )
    width, height = right + 60, bottom + 46
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="12">\n<rect width="{width}" height="{height}" fill="white"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )

"""The explanation of a run's two numbers as a picture: one SVG file that needs nothing else.

Text stays text, colours follow a light or dark surrounding, and a description says in words what is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape

from zoo.reports.explain.steps import Explanation
from zoo.reports.explain.tables import points
from zoo.reports.explain.waterfall import Waterfall

_WIDTH_PX = 760
_LEFT_PX, _RIGHT_PX = 240, 660
_ROW_PX, _BAR_PX = 26, 14
_TITLE_PX, _AXIS_PX, _GAP_PX = 34, 40, 18

# Vermilion and blue of Okabe and Ito's palette, which colour-blind readers can tell apart.
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1a1a1a; }
.title { font-weight: 600; font-size: 15px; }
.small { font-size: 11px; fill: #555; }
.zero { fill: #6b6b6b; }
.grid { stroke: #ddd; } .link { stroke: #888; stroke-dasharray: 2 2; } .end { fill: #1a1a1a; }
.up { fill: #0072b2; } .down { fill: #d55e00; }
@media (prefers-color-scheme: dark) {
  text { fill: #eee; } .small { fill: #aaa; } .zero { fill: #999; }
  .grid { stroke: #444; } .link { stroke: #999; } .end { fill: #eee; }
  .up { fill: #56b4e9; } .down { fill: #f0883e; }
}
"""


def draw(explanation: Explanation) -> str:
    """Returns the waterfalls of all metrics as one SVG document, each with an axis of its own."""
    top, panels = 10, []
    for waterfall in explanation.waterfalls:
        panels += _panel(waterfall, top)
        top += _panel_height(waterfall) + _GAP_PX
    of = explanation.images_in_dataset
    counted = f"{explanation.images}" if explanation.images == of else f"{explanation.images} of {of}"
    title = f"{explanation.entry}, {counted} images: from the internal to the official number"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH_PX} {top}" width="{_WIDTH_PX}" '
            f'height="{top}" role="img" aria-labelledby="title description">',
            f'<title id="title">{escape(title)}</title>',
            f'<desc id="description">{escape(_describe(explanation))}</desc>',
            f"<style>{_STYLE}</style>",
            *panels,
            "</svg>\n",
        ]
    )


def _describe(explanation: Explanation) -> str:
    sentences = []
    for waterfall in explanation.waterfalls:
        worths = ", ".join(f"{step.rule} {points(step.worth)}" for step in waterfall.steps)
        sentences.append(
            f"{waterfall.title} is {waterfall.internal:.3f} % internal and "
            f"{waterfall.official:.3f} % official. The rules are worth, in percentage points: {worths}."
        )
    return " ".join(sentences)


def _panel_height(waterfall: Waterfall) -> int:
    return _TITLE_PX + _ROW_PX * (len(waterfall.steps) + 2) + _AXIS_PX


def _panel(waterfall: Waterfall, top: int) -> list[str]:
    values = [waterfall.internal, *(step.value for step in waterfall.steps), waterfall.official]
    ticks = _ticks(min(values), max(values))
    low, high = ticks[0], ticks[-1]

    def x(value: float) -> float:
        return round(_LEFT_PX + (value - low) / (high - low) * (_RIGHT_PX - _LEFT_PX), 2)

    title = (
        f"{waterfall.title}: {waterfall.internal:.3f} internal, {waterfall.official:.3f} official "
        f"({points(waterfall.official - waterfall.internal)} points)"
    )
    first = top + _TITLE_PX
    bottom = first + _ROW_PX * len(values)
    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    drawn = [f'<text class="title" x="12" y="{top + 18}">{escape(title)}</text>']
    for tick in ticks:
        drawn.append(f'<line class="grid" x1="{x(tick)}" x2="{x(tick)}" y1="{first}" y2="{bottom}"/>')
        drawn.append(
            f'<text class="small" x="{x(tick)}" y="{bottom + 16}" text-anchor="middle">'
            f"{tick:.{decimals}f}</text>"
        )
    drawn += _end(first, "internal", waterfall.internal, x)
    before = waterfall.internal
    for row, step in enumerate(waterfall.steps, start=1):
        y = first + _ROW_PX * row
        left, right = sorted((x(before), x(step.value)))
        # What is too small to be seen has no bar: the line goes through.
        is_seen = right - left >= 0.5
        drawn += _link(y, x(before), through=not is_seen)
        quiet = ' class="zero"' if float(points(step.worth)) == 0 else ""
        drawn.append(f'<text{quiet} x="12" y="{y + 17}">{row}. {escape(step.rule)}</text>')
        if is_seen:
            drawn.append(
                f'<rect class="{"up" if step.worth > 0 else "down"}" x="{left}" y="{y + 6}" '
                f'width="{round(right - left, 2)}" height="{_BAR_PX}"/>'
            )
        drawn.append(
            f'<text{quiet} x="{_WIDTH_PX - 12}" y="{y + 17}" text-anchor="end">{points(step.worth)}</text>'
        )
        before = step.value
    y = first + _ROW_PX * (len(values) - 1)
    return [*drawn, *_link(y, x(before)), *_end(y, "official", waterfall.official, x)]


def _end(y: int, name: str, value: float, x: Callable[[float], float]) -> list[str]:
    return [
        f'<text x="12" y="{y + 17}">{name}</text>',
        f'<circle class="end" cx="{x(value)}" cy="{y + 13}" r="5"/>',
        f'<text x="{_WIDTH_PX - 12}" y="{y + 17}" text-anchor="end">{value:.3f}</text>',
    ]


def _link(y: int, x: float, *, through: bool = False) -> list[str]:
    """Returns the line from the row above to the row at `y`, or through that row."""
    end = y + _ROW_PX - 6 if through else y + 6
    return [f'<line class="link" x1="{x}" x2="{x}" y1="{y - 6}" y2="{end}"/>']


def _ticks(low: float, high: float) -> list[float]:
    """Returns rising round numbers that enclose the values; at least two."""
    span = max(high - low, 0.01)
    step = 10.0 ** math.floor(math.log10(span))
    step *= next(factor for factor in (0.2, 0.5, 1.0, 2.0) if span / (step * factor) <= 5 or factor == 2.0)
    first = math.floor(low / step - 1e-6)
    last = max(math.ceil(high / step + 1e-6), first + 1)
    return [round(step * position, 10) for position in range(first, last + 1)]

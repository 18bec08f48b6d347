"""Draws the explanation of a run's two numbers: one SVG file that needs nothing else.

Text stays text, colours follow a light or dark surrounding, and a description says in words what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable

from zoo.reports.explain.step_tables import points
from zoo.reports.explain.steps import Explanation
from zoo.reports.explain.waterfall import Waterfall
from zoo.reports.page.axis import round_ticks
from zoo.reports.page.elements import svg_file
from zoo.reports.page.markup import Markup, tag

_WIDTH_PX = 760
_LEFT_PX, _RIGHT_PX = 240, 660
_ROW_PX, _BAR_PX = 26, 14
_TITLE_PX, _AXIS_PX, _GAP_PX = 34, 40, 18
# An axis spans at least so many percentage points.
_LEAST_SPAN = 0.01

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
    title = f"{explanation.entry}, {explanation.counted_images}: from the internal to the official number"
    drawn = [
        tag("title", title, id="title"),
        tag("desc", _describe(explanation), id="description"),
        tag("style", Markup(_STYLE)),
    ]
    top = 10
    for waterfall in explanation.all_waterfalls:
        drawn += _panel(waterfall, top)
        top += _TITLE_PX + _ROW_PX * (len(waterfall.steps) + 2) + _AXIS_PX + _GAP_PX
    names = {"role": "img", "aria_labelledby": "title description"}
    return svg_file(drawn, _WIDTH_PX, top, **names) + "\n"


def _describe(explanation: Explanation) -> str:
    sentences = []
    for waterfall in explanation.all_waterfalls:
        worths = ", ".join(f"{step.rule} {points(step.worth)}" for step in waterfall.steps)
        first, last = waterfall.evaluators
        sentences.append(
            f"{waterfall.title} is {waterfall.start:.3f} % {first} and {waterfall.end:.3f} % {last}. "
            f"The rules are worth, in percentage points: {worths}."
        )
    return " ".join(sentences)


def _panel(waterfall: Waterfall, top: int) -> list[Markup]:
    first_name, last_name = waterfall.evaluators
    values = [waterfall.start, *(step.value for step in waterfall.steps), waterfall.end]
    ticks = round_ticks(min(values), max(*values, min(values) + _LEAST_SPAN), most=5)
    low, high = min(ticks), max(ticks)

    def x(value: float) -> float:
        return _LEFT_PX + (value - low) / (high - low) * (_RIGHT_PX - _LEFT_PX)

    title = (
        f"{waterfall.title}: {waterfall.start:.3f} {first_name}, {waterfall.end:.3f} {last_name} "
        f"({points(waterfall.end - waterfall.start)} points)"
    )
    first = top + _TITLE_PX
    bottom = first + _ROW_PX * len(values)
    drawn = [tag("text", title, class_="title", x=12, y=top + 18)]
    for tick, words in ticks.items():
        drawn.append(tag("line", class_="grid", x1=x(tick), x2=x(tick), y1=first, y2=bottom))
        drawn.append(tag("text", words, class_="small", x=x(tick), y=bottom + 16, text_anchor="middle"))
    drawn += _end(first, first_name, waterfall.start, x)
    before = waterfall.start
    for row, step in enumerate(waterfall.steps, start=1):
        y = first + _ROW_PX * row
        left, right = sorted((x(before), x(step.value)))
        # What is too small to be seen has no bar: the line goes through.
        is_seen = right - left >= 0.5
        drawn.append(_link(y, x(before), through=not is_seen))
        class_ = "zero" if float(points(step.worth)) == 0 else None
        drawn.append(tag("text", f"{row}. {step.rule}", class_=class_, x=12, y=y + 17))
        if is_seen:
            way = "up" if step.worth > 0 else "down"
            drawn.append(tag("rect", class_=way, x=left, y=y + 6, width=right - left, height=_BAR_PX))
        drawn.append(_number(points(step.worth), y, class_))
        before = step.value
    y = first + _ROW_PX * (len(values) - 1)
    return [*drawn, _link(y, x(before)), *_end(y, last_name, waterfall.end, x)]


def _end(y: int, name: str, value: float, x: Callable[[float], float]) -> list[Markup]:
    return [
        tag("text", name, x=12, y=y + 17),
        tag("circle", class_="end", cx=x(value), cy=y + 13, r=5),
        _number(f"{value:.3f}", y),
    ]


def _number(words: str, y: int, class_: str | None = None) -> Markup:
    return tag("text", words, class_=class_, x=_WIDTH_PX - 12, y=y + 17, text_anchor="end")


def _link(y: int, x: float, *, through: bool = False) -> Markup:
    """Returns the line from the row above to the row at `y`, or through that row."""
    return tag("line", class_="link", x1=x, x2=x, y1=y - 6, y2=y + _ROW_PX - 6 if through else y + 6)

"""The page's part on why the internal and the official number of a run differ."""

from __future__ import annotations

import base64

from zoo.errors import DataError
from zoo.reports.explain.steps import explain
from zoo.reports.explain.tables import STEP_COLUMNS, headline, step_rows
from zoo.reports.explain.waterfall import Waterfall
from zoo.reports.page.markup import Markup, join, scroll, tag
from zoo.reports.page.waterfall_svg import draw
from zoo.reports.runs import Run


def explanation_parts(run: Run) -> Markup | None:
    """Returns the waterfalls as a picture and as tables; None where the run does not allow to tell."""
    if not run.image_ids():
        return None
    try:
        explanation = explain(run.path)
    except DataError:
        # No official numbers, or a form of the data without crowd regions.
        return None
    # As an image, so that its style and its names stay its own.
    picture = tag(
        "img",
        src=f"data:image/svg+xml;base64,{base64.b64encode(draw(explanation).encode()).decode()}",
        alt="; ".join(headline(explanation, waterfall) for waterfall in explanation.waterfalls),
        class_="waterfall",
    )
    tables = [_step_table(waterfall) for waterfall in explanation.waterfalls]
    words = tag(
        "details",
        tag("summary", "The rules in words", tag("span", f" for {run.title}", class_="unseen")),
        scroll(join(tables), f"Rules in which the evaluators of {run.title} differ"),
    )
    return join((scroll(picture, f"From the internal to the official number of {run.title}"), words))


def _step_table(waterfall: Waterfall) -> Markup:
    # The first column is a number without a name.
    names = STEP_COLUMNS[1:]
    head = [
        tag("th", name, scope="col", class_="number" if i in (1, 2) else None) for i, name in enumerate(names)
    ]
    rows = [
        tag(
            "tr",
            tag("th", f"{number}. " if number else "", name, scope="row"),
            [tag("td", cell, class_="number" if i < 2 else "meaning") for i, cell in enumerate(cells)],
        )
        for number, name, *cells in step_rows(waterfall)
    ]
    caption = tag("caption", f"What each rule is worth in {waterfall.title}, in percentage points")
    return tag("table", caption, tag("thead", tag("tr", head)), tag("tbody", rows), class_="steps")

"""The page's part on why the internal and the official number of a run differ."""

from __future__ import annotations

from zoo.errors import DataError
from zoo.reports.explain.pq_steps import RULE_COLUMNS, RULES_BESIDE_EACH_OTHER
from zoo.reports.explain.step_tables import headline, step_columns, step_rows
from zoo.reports.explain.steps import explain
from zoo.reports.explain.waterfall import Waterfall
from zoo.reports.page.elements import data_uri, details, note, part, scroll, table
from zoo.reports.page.markup import Markup, join, tag
from zoo.reports.page.waterfall_svg import draw
from zoo.reports.runs import Run


def explanation_part(run: Run, anchor: str) -> Markup | None:
    """Returns the waterfalls as a picture and as tables, or why there are none.

    None where the statistics of the run's images were not kept beside the record.
    """
    if not run.folder.images.is_dir():
        return None
    title, anchor = "From the internal to the official number", f"{anchor}-explanation"
    try:
        explanation = explain(run.path)
    except DataError as error:
        return part(title, anchor, note(f"Not explained: {error}"))
    # As an image, so that its style and its names stay its own.
    picture = tag(
        "img",
        src=data_uri("image/svg+xml", draw(explanation).encode()),
        alt="; ".join(headline(explanation, waterfall) for waterfall in explanation.all_waterfalls),
        class_="waterfall",
    )
    tables = join(map(_step_table, explanation.all_waterfalls))
    if explanation.torchmetrics is not None:
        columns = [(name, None) for name in RULE_COLUMNS]
        caption = "The rules of PQ of each evaluator"
        tables = join([tables, table(caption, columns, RULES_BESIDE_EACH_OTHER, "steps")])
    scrolled = scroll(tables, f"Rules in which the evaluators of {run.title} differ")
    return part(
        title,
        anchor,
        note(
            "One rule after another is changed to that of the official scripts; and on, to that of "
            "torchmetrics, which was not run itself."
            if explanation.torchmetrics is not None
            else "One rule after another is changed to that of the official scripts."
        ),
        scroll(picture, f"{title} of {run.title}"),
        details("The rules in words", f" for {run.title}", scrolled),
    )


def _step_table(waterfall: Waterfall) -> Markup:
    # The first of the columns, a number without a title, goes before the rule.
    columns = zip(step_columns(waterfall)[1:], (None, "number", "number", "meaning"), strict=True)
    rows = [
        ((f"{number}. " if number else "", name), *cells) for number, name, *cells in step_rows(waterfall)
    ]
    first, last = waterfall.evaluators
    way = "" if waterfall.is_measured else f" from {first} to {last}"
    caption = f"What each rule is worth in {waterfall.title}{way}, in percentage points"
    return table(caption, list(columns), rows, "steps")

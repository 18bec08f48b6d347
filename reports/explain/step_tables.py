"""Tables that explain a run's two numbers, for a terminal and in Markdown."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.text import Text

from zoo.reports.explain.pq_steps import RULE_COLUMNS, RULES_BESIDE_EACH_OTHER, SAME_IN_BOTH
from zoo.reports.explain.steps import Explanation
from zoo.reports.explain.waterfall import Waterfall
from zoo.reports.tables.markdown_table import aligned_text, plain
from zoo.reports.tables.terminal import fitted_table

_NUMBERS = ("", "Worth", "After it")
# Shares of a class below this are not shown, in percentage points of the mean.
_SHOWN_SHARE = 0.0005


def points(value: float) -> str:
    """Returns percentage points with a sign and three digits; what rounds to zero has no sign."""
    text = f"{value:+.3f}"
    return text[1:] if float(text) == 0 else text


def headline(explanation: Explanation, waterfall: Waterfall) -> str:
    """Returns one line: entry, images, metric, both numbers, and their difference."""
    first, last = waterfall.evaluators
    return (
        f"{explanation.entry}, {explanation.counted_images}: "
        f"{waterfall.title} {waterfall.start:.3f} {first}, {waterfall.end:.3f} {last}, "
        f"{points(waterfall.end - waterfall.start)} points"
    )


def step_columns(waterfall: Waterfall) -> tuple[str, ...]:
    """Returns the header of `step_rows`."""
    last = waterfall.evaluators[1]
    return (
        "",
        "Rule",
        "Worth",
        "After it",
        f"What {'the official script' if last == 'official' else last} does",
    )


def step_rows(waterfall: Waterfall) -> list[tuple[str, ...]]:
    """Returns the waterfall's rows of text under `step_columns`, from its first number to its last."""
    rows: list[tuple[str, ...]] = [("", waterfall.evaluators[0], "", f"{waterfall.start:.3f}", "")]
    for number, step in enumerate(waterfall.steps, start=1):
        rows.append((str(number), step.rule, points(step.worth), f"{step.value:.3f}", step.meaning))
    left = f"{waterfall.residual:+.1e}" if waterfall.residual else "0"
    last = ("not explained", left) if waterfall.is_measured else (waterfall.evaluators[1], "")
    return [*rows, ("", *last, f"{waterfall.end:.3f}", "")]


def class_table(waterfall: Waterfall) -> tuple[tuple[str, ...], list[tuple[str, ...]], str]:
    """Returns header, rows, and a last line about the classes that have no row.

    A row for each class that carries part of the difference, the largest part first: its own values in
    percent, its part, and what each rule (by number) adds to that, in percentage points of the mean.
    """
    shares = {name: [step.shares[name] for step in waterfall.steps] for name in waterfall.per_class}
    shown = [name for name, parts in shares.items() if max(map(abs, parts)) >= _SHOWN_SHARE]
    shown.sort(key=lambda name: -abs(sum(shares[name])))
    rules = [
        i for i in range(len(waterfall.steps)) if any(abs(shares[it][i]) >= _SHOWN_SHARE for it in shown)
    ]
    at_end = waterfall.steps[-1].per_class
    rows = []
    for name in shown:
        values = (_percent(waterfall.per_class[name]), _percent(at_end[name]))
        parts = (points(shares[name][i]) for i in rules)
        rows.append((name, *values, points(sum(shares[name])), *parts))
    ends = (name.capitalize() if name != "torchmetrics" else name for name in waterfall.evaluators)
    header = ("Class", *ends, "Points of the mean", *(f"Rule {i + 1}" for i in rules))
    others = len(shares) - len(shown)
    note = f"{others} other classes carry less than {_SHOWN_SHARE} points each" if others else ""
    return header, rows, note


def ap_line(explanation: Explanation) -> str:
    """Returns one line about AP, or nothing where it was not measured by both."""
    if not explanation.ap:
        return ""
    internal, official = explanation.ap["internal"], explanation.ap["official"]
    return f"AP {internal:.3f} internal, {official:.3f} official: {explanation.ap_note}."


def markdown(explanation: Explanation, *, per_class: bool = False) -> str:
    """Returns the explanation as Markdown."""
    parts = []
    for waterfall in explanation.all_waterfalls:
        parts.append(plain(headline(explanation, waterfall)))
        parts.append(aligned_text(step_columns(waterfall), step_rows(waterfall), _NUMBERS))
        if per_class:
            header, rows, others = class_table(waterfall)
            parts += [aligned_text(header, rows, header[1:]) if rows else "", others]
        if waterfall.metric == "pq" and waterfall.is_measured:
            parts.append(f"PQ, the same in both: {'; '.join(SAME_IN_BOTH)}.")
        if not waterfall.is_measured:
            parts.append(aligned_text(RULE_COLUMNS, RULES_BESIDE_EACH_OTHER, ()))
    return "\n\n".join(filter(None, [*parts, ap_line(explanation)])) + "\n"


def terminal(explanation: Explanation, *, per_class: bool = False) -> Any:
    """Returns the explanation as something that `rich` prints."""
    shown: list[Any] = []
    for waterfall in explanation.all_waterfalls:
        rows = [
            [Text(cell, "dim" if row[0] and float(row[2]) == 0 else "") for cell in row]
            for row in step_rows(waterfall)
        ]
        columns = step_columns(waterfall)
        options: dict[str, Any] = {"leave_out_first": columns[-1:], "title_justify": "left"}
        title = Text(headline(explanation, waterfall))
        shown.append(fitted_table(columns, rows, _NUMBERS, title=title, **options))
        if per_class:
            header, classes, others = class_table(waterfall)
            options = {"leave_out_first": header[:0:-1], "caption": Text(others) if others else None}
            shown.append(fitted_table(header, classes, header[1:], whole=header, **options))
        if not waterfall.is_measured:
            beside = [[Text(cell) for cell in row] for row in RULES_BESIDE_EACH_OTHER]
            shown.append(fitted_table(RULE_COLUMNS, beside, ()))
    shown += [Text(ap_line(explanation))] if explanation.ap else []
    return Group(*shown)


def _percent(value: float | None) -> str:
    return "absent" if value is None else f"{value:.3f}"

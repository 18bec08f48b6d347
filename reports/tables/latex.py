"""Writes tables for LaTeX."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_NAMES = {"\\": "backslash", "~": "asciitilde", "^": "asciicircum", "<": "less", ">": "greater", "|": "bar"}
_ESCAPED = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"} | {c: f"\\text{_NAMES[c]}{{}}" for c in _NAMES})


def latex_text(header: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """Returns a LaTeX table for the package booktabs, whose first column alone is aligned to the left."""
    lines = [" & ".join(cell.translate(_ESCAPED) for cell in cells) for cells in (header, *rows)]
    # A bracket or a star would be an argument of the line before.
    first, *rest = (f"    {'{}' * line.startswith(('[', '*'))}{line} \\\\\n" for line in lines)
    return (
        f"\\begin{{table}}\n  \\caption{{{caption.translate(_ESCAPED)}}}\n"
        f"  \\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}\n"
        f"    \\toprule\n{first}    \\midrule\n{''.join(rest)}    \\bottomrule\n"
        "  \\end{tabular}\n\\end{table}\n"
    )

"""Compares the published tables in a Markdown file with the registry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoo.errors import DataError
from zoo.registry import DatasetDeclaration, Registry
from zoo.registry.schema import PublishedTable
from zoo.reports.lint.links import Finding, backbone_cell, config_link, folder_of_links
from zoo.reports.lint.table import check_table
from zoo.reports.tables.markdown_table import Table, read_tables
from zoo.reports.tables.published import (
    BACKBONE,
    TableColumns,
    headings_of,
    places_in,
    tables_of,
)

_FAMILY = frozenset(TableColumns().titles)
# A table with so many of the family's columns is one of the family.
_ENOUGH_COLUMNS = 3

_Known = Sequence[tuple[DatasetDeclaration, PublishedTable]]


@dataclass(frozen=True)
class LintReport:
    """What was found in one file, known irregularities included, in the order of its lines."""

    file: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether the file says what the registry says."""
        return all(finding.known for finding in self.findings)

    def __str__(self) -> str:
        return "\n".join(f"{self.file}:{finding.line}: {finding}" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Returns the findings and, apart from them, what is known."""
        rows = [({"file": self.file, **asdict(finding)}, finding.known) for finding in self.findings]
        return {
            "file": self.file,
            "ok": self.ok,
            "findings": [row for row, known in rows if not known],
            "known": [row for row, known in rows if known],
        }


def lint_file(
    path: Path, registry: Registry, dataset: str | None = None, project: str | None = None
) -> LintReport:
    """Compares a Markdown file's tables, or those of one data set or project, with the registry.

    Follows no link. Without a `project`, those of which the file has a table are meant.

    Raises:
      UsageError: `dataset` or `project` has no published table.
      DataError: the file cannot be read, or has no such table.
    """
    known = tables_of(registry, dataset, project)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}; expected a Markdown file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8 text, found {error.reason} at byte {error.start}") from None
    tables = [(table, _rules_of(table, registry, known)) for table in read_tables(text)]
    projects = {rules.project for _, rules in tables if rules is not None}
    if not projects:
        headings = " or ".join(map(repr, headings_of(known)))
        raise DataError(
            f"{path}: expected a table like those of {headings}, with a column {BACKBONE.title}, found none"
        )
    known = [pair for pair in known if pair[1].project in projects]
    findings = list(_findings(tables, registry, known, is_one=dataset is not None or project is not None))
    return LintReport(str(path), tuple(sorted(findings, key=lambda finding: finding.line)))


def _findings(
    tables: Sequence[tuple[Table, PublishedTable | None]],
    registry: Registry,
    known: _Known,
    *,
    is_one: bool,
) -> Iterator[Finding]:
    for heading, (dataset, table) in zip(headings_of(known), known, strict=True):
        own = [found for found, rules in tables if rules is table]
        if not own:
            yield Finding(1, f"table {heading!r}", "one", "none")
        for found in own[:1]:
            yield from check_table(found, places_in(registry, dataset, table), table)
        for found in own[1:]:
            yield Finding(found.line, f"table {heading!r}", "one", "a second")
    for found, rules in tables:
        if rules is None and not is_one and _is_of_the_family(found):
            names = " or ".join(dataset.name for dataset, _ in known)
            yield Finding(found.line, "table", f"one of {names}", f"one of neither, below {found.heading!r}")


def _is_of_the_family(table: Table) -> bool:
    return len(_FAMILY.intersection(table.header.cells)) >= _ENOUGH_COLUMNS


def _rules_of(table: Table, registry: Registry, known: _Known) -> PublishedTable | None:
    """Returns the published table that most rows link to; where none does, the one that the heading names."""
    cells = [backbone_cell(text) for row in table.rows for text in row.cells]
    votes = []
    for dataset, rules in known:
        entries = [entry for _, entry in places_in(registry, dataset, rules)]
        checkpoints = {entry.checkpoint.url for entry in entries}
        configs = {config_link(entry) for entry in entries}
        folder = folder_of_links("config", rules)
        votes.append(
            sum(
                cell.config.startswith(folder) or cell.config in configs or cell.checkpoint in checkpoints
                for cell in cells
            )
        )
    if any(votes):
        return known[votes.index(max(votes))][1]
    named = [rules for _, rules in known if rules.heading == table.heading]
    return named[0] if named and _is_of_the_family(table) else None

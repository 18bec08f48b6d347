from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zoo.reports.tables.markdown_table import Column, aligned_text, compact_text, read_tables, table_text


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    text = table_text(
        [Column("Backbone"), Column("PQ", is_centered=True), Column("mIoU", is_centered=True)],
        [["a", "1", "22.22"], ["a longer name", "1.25", "3"]],
    )
    assert text.splitlines() == [
        "Backbone      | PQ   | mIoU",
        "------------- | :--: | :---:",
        "a             | 1    | 22.22",
        "a longer name | 1.25 | 3",
    ]
    assert text.endswith("3\n")


def test_extra_width_is_seen_in_rule_and_rows_but_not_in_the_header() -> None:
    text = table_text(
        [Column("A"), Column("Wide", True, extra_width=2), Column("B", True)], [["x", "y", "z"]]
    )
    assert text.splitlines() == ["A   | Wide | B", "--- | :----: | :-:", "x   | y      | z"]


def test_a_table_without_rows_is_a_table() -> None:
    (table,) = read_tables(table_text([Column("A"), Column("B", True)], []))
    assert (table.header.cells, table.rows) == (("A", "B"), ())


CELLS = st.text(st.characters(codec="ascii", categories=["L", "N", "S", "Zs"], exclude_characters="\\")).map(
    str.strip
)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS.filter(bool)), max_size=4), st.integers(0, 3))
def test_what_is_written_is_read(rows: list[tuple[str, str, str]], extra_width: int) -> None:
    columns = [Column("One"), Column("Two", True, extra_width), Column("Three", True)]
    (table,) = read_tables("text before\n\n" + table_text(columns, rows) + "\ntext after\n")
    assert table.line == 3
    assert table.header.cells == ("One", "Two", "Three")
    # A first cell of nothing looks like a bar at the left end, which is decoration.
    assert [row.cells for row in table.rows] == [row if row[0] else row[1:] for row in rows]
    assert [row.line for row in table.rows] == list(range(5, 5 + len(rows)))


def test_a_bar_in_a_cell_is_not_the_end_of_it() -> None:
    rows = [["a|b", "1"], ["c", "22"]]
    for text in (aligned_text(["Name", "N"], rows, ["N"]), compact_text(["Name", "N"], rows, ["N"])):
        (table,) = read_tables(text)
        assert [list(row.cells) for row in table.rows] == rows
    assert aligned_text(["Name", "N"], rows, ["N"]).splitlines()[1:3] == ["| ---- | --: |", r"| a\|b |   1 |"]
    assert compact_text(["Name", "N"], rows, ["N"]).splitlines()[1:3] == ["| --- | ---: |", r"| a\|b | 1 |"]


def test_tables_are_found_with_their_headings() -> None:
    text = """# First #

| A | B |
|---|:-:|
| 1 | 2 \\| 3 |
Some text with a | bar.

## Second

A | B
--- | ---
1 |
end

no table | here
"""
    first, second = read_tables(text)
    assert (first.heading, first.line, first.header.cells) == ("First", 3, ("A", "B"))
    assert [(row.line, row.cells) for row in first.rows][:1] == [(5, ("1", "2 | 3"))]
    assert (second.heading, second.line) == ("Second", 10)
    assert [row.cells for row in second.rows] == [("1",)]


def test_fenced_code_holds_no_tables() -> None:
    table = "A | B\n--- | ---\n1 | 2\n"
    for fence in ("```", "~~~", "````"):
        text = f"{fence}\n{table}{fence}\n\n{table}"
        (found,) = read_tables(text)
        assert found.line == 7
    assert read_tables(f"```\n{table}") == []
    # A longer fence is not closed by a shorter one.
    assert read_tables(f"````\n```\n{table}````\n") == []


def test_a_rule_must_fit_its_header() -> None:
    assert read_tables("A | B\n---\n1 | 2\n") == []
    assert read_tables("A | B | C\n--- | ---\n1 | 2\n") == []
    assert read_tables("A | B\n=== | ===\n1 | 2\n") == []
    assert read_tables("A | B") == []

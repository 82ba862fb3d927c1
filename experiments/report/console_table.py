"""Prints tables on the terminal: all look the same, and none is cut on a narrow one."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

UNBOUNDED = 10_000


def console_table(title: str) -> Table:
    """An empty table with a title; its columns are close, so that it fits into 80 columns."""
    return Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )


def print_rows(
    console: Console,
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    align: str = "",
) -> None:
    """Prints rows as a table, or as a list where the console is too narrow for the table.

    A list shows each row as its first cell and a line for each of the others. So a name is never
    cut: the next command needs it whole.

    Args:
        console: where to print.
        title: printed above the rows.
        headings: one per column.
        rows: plain text, without markup.
        align: one letter per column, `r` for right; all others are left. Empty: all left.
    """
    table = console_table(title)
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if align[index : index + 1] == "r" else "left")
    for row in rows:
        table.add_row(*map(escape, row))
    # Unbounded, because a measurement is otherwise no wider than the console.
    wide = console.options.update(max_width=UNBOUNDED)
    if Measurement.get(console, wide, table).maximum <= console.width:
        console.print(table)
        return
    console.print(title, style="bold")
    for first, *others in rows:
        console.print(first, markup=False, highlight=False, soft_wrap=True)
        print_fields(console, list(zip(headings[1:], others, strict=True)))


def print_fields(console: Console, fields: Sequence[tuple[str, str]]) -> None:
    """Prints terms and their texts, indented; a long text continues below its beginning."""
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for term, text in fields:
        if text:  # a term without a text says nothing
            table.add_row(f"  {escape(term)}", escape(text))
    console.print(table, highlight=False)

"""How every table on the terminal looks."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table


def console_table(title: str) -> Table:
    """An empty table under its title, narrow enough for 80 columns, the width of a log."""
    return Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )

"""The audit's table in docs/measured.md."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.audit.judging import Line

STATES = ("holds", "fails", "undecided")


def table(lines: Sequence[Line]) -> list[str]:
    """The lines of a Markdown table."""
    rows = ["| | planted | expected | measured | |", "|---|---|---|---|---|"]
    for line in lines:
        cells = (line.name, line.planted, line.expected, line.measured, f"*{line.state}*")
        # In a quoted error, a bar would begin another cell and a newline another row.
        said = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
        rows.append(f"| {' | '.join(said)} |")
    return rows


def counted(lines: Sequence[Line]) -> str:
    """The number of lines in each state, in words."""
    counts = {state: sum(line.state == state for line in lines) for state in STATES}
    return (
        f"{counts['holds']} of {len(lines)} hold, {counts['fails']} fail, "
        f"{counts['undecided']} undecided"
    )

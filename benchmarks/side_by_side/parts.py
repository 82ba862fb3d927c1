"""The parts of the comparison, in the order of the document."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.journal import Journal
from benchmarks.side_by_side import start_up
from benchmarks.side_by_side.growth import part as growth
from benchmarks.side_by_side.own_study import part as own_study
from benchmarks.side_by_side.rivals import part as rivals
from benchmarks.side_by_side.rivals import table as rivals_table
from benchmarks.side_by_side.search import part as search
from benchmarks.side_by_side.search import table as search_table
from benchmarks.side_by_side.stand import Stand


@dataclass(frozen=True)
class Part:
    """One section of the document.

    Attributes:
        title: its heading.
        measure: measures what the journal doesn't have yet.
        lines: the section's text, from the journal alone.
    """

    title: str
    measure: Callable[[Stand], None]
    lines: Callable[[Journal], Iterator[str]]


PARTS = {
    "search": Part("What the search is worth", search.measure, search_table.lines),
    "rivals": Part("Other ways to feed the step", rivals.measure, rivals_table.lines),
    "own_study": Part("A study of one's own", own_study.measure, own_study.lines),
    "growth": Part("Many trials", growth.measure, growth.lines),
    "start_up": Part("Waiting for commands", start_up.measure, start_up.lines),
}

"""The plots and the summary of docs/benchmarks.md, from made-up journals."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.journal import Journal
from benchmarks.side_by_side import summary
from benchmarks.side_by_side.plots import EVEN, FASTER, SLOWER, draw
from benchmarks.side_by_side.search.part import REPLAYS

# Nearly the same in every round, so that the intervals are narrow.
ROUNDS = (1.00, 1.01, 0.99)
RATES = {"ours": 100.0, "twice as slow": 50.0, "as fast": 100.0, "twice as fast": 200.0}


def drawn(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.svg")}


def add_rivals(journal: Journal) -> None:
    """Adds the rounds of one pipeline: three rivals beside ours."""
    for number, drift in enumerate(ROUNDS):
        for name, rate in RATES.items():
            found = rate if name == "ours" else rate * drift
            journal.add("rivals/noisy", f"{number:02d}/{name}", examples_per_s=found)


def test_an_empty_journal_has_no_plots(tmp_path: Path) -> None:
    with Journal(tmp_path / "bench.jsonl", {}) as journal:
        draw(journal, tmp_path)

    assert drawn(tmp_path) == {}


def test_a_rivals_colour_says_whether_it_is_slower_or_faster(tmp_path: Path) -> None:
    with Journal(tmp_path / "bench.jsonl", {}) as journal:
        add_rivals(journal)
        draw(journal, tmp_path)

    text = drawn(tmp_path)["benchmarks-rivals.svg"]
    # Each one's name is a comment before its letters, and its interval a line.
    shown = re.findall(r"<!-- ([a-z ]+) -->", text)
    assert [name for name in shown if name in RATES] == [
        "twice as fast",
        "as fast",
        "twice as slow",
    ]
    intervals = re.findall(r"fill: none; stroke: (#[0-9a-f]{6}); stroke-width: 2;", text)
    assert intervals == [SLOWER, EVEN, FASTER]


def test_the_summary_counts_who_is_faster(tmp_path: Path) -> None:
    with Journal(tmp_path / "bench.jsonl", {}) as journal:
        add_rivals(journal)
        (line,) = summary.lines(journal)

    assert line.startswith("- In 3 comparisons with other ways to feed the same step, it is")
    assert "faster in 1 and significantly slower in 1." in line


def test_every_search_has_a_line(tmp_path: Path) -> None:
    ways = ("ours", "TPE", "random")
    heads = "| | 5 trials | 10 trials | 20 trials | 40 trials |"
    rows = [heads, "|---|", *(f"| {way} | 4.0% | 3.0% | 2.0% | 1.0% |" for way in ways)]
    with Journal(tmp_path / "bench.jsonl", {}) as journal:
        journal.add(REPLAYS, "image/all", rows=rows)
        journal.add(REPLAYS, "image/basic", rows=rows)
        draw(journal, tmp_path)

    text = drawn(tmp_path)["benchmarks-search.svg"]
    assert re.findall(r"<!-- (image|ours|TPE|random) -->", text) == ["image", *ways]

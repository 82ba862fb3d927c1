"""The plots of docs/benchmarks.md, from the journal alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.journal import Journal
from benchmarks.side_by_side.compare import Comparison
from benchmarks.side_by_side.rivals.table import PLOT as RIVALS_PLOT
from benchmarks.side_by_side.rivals.table import comparisons
from benchmarks.side_by_side.search.part import AXES, OURS, REPLAYS
from benchmarks.side_by_side.search.replay import TRIALS
from benchmarks.side_by_side.search.table import PLOT as SEARCH_PLOT
from benchmarks.side_by_side.search.table import column

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.ticker import PercentFormatter

mpl.rcParams["svg.hashsalt"] = "benchmarks"  # the same figures give the same file

FASTER, EVEN, SLOWER = "#1f8a5f", "#8a8f98", "#c0392b"
INK, GRID = "#22272e", "#e3e6ea"
TIMES = (0.5, 1, 2, 5, 10, 20, 50, 100)
ROW_INCHES, HEAD_INCHES = 0.2, 0.75


def draw(journal: Journal, folder: Path) -> None:
    """Writes each plot that the journal has measurements for."""
    found = comparisons(journal)
    if found:
        _save(_rivals(found), folder / RIVALS_PLOT)
    replays = [line for line in journal.of(REPLAYS) if line["key"].endswith(f"/{AXES[0]}")]
    if replays:
        _save(_regrets(replays), folder / SEARCH_PLOT)


def _rivals(found: dict[str, list[Comparison]]) -> Any:
    """A pipeline per panel: how much faster ours is than each other way, with its interval."""
    heights = [len(each) * ROW_INCHES + HEAD_INCHES for each in found.values()]
    figure, panels = plt.subplots(
        len(found),
        figsize=(9, sum(heights)),
        sharex=True,
        squeeze=False,
        layout="constrained",
        gridspec_kw={"height_ratios": heights},
    )
    for (name, each), axis in zip(found.items(), panels[:, 0], strict=True):
        ranked = sorted(each, key=lambda one: one.ratio.ratio)
        for row, one in enumerate(ranked):
            low, high = one.ratio.ci.low, one.ratio.ci.high
            colour = FASTER if low > 1.0 else SLOWER if high < 1.0 else EVEN
            axis.plot([low, high], [row, row], color=colour, linewidth=2)
            axis.plot([one.ratio.ratio], [row], "o", color=colour, markersize=5)
        axis.axvline(1.0, color=INK, linewidth=1)
        axis.set_yticks(range(len(ranked)), [one.name for one in ranked], fontsize=8)
        axis.invert_yaxis()
        axis.set_title(name, loc="left", fontsize=10)
        axis.set_xscale("log")
        axis.set_xticks(TIMES, [f"{times:g}x" for times in TIMES])
        axis.set_xticks([], minor=True)
        _tidy(axis, "x")
        axis.tick_params(axis="x", labelbottom=True, labelsize=8)
    panels[-1, 0].set_xlabel("ours is faster by, with 95% intervals; grey: they include 1")
    return figure


def _regrets(replays: Sequence[dict[str, Any]]) -> Any:
    """A pipeline per panel: each search's regret after so many trials."""
    figure, panels = plt.subplots(
        1, len(replays), figsize=(10, 3.4), sharey=True, squeeze=False, layout="constrained"
    )
    styles = iter(("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))))
    looks = {
        way: (FASTER, "-", 2.5) if way == OURS else (INK, next(styles, ":"), 1.2)
        for way in column(replays[0]["rows"], f"{TRIALS[0]} trials")
    }
    for line, axis in zip(replays, panels[0], strict=True):
        columns = [column(line["rows"], f"{number} trials") for number in TRIALS]
        for way, (colour, style, width) in looks.items():
            shares = [float(each[way].rstrip("%")) for each in columns]
            axis.plot(TRIALS, shares, color=colour, linestyle=style, linewidth=width, label=way)
        axis.set_title(line["key"].partition("/")[0], loc="left", fontsize=10)
        axis.set_xticks(TRIALS)
        axis.set_xlabel("trials")
        axis.yaxis.set_major_formatter(PercentFormatter(decimals=0))
        _tidy(axis, "y")
    panels[0, 0].set_ylabel("regret (median of the seeds)")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _tidy(axis: Any, direction: str) -> None:
    axis.grid(axis=direction, color=GRID)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)

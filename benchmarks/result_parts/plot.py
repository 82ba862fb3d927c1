"""The plot of docs/results.md: the rates that each pipeline reached, and its limit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

from benchmarks.result_parts.run import found
from prefetch_tuning.experiments.storage.results import StudyRecord
from prefetch_tuning.experiments.verdict.measurements import AUTOTUNE, BASIC, STRUCTURE_AUTOTUNE

mpl.use("svg")
from matplotlib import pyplot as plt

# A pipeline's bars from top to bottom. Their lightness differs as well as their hue.
BARS = {
    "AUTOTUNE": (AUTOTUNE, "#8a8f98"),
    "best, plain chain": (BASIC, "#3f74b5"),
    "structure, AUTOTUNE on it": (STRUCTURE_AUTOTUNE, "#edb54a"),
    "recommended": (None, "#1f8a5f"),
}
LIMIT_COLOUR, INK = "#c0392b", "#22272e"
STEP, THICKNESS = 0.2, 0.18


def plot(records: Sequence[StudyRecord], path: Path) -> None:
    """Draws each pipeline's rates as bars on a log scale, and its limit as a tick.

    A candidate that wasn't measured leaves its place empty.
    """
    figure, axis = plt.subplots(figsize=(9, 0.95 * len(records) + 1.6), layout="constrained")
    for row, record in enumerate(records):
        recommended = record.result.recommended
        for place, (candidate, colour) in enumerate(BARS.values()):
            name = candidate or (recommended.candidate if recommended else "")
            reached = found(record, name)
            if reached is None:
                continue
            y, x = row + STEP * (place - (len(BARS) - 1) / 2), reached.examples_per_s
            # A bootstrap interval can end just short of its median; error bars can't be negative.
            error = [[max(x - reached.ci.low, 0.0)], [max(reached.ci.high - x, 0.0)]]
            axis.barh(y, x, THICKNESS, color=colour)
            axis.errorbar(x, y, xerr=error, color=INK, capsize=2, linewidth=1)
        if record.result.limit is not None:
            top, half = record.result.limit.examples_per_s, STEP * len(BARS) / 2
            axis.plot([top, top], [row - half, row + half], color=LIMIT_COLOUR, linewidth=2)
    for label, (_, colour) in BARS.items():
        axis.plot([], [], color=colour, linewidth=7, label=label)
    axis.plot([], [], color=LIMIT_COLOUR, linewidth=2, label="limit")
    axis.set_xscale("log")
    axis.set_xlabel("examples/s, with 95% intervals")
    axis.set_yticks(range(len(records)), [record.info.name for record in records])
    axis.invert_yaxis()
    axis.grid(axis="x", color="#e3e6ea")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)

"""Tunes every built-in pipeline and writes docs/results.md with its plot: `make results`.

.venv/bin/python benchmarks/results.py            measures, about half an hour
.venv/bin/python benchmarks/results.py --of NAME  writes the document of an earlier run anew
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import matplotlib as mpl

# Run as a file, this folder is searched for modules and the one above it is not.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.results_document import document, found
from experiments.api import tune
from experiments.browsing import kept_record
from experiments.results import StudyRecord
from experiments.store import Store
from experiments.verdict.measurements import AUTOTUNE, BASIC
from pipelines import catalog

mpl.use("svg")
from matplotlib import pyplot as plt

DOCS = Path(__file__).resolve().parent.parent / "docs"
# More search than by default: a list of results is made once, and for others.
SEARCH_S = 30.0
COLOURS = {"AUTOTUNE": "#8a8f98", "basic axes": "#5b8dc9", "all axes": "#2a9d6f"}


def main() -> int:
    """Measures, unless an earlier run is named, and writes both files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--of", metavar="NAME", help="of an earlier run, as its document says")
    parser.add_argument("pipelines", nargs="*", help="built-in names; all of them if none")
    options = parser.parse_args()
    name = options.of or f"results-{datetime.now():%Y%m%d-%H%M}"
    pipelines = options.pipelines or catalog.names()
    if options.of is None:
        tuned = tune(*pipelines, study=name, time_budget_s=SEARCH_S, trials=40)
        if tuned.problems:
            print("\n".join(tuned.problems), file=sys.stderr)
    store = Store.choose(Path.cwd(), None, None)
    studies = [f"{name}-{pipeline}" for pipeline in pipelines] if len(pipelines) > 1 else [name]
    records = [kept_record(study, store) for study in studies]
    plot(records, DOCS / "results.svg")
    (DOCS / "results.md").write_text("\n".join(document(name, records)) + "\n", encoding="utf-8")
    print(f"{DOCS / 'results.md'} is written")
    return 0


def plot(records: Sequence[StudyRecord], path: Path) -> None:
    """Bars of the three rates for each pipeline on a log scale, and each one's limit as a tick."""
    figure, axis = plt.subplots(figsize=(9, 0.75 * len(records) + 1.4), layout="constrained")
    candidates = {"AUTOTUNE": AUTOTUNE, "basic axes": BASIC, "all axes": None}
    for row, record in enumerate(records):
        for place, (label, candidate) in enumerate(candidates.items()):
            reached = found(record, candidate)
            if reached is None:
                continue
            y, x = row + 0.26 * (place - 1), reached.examples_per_s
            error = [[x - reached.ci.low], [reached.ci.high - x]]
            axis.barh(y, x, 0.24, color=COLOURS[label], label=label if row == 0 else None)
            axis.errorbar(x, y, xerr=error, color="#22272e", capsize=2, linewidth=1)
            if candidate is None and reached.limit:
                top = reached.limit.examples_per_s
                axis.plot([top, top], [y - 0.16, y + 0.16], color="#c0392b", linewidth=2)
    axis.plot([], [], color="#c0392b", linewidth=2, label="limit")
    axis.set_xscale("log")
    axis.set_xlabel("examples/s, with 95 % intervals")
    axis.set_yticks(range(len(records)), [record.info.name for record in records])
    axis.invert_yaxis()
    axis.grid(axis="x", color="#e3e6ea")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=4, frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())

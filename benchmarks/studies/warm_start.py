"""Shows how well the diagnosis chose the first trials of finished studies, as a Markdown table.

Run where the studies were made: .venv/bin/python benchmarks/studies/warm_start.py STUDY [STUDY ...]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from prefetch_tuning.experiments.search.prediction import median_error
from prefetch_tuning.experiments.storage.attributes import StudyAttributes
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.results import TrialRow
from prefetch_tuning.experiments.storage.studies import load_study

FIRST = 5


def predicted(rows: list[TrialRow]) -> list[tuple[float, float]]:
    """(predicted, measured) rates of the trials that have both, in examples/s."""
    return [
        (row.predicted_examples_per_s, row.measured.examples_per_s)
        for row in rows
        if row.predicted_examples_per_s and row.measured
    ]


def main(names: list[str]) -> None:
    """Prints one row per study, and the median error over the first trials of all studies."""
    store = Store.choose(Path.cwd(), None, None)
    print("| study | trials | warm start's median error | of all trials | best of five / best |")
    print("|---|---:|---:|---:|---:|")
    first_pairs: list[tuple[float, float]] = []
    for name in names:
        rows = StudyAttributes(load_study(name, store)).rows
        warm = predicted([row for row in rows if row.warm_start])
        first_pairs += warm
        complete = [row for row in rows if row.measured and row.state == "complete"]
        rates = {row.number: row.measured.examples_per_s for row in complete if row.measured}
        first = max((rate for number, rate in rates.items() if number < FIRST), default=0.0)
        errors = [median_error(pairs) or 0.0 for pairs in (warm, predicted(rows))]
        print(
            f"| {name} | {len(rows)} | {errors[0]:.1%} | {errors[1]:.1%} "
            f"| {first / max(rates.values()):.2f} |"
        )
    print(f"\nmedian error of all warm starts: {median_error(first_pairs) or 0.0:.1%}")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    arguments.add_argument("studies", nargs="+", metavar="STUDY")
    main(arguments.parse_args().studies)

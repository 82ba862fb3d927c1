"""Tells whether dividing rates by `host/speed_index` lowers their noise, as a Markdown table.

Run where the studies were made: python benchmarks/studies/speed_index.py STUDY [STUDY ...]
It reads the rounds of their confirmations and measures nothing.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from pathlib import Path

from prefetch_tuning.experiments.errors import StudyError
from prefetch_tuning.experiments.storage.attributes import StudyAttributes
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.runs.tracking import Tracker
from prefetch_tuning.experiments.storage.schema import Kind, Tag
from prefetch_tuning.experiments.storage.studies import load_study
from prefetch_tuning.experiments.verdict.ratio import variation

LEAST_ROUNDS = 4


def main(studies: list[str]) -> None:
    """Prints the CV of each candidate's rates, raw and divided, and the means."""
    store = Store.choose(Path.cwd(), None, None)
    tracker = Tracker(store)
    print("| study | candidate | rounds | CV of the rates | divided by the index |")
    print("|---|---|---:|---:|---:|")
    raw, divided = [], []
    for study in studies:
        parent = StudyAttributes(load_study(study, store)).run_id or ""
        rounds: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for run in tracker.children(parent):
            if run.tags.get(Tag.KIND) == Kind.CONFIRMATION and run.tags[Tag.STATE] == "complete":
                pair = run.metrics["throughput/examples_per_s"], run.metrics["host/speed_index"]
                rounds[run.tags[Tag.CANDIDATE]].append(pair)
        for candidate, pairs in rounds.items():
            if len(pairs) < LEAST_ROUNDS:
                continue
            raw.append(variation([rate for rate, _ in pairs]))
            divided.append(variation([rate / index for rate, index in pairs]))
            cells = f"{len(pairs)} | {raw[-1]:.1%} | {divided[-1]:.1%} |"
            print(f"| {study} | {candidate} | {cells}")
    print(f"\nmean CV: {statistics.fmean(raw):.1%} raw, {statistics.fmean(divided):.1%} divided")


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("error: no study given; `prefetch-tune studies` lists them")
    try:
        main(sys.argv[1:])
    except StudyError as error:
        sys.exit(f"error: {error}")

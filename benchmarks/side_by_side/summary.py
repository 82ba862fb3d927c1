"""The beginning of docs/benchmarks.md: what the sections below come to, from the journal alone."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import kept_rounds, paired
from benchmarks.journal import Journal
from benchmarks.side_by_side.compare import Comparison, slower_ones
from benchmarks.side_by_side.own_study.part import CHOICES, FRESH, OURS, overhead_share
from benchmarks.side_by_side.rivals.table import comparisons
from benchmarks.side_by_side.search.table import beside_the_best
from prefetch_tuning.experiments.report.text import times


def lines(journal: Journal) -> Iterator[str]:
    """A list with one line per section that was measured."""
    ratios = [found.ratio for found in beside_the_best(journal).values()]
    if ratios:
        yield (
            f"- The recommendation reaches {min(ratios):.2f}x to {max(ratios):.2f}x the best "
            f"configuration of a grid, on {len(ratios)} pipelines."
        )
    found = [one for each in comparisons(journal).values() for one in each]
    if found:
        faster = sum(one.ratio.ci.low > 1.0 for one in found)
        slower = len(slower_ones(found))
        yield (
            f"- In {len(found)} comparisons with other ways to feed the same step, it is faster in "
            f"{faster} and significantly slower in {slower or 'none'}. The others can't be told "
            "apart."
        )
    share = overhead_share(journal)
    its, own = paired(kept_rounds(journal, CHOICES), FRESH, OURS)
    if share is not None and len(its) > 1:
        chosen = Comparison.of(FRESH, its, own).ratio
        yield (
            f"- A trial has {share:.2f} of the overhead of a trial in a study of one's own with "
            f"fresh interpreters. What that study chose reaches {times(chosen)} the rate of our "
            "recommendation."
        )

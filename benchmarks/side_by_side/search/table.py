"""The search's section of the document."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.bench import kept_rounds, paired
from benchmarks.journal import Journal
from benchmarks.side_by_side.compare import Comparison
from benchmarks.side_by_side.search.part import (
    BEST,
    NEAR,
    OURS,
    PIPELINES,
    REAL,
    REAL_SEEDS,
    REAL_TRIALS,
    REPLAYS,
    ROUNDS,
    SURE,
    THUMB,
)
from benchmarks.side_by_side.search.replay import SEEDS
from benchmarks.side_by_side.search.searches import OTHERS
from prefetch_tuning.experiments.report.text import times


def lines(journal: Journal) -> Iterator[str]:
    """The section of the document."""
    yield from _beside_the_best(journal)
    yield ""
    yield "### Replayed on grids"
    yield ""
    yield (
        f"Each search on a grid that was measured before, with the noise of a trial, over {SEEDS} "
        "seeds: how far the true rate of its best trial is from the best (median), after so many "
        "trials and seconds. Ours begins after its diagnosis, whose seconds count. *basic* has "
        "only prefetch and map; *all* also the structure of the chain."
    )
    for line in journal.of(REPLAYS):
        name, _, axes = line["key"].partition("/")
        yield ""
        yield (
            f"**{name}, {axes} axes**: best {line['best']:,.0f} examples/s, a trial varies by "
            f"{line['noise']:.0%}."
        )
        yield ""
        yield from line["rows"]
    yield ""
    yield "### For real"
    yield ""
    yield (
        f"The same searches for {REAL_TRIALS} trials each, {REAL_SEEDS} seeds. What each chose was "
        "then measured in rounds of its own, beside the grid's best: the median of the seeds' "
        "shares of it, and the seconds that the search took."
    )
    yield ""
    yield "| pipeline | search | share of the grid's best | seconds |"
    yield "|---|---|---:|---:|"
    for name in PIPELINES:
        yield from _real_rows(journal, name)


def _beside_the_best(journal: Journal) -> Iterator[str]:
    yield (
        f"The recommendation of a default study over the best configuration of a grid with 200 "
        f"points, in {ROUNDS} fresh interleaved rounds. Wanted: a median of at least {NEAR}, and "
        f"an interval that reaches {SURE:g}."
    )
    yield ""
    yield "| pipeline | of the grid's best | |"
    yield "|---|---:|---|"
    for name in PIPELINES:
        ours, best = paired(kept_rounds(journal, f"beside the best/{name}"), OURS, BEST)
        if len(ours) > 1:
            found = Comparison.of(name, ours, best).ratio
            reached = found.ratio >= NEAR and found.ci.high >= SURE
            yield f"| {name} | {times(found)} | {'reached' if reached else 'not reached'} |"


def _real_rows(journal: Journal, name: str) -> Iterator[str]:
    rounds = kept_rounds(journal, f"choices/{name}")
    for way in [OURS, *OTHERS, THUMB]:
        shares, seconds = [], []
        for seed in range(REAL_SEEDS):
            candidate = THUMB if way == THUMB else f"{way} {seed}"
            its, best = paired(rounds, candidate, BEST)
            if its:
                shares.append(statistics.median(a / b for a, b in zip(its, best, strict=True)))
            line = journal.find(REAL, f"{name}/{way}/{seed}")
            if line is not None:
                seconds.append(line["tried"][-1][2])
        if shares:
            took = f"{statistics.median(seconds):.0f}" if seconds else ""
            yield f"| {name} | {way} | {statistics.median(shares):.0%} | {took} |"

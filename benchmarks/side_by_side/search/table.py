"""The search's section of the document."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from benchmarks.bench import kept_rounds, paired
from benchmarks.journal import Journal
from benchmarks.side_by_side.search.part import (
    AXES,
    BESIDE_THE_BEST,
    BEST,
    NEAR,
    OURS,
    PIPELINES,
    REAL,
    REAL_SEEDS,
    REPLAYS,
    SURE,
    THUMB,
)
from benchmarks.side_by_side.search.searches import DIAGNOSIS_S, OTHERS, OVERHEAD_S, WHOLE_S
from prefetch_tuning.experiments.report.text import plural, times
from prefetch_tuning.experiments.verdict.ratio import Ratio, ratio_to

# The document's plot of regrets.
PLOT = "benchmarks-search.svg"


def lines(journal: Journal) -> Iterator[str]:
    """The section of the document; nothing without a measurement."""
    replays = journal.of(REPLAYS)
    if not replays:
        return
    yield from _beside_the_best(journal)
    yield ""
    yield from _arrivals(journal)
    yield ""
    yield f"![Each search's regret on three grids after 5, 10, 20 and 40 trials]({PLOT})"
    yield ""
    yield "### Replayed on grids"
    yield ""
    seeds = max(line["seeds"] for line in replays)
    yield (
        "Here a trial takes its rate from a grid that was measured before, and noise is added. So "
        f"each search can run over {plural(seeds, 'seed')}. A cell is the regret (the median of "
        "the seeds): how far the best trial so far is from the best of the grid, without noise. "
        f"A trial counts {OVERHEAD_S + WHOLE_S:g} s. Ours begins after its diagnosis, which counts "
        f"{DIAGNOSIS_S:g} s. Until a first trial has ended, the regret is 100%. *trials to 5%* is "
        "the number of trials after which the regret stays within 5%. *of the best two* is the "
        "same number if a confirmation picks the better one of the best two trials. *Basic axes* "
        "are prefetch and map calls. *All axes* also have the structure of the chain."
    )
    for line in replays:
        name, _, axes = line["key"].partition("/")
        yield ""
        yield (
            f"**{name}, {axes} axes**: about {line['points']} points, the best {line['best']:,.0f} "
            f"examples/s; a trial varies by {line['noise']:.0%}."
        )
        yield ""
        yield from line["rows"]
        yield ""
        left_out = ", ".join(line["left_out"]) or "nothing"
        yield (
            f"The grid and the searches have: {'; '.join(line['searched'])}. The diagnosis leaves "
            f"out: {left_out}."
        )
    yield ""
    yield "### For real"
    yield ""
    real = journal.of(REAL)
    trials = max((len(line["tried"]) for line in real), default=0)
    yield (
        f"The same searches for {plural(trials, 'trial')} each. What each chose was then measured "
        "in rounds of its own, beside the grid's best: the median of the seeds' shares of it, and "
        "the seconds that the search took."
    )
    yield ""
    yield "| pipeline | search | seeds | share of the grid's best | seconds |"
    yield "|---|---|---:|---:|---:|"
    for name in PIPELINES:
        yield from _real_rows(journal, name)


def _beside_the_best(journal: Journal) -> Iterator[str]:
    yield (
        "The recommendation of a study over the best configuration of a grid, in fresh interleaved "
        f"rounds: the ratio of their medians. Wanted: at least {NEAR}, and an interval that "
        f"reaches {SURE:g}."
    )
    yield ""
    yield "| pipeline | rounds | of the grid's best | |"
    yield "|---|---:|---:|---|"
    for name, found in beside_the_best(journal).items():
        reached = found.ratio >= NEAR and found.ci.high >= SURE
        said = "reached" if reached else "not reached"
        rounds, _ = paired(kept_rounds(journal, f"{BESIDE_THE_BEST}/{name}"), OURS, BEST)
        yield f"| {name} | {len(rounds)} | {times(found)} | {said} |"


def beside_the_best(journal: Journal) -> dict[str, Ratio]:
    """The recommendation's rate over that of the grid's best, by pipeline."""
    found = {}
    for name in PIPELINES:
        ours, best = paired(kept_rounds(journal, f"{BESIDE_THE_BEST}/{name}"), OURS, BEST)
        if len(ours) > 1:
            found[name] = ratio_to(ours, best)
    return found


def _arrivals(journal: Journal) -> Iterator[str]:
    """How many trials each search needs on the grids of all axes, beside what is wanted of ours."""
    yield (
        "The trials after which a search stays within 5% of the best, replayed on grids of all "
        "axes. Wanted: at most half of what each other search needs."
    )
    yield ""
    yield f"| pipeline | {' | '.join([OURS, *OTHERS])} | |"
    yield "|---|" + "---:|" * (1 + len(OTHERS)) + "---|"
    for line in journal.of(REPLAYS):
        name, _, axes = line["key"].partition("/")
        if axes != AXES[0]:
            continue
        found = column(line["rows"], "trials to 5%")
        needed = {way: _number(found[way]) for way in (OURS, *OTHERS)}
        least = min(needed[way] for way in OTHERS)
        said = "reached" if 2 * needed[OURS] <= least else "not reached"
        yield f"| {name} | {' | '.join(found[way] for way in needed)} | {said} |"


def column(rows: Sequence[str], head: str) -> dict[str, str]:
    """A column of a Markdown table, by the first cell of each row."""
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    place = cells[0].index(head)
    return {row[0]: row[place] for row in cells[2:]}


def _number(cell: str) -> int:
    """A number of trials; what is over the most that were run counts as one more."""
    return int(cell.removeprefix("over ")) + cell.startswith("over ")


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
            seeds = "" if way == THUMB else str(len(shares))
            took = f"{statistics.median(seconds):.0f}" if seconds else ""
            yield f"| {name} | {way} | {seeds} | {statistics.median(shares):.0%} | {took} |"

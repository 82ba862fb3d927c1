"""The rivals' section of the document."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import Rates, kept_rounds, paired
from benchmarks.journal import Journal
from benchmarks.side_by_side.compare import EARLY, FAR_APART, Comparison, slower_ones
from benchmarks.side_by_side.rivals.looks import PART as LOOKS
from benchmarks.side_by_side.rivals.part import (
    AUTOTUNE,
    BESIDE_TORCH,
    OURS,
    PART,
    PATIENT_PIPELINES,
    THEIRS,
    WAITED,
    WORKERS,
)
from benchmarks.side_by_side.rivals.targets import RIVALS
from prefetch_tuning.experiments.report.text import times
from prefetch_tuning.pipelines import catalog

# The document's plot of ratios.
PLOT = "benchmarks-rivals.svg"


def comparisons(journal: Journal) -> dict[str, list[Comparison]]:
    """Ours beside every other one, by pipeline."""
    found: dict[str, list[Comparison]] = {}
    for name in catalog.names():
        rounds = kept_rounds(journal, f"{PART}/{name}")
        others = sorted({other for rates in rounds for other in rates} - {OURS})
        made = [_compared(rounds, other) for other in others]
        made.append(_with_torch(journal, name))
        if others:
            found[name] = [one for one in made if one is not None]
    return found


def _with_torch(journal: Journal, name: str) -> Comparison | None:
    ours, its = paired(kept_rounds(journal, f"{BESIDE_TORCH}/{name}"), OURS, THEIRS)
    line = journal.find(f"{WORKERS}/{name}", WORKERS)
    if len(ours) < 2 or line is None:
        return None
    return Comparison.of(f"PyTorch's DataLoader, processes: {line[WORKERS]}", ours, its)


def _compared(rounds: list[Rates], other: str) -> Comparison | None:
    ours, its = paired(rounds, OURS, other)
    return Comparison.of(other, ours, its) if len(ours) > 1 else None


def lines(journal: Journal) -> Iterator[str]:
    """The section of the document; nothing without a measurement."""
    found = comparisons(journal)
    if not found:
        return
    slower = slower_ones([one for each in found.values() for one in each])
    most = max(len(kept_rounds(journal, f"{PART}/{name}")) for name in found)
    yield (
        "Each pipeline's generator and training step, read in other ways, at the same batch size: "
        f"the recommendation of a study over each, in {most} interleaved rounds of fresh "
        f"processes (geometric means); {EARLY} where one was at least {FAR_APART:g} times as fast "
        "in each of them. *Batches from the generator* is what an expert writes: the "
        "generator yields whole NumPy batches, `map` and `prefetch` are left to AUTOTUNE. A "
        "loader's batches are mapped like these. Threads, processes and shards are those with the "
        "highest median of three looks. PyTorch's DataLoader was measured beside ours in an "
        "environment of its own, with Debian's PyTorch (`make bench-torch`). `keras_sequence` is a "
        "PyDataset itself, so it isn't here. Above 1, ours is faster; bold where its interval is "
        "wholly below 1, called significant if that also holds with Holm's correction for all "
        "rows (5%)."
    )
    yield ""
    yield f"![How much faster ours is than each other way, with intervals]({PLOT})"
    yield ""
    yield "| pipeline | beside | ours is faster by |"
    yield "|---|---|---:|"
    for name, each in found.items():
        for one in sorted(each, key=lambda one: one.ratio.ratio):
            said = times(one.ratio)
            yield f"| {name} | {one.name} | {f'**{said}**' if _is_below(one) else said} |"
    yield ""
    yield from _slower_words(slower, found)
    yield from _failed(journal)
    yield from _patient(journal)


def _slower_words(slower: list[Comparison], found: dict[str, list[Comparison]]) -> Iterator[str]:
    below = [(name, one) for name, each in found.items() for one in each if _is_below(one)]
    if not below:
        yield "None of the intervals is wholly below 1."
    for name, one in below:
        surely = "significantly " if one in slower else ""
        yield f"On {name}, {one.name} is {surely}faster than ours: {times(one.ratio)}."


def _is_below(one: Comparison) -> bool:
    return one.ratio.ci.high < 1.0


def _failed(journal: Journal) -> Iterator[str]:
    """What could not be measured, so that nobody takes its absence for a win."""
    kinds: dict[tuple[str, str], set[str]] = {}
    worked = set()
    for line in journal.of(LOOKS):
        pipeline, rival, *_ = line["key"].split("/")
        if line["examples_per_s"] is None:
            kinds.setdefault((pipeline, rival), set()).add(line["failure"]["kind"])
        else:
            worked.add((pipeline, rival))
    for (pipeline, rival), failures in kinds.items():
        if (pipeline, rival) not in worked:
            said = ", ".join(sorted(failures))
            yield ""
            yield f"On {pipeline}, {RIVALS[rival].name} could not be measured ({said})."


def _patient(journal: Journal) -> Iterator[str]:
    rows = []
    for name in PATIENT_PIPELINES:
        ours, its = paired(kept_rounds(journal, f"{WAITED}/{name}"), OURS, AUTOTUNE)
        if len(ours) > 1:
            rows.append(f"| {name} | {times(Comparison.of(name, ours, its).ratio)} |")
    if rows:
        yield ""
        yield "The same beside AUTOTUNE that had a minute to settle:"
        yield ""
        yield "| pipeline | ours is faster by |"
        yield "|---|---:|"
        yield from rows

"""Our study beside one that a competent user writes in an afternoon."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.bench import kept_rounds, paired
from benchmarks.journal import Journal
from benchmarks.side_by_side.compare import Comparison
from benchmarks.side_by_side.own_study.naive import How, Spent, kept, run
from benchmarks.side_by_side.stand import Stand
from prefetch_tuning.experiments.report.text import times
from prefetch_tuning.pipelines import catalog

PIPELINE, SIZE = "image", 128
TRIALS, QUICK_TRIALS = 50, 2
ROUNDS, QUICK_ROUNDS = 9, 2
OURS, FRESH, HERE = "ours", "naive, fresh interpreters", "naive, in one process"
STUDIES: dict[str, How] = {OURS: "ours", FRESH: "fresh", HERE: "here"}
CHOICES = "choices of the naive studies"
MOST_SHARE = 1 / 8


def measure(stand: Stand) -> None:
    """Measures what the journal doesn't have yet."""
    target = catalog.resolve(PIPELINE)
    trials = QUICK_TRIALS if stand.quick else TRIALS
    spent = {
        name: run(target, SIZE, trials, 0, how, stand.journal) for name, how in STUDIES.items()
    }
    configs = {name: each.chosen for name, each in spent.items() if each.chosen is not None}
    stand.bench.rounds(CHOICES, target, configs, QUICK_ROUNDS if stand.quick else ROUNDS)


def lines(journal: Journal) -> Iterator[str]:
    """The section of the document."""
    spent = {name: kept(journal, how) for name, how in STUDIES.items()}
    found = {name: each for name, each in spent.items() if each is not None}
    if not found:
        return
    trials = max(len(each.resident_mib) for each in found.values())
    yield (
        "The other study is Optuna's `optimize` over prefetch and map calls, with 30 timed steps "
        "per trial and MLflow's fluent API (`benchmarks/side_by_side/own_study/programs/`), on "
        f"`{PIPELINE}` at batch size {SIZE}, {trials} trials each. *Overhead* is what a trial "
        "takes beyond its steps and their warm-up (median); *with its start* is the same over the "
        "whole study, so with what precedes the first trial, like our diagnosis. What each study "
        "would use was measured in interleaved rounds afterwards."
    )
    yield ""
    yield (
        "| study | overhead per trial | with its start | trials per minute "
        "| memory, first to last trial | its choice beside ours |"
    )
    yield "|---|---:|---:|---:|---:|---:|"
    rounds = kept_rounds(journal, CHOICES)
    for name, each in found.items():
        yield _row(name, each, _beside(rounds, name))
    share = overhead_share(journal)
    if share is not None:
        whole = found[OURS].whole_overhead_s / found[FRESH].whole_overhead_s
        yield ""
        yield (
            f"Ours takes {share:.2f} of the overhead of fresh interpreters, and {whole:.2f} with "
            f"the start (wanted: at most {MOST_SHARE:.3f})."
        )


def _row(name: str, each: Spent, beside: str) -> str:
    first, last = each.resident_mib[0], each.resident_mib[-1]
    return (
        f"| {name} | {_overhead(each):.2f} s | {each.whole_overhead_s:.2f} s "
        f"| {each.trials_per_minute:.0f} | {first:,.0f} to {last:,.0f} MiB | {beside} |"
    )


def _overhead(each: Spent) -> float:
    return statistics.median(each.overhead_s)


def _beside(rounds: list[dict[str, float]], name: str) -> str:
    if name == OURS:
        return ""
    its, own = paired(rounds, name, OURS)
    return times(Comparison.of(name, its, own).ratio) if len(its) > 1 else ""


def overhead_share(journal: Journal) -> float | None:
    """Our overhead per trial over that of fresh interpreters; None without both studies."""
    ours, fresh = kept(journal, STUDIES[OURS]), kept(journal, STUDIES[FRESH])
    if ours is None or fresh is None:
        return None
    return _overhead(ours) / _overhead(fresh)

"""The result of a grid: a table of the best configurations, and the truth that audits use."""

from __future__ import annotations

import statistics

import numpy as np
from pydantic import BaseModel, ConfigDict

from benchmarks.bench import Rates, paired
from benchmarks.grids.run import AUTOTUNE, GridFound, best_of
from prefetch_tuning.experiments.verdict.ratio import Ratio, interval_of, ratio_to
from prefetch_tuning.objectives.measurement import Interval
from prefetch_tuning.pipelines.config import PipelineConfig


class Truth(BaseModel):
    """The best configuration that a grid over a pipeline's space found.

    Attributes:
        config: the configuration with the highest median rate in the last rounds.
        examples_per_s: that median.
        ci: its 95% bootstrap interval.
        ratio_to_autotune, ratio_ci: from the same rounds; None if AUTOTUNE failed.
        rounds: the number of rounds that measured the winner.
    """

    model_config = ConfigDict(frozen=True)

    config: PipelineConfig
    examples_per_s: float
    ci: Interval
    ratio_to_autotune: float | None
    ratio_ci: Interval | None
    rounds: int


def truth_of(found: GridFound) -> Truth | None:
    """The truth from the rounds of the best three; None if they measured nothing."""
    best = best_of(found.three, [name for name in found.configs if name != AUTOTUNE])
    if not best:
        return None
    (rates,) = paired(found.three, best[0])
    ratio = over_autotune(found.three, best[0])
    return Truth(
        config=found.configs[best[0]],
        examples_per_s=statistics.median(rates),
        ci=interval_of((rates,), np.median),
        ratio_to_autotune=ratio and ratio.ratio,
        ratio_ci=ratio and ratio.ci,
        rounds=len(rates),
    )


def over_autotune(rounds: list[Rates], name: str) -> Ratio | None:
    """Ratio to AUTOTUNE in the rounds that measured both; None if there are none."""
    above, below = paired(rounds, name, AUTOTUNE)
    return ratio_to(above, below) if above else None


def table(found: GridFound) -> list[str]:
    """The lines of a Markdown table: the best ten and AUTOTUNE, in the rounds of the best ten."""
    lines = [
        "| settings | examples/s | 95% interval | over AUTOTUNE |",
        "|---|---:|---:|---:|",
    ]
    for name in best_of(found.ten, list(found.configs)):
        (rates,) = paired(found.ten, name)
        ci = interval_of((rates,), np.median)
        ratio = None if name == AUTOTUNE else over_autotune(found.ten, name)
        said = f"{ratio.ratio:.2f}x ({ratio.ci.low:.2f}x to {ratio.ci.high:.2f}x)" if ratio else ""
        lines.append(
            f"| {found.configs[name]} | {statistics.median(rates):,.0f} "
            f"| {ci.low:,.0f} to {ci.high:,.0f} | {said} |"
        )
    return lines


def in_words(truth: Truth) -> str:
    """The truth in one line."""
    ratio = ""
    if truth.ratio_to_autotune is not None and truth.ratio_ci is not None:
        low, high = truth.ratio_ci.low, truth.ratio_ci.high
        ratio = f", {truth.ratio_to_autotune:.2f}x AUTOTUNE ({low:.2f}x to {high:.2f}x)"
    return (
        f"truth: {truth.config}: {truth.examples_per_s:,.0f} examples/s ({truth.ci.low:,.0f} to "
        f"{truth.ci.high:,.0f}){ratio}, {truth.rounds} rounds"
    )

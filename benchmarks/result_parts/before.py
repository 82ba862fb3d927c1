"""Lists claims that became smaller since an earlier version, whose figures are in before.json."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from benchmarks.result_parts.run import Outcome
from prefetch_tuning.experiments.report.text import share, times
from prefetch_tuning.experiments.settings import LEAST_ROUNDS
from prefetch_tuning.experiments.verdict.ratio import Ratio, verdict
from prefetch_tuning.objectives.measurement import Interval

FILE = Path(__file__).with_suffix(".json")
WHY = (
    "The limit is now the same for every configuration. Before, it was computed from the "
    "configuration that it judged. So a share of the limit can be smaller at the same rate. Ratios "
    "are now from rounds after the choice. Before, they were from the rounds that chose."
)


class Claim(BaseModel):
    """One pipeline's figures: ratio to AUTOTUNE, its 95% interval and the share of the limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ratio: float
    low: float
    high: float
    fraction: float

    @property
    def in_words(self) -> str:
        """The ratio in today's notation."""
        if self.low == self.high:  # AUTOTUNE itself was recommended
            return "1x"
        ci = Interval(low=self.low, high=self.high)
        return times(Ratio(ratio=self.ratio, ci=ci, verdict=verdict(ci, LEAST_ROUNDS)))


class Before(BaseModel):
    """The claims of an earlier version's document."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    geometric_mean: float
    pipelines: dict[str, Claim]


def before() -> Before:
    """The committed figures of the earlier version."""
    return Before.model_validate_json(FILE.read_text(encoding="utf-8"))


def smaller(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """The section on claims that became smaller, with the old and new figures per pipeline."""
    then = before()
    rows = list(smaller_rows(then, outcomes))
    yield f"\n## Claims that became smaller since the first page of {then.version}\n"
    if not rows:
        yield "No claim became smaller."
        return
    yield f"{WHY}\n"
    yield "| pipeline | claim | first page | this page |"
    yield "|---|---|---:|---:|"
    yield from rows


def smaller_rows(then: Before, outcomes: Sequence[Outcome]) -> Iterator[str]:
    """One row per claim that is smaller in the digits that are shown, or is no longer made."""
    for outcome in outcomes:
        old = then.pipelines.get(outcome.name)
        if old is None:
            continue
        ratio, fraction = outcome.times, outcome.record.result.fraction
        if ratio is None or round(ratio, 2) < round(old.ratio, 2):
            now = times(outcome.ratio) if outcome.ratio else "1x" if ratio else "not measured"
            yield f"| {outcome.name} | over AUTOTUNE | {old.in_words} | {now} |"
        if fraction is None or round(fraction.share, 2) < round(old.fraction, 2):
            now = share(fraction.share) if fraction else "not measured"
            yield f"| {outcome.name} | of its limit | {share(old.fraction)} | {now} |"
    found = {o.name: o.times for o in outcomes if o.times is not None}
    # A mean over other pipelines would be another claim.
    if found.keys() >= then.pipelines.keys():
        mean = statistics.geometric_mean(found[name] for name in then.pipelines)
        if round(mean, 1) < round(then.geometric_mean, 1):
            yield f"| all | geometric mean of the ratios | {then.geometric_mean:.1f} | {mean:.1f} |"

"""The project's aims on two cores, each judged by what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from benchmarks.result_parts.run import Outcome, found
from prefetch_tuning.experiments.report.text import share, times
from prefetch_tuning.experiments.verdict.measurements import AUTOTUNE

LEAST_MEAN, LEAST_SIMPLE, LEAST_SHARE, MOST_MEMORY = 4.0, 20.0, 0.85, 1.2


def aims(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """One line per aim: whether it is met, and what was reached; ratios are from fresh rounds."""
    yield not_slower(outcomes)
    ratios = {o.name: o.times for o in outcomes if o.times is not None}
    if ratios:
        mean, median = (
            statistics.geometric_mean(ratios.values()),
            statistics.median(ratios.values()),
        )
        yield aim(
            mean >= LEAST_MEAN,
            f"the {len(ratios)} ratios on fresh rounds: geometric mean {mean:.1f}, median "
            f"{median:.1f} (aim: a mean of {LEAST_MEAN:g})",
        )
    if "simple" in ratios:
        text = (
            f"ratio of `simple` on fresh rounds: {ratios['simple']:.1f}x (aim: {LEAST_SIMPLE:g}x)"
        )
        yield aim(ratios["simple"] >= LEAST_SIMPLE, text)
    yield near_the_limit(outcomes)
    yield little_memory(outcomes)


def not_slower(outcomes: Sequence[Outcome]) -> str:
    """Judges whether no recommendation is proven slower than AUTOTUNE on the fresh rounds."""
    judged = {o.name: o.ratio for o in outcomes if o.ratio is not None}
    kept = [o.name for o in outcomes if o.keeps_autotune]
    missing = [o.name for o in outcomes if o.times is None]
    slower = [f"{name} {times(ratio)}" for name, ratio in judged.items() if ratio.ci.high < 1.0]
    parts = []
    if slower:
        parts.append(f"slower: {', '.join(slower)}")
    if judged:
        worst = min(judged, key=lambda name: judged[name].ci.low)
        parts.append(f"the lowest interval begins at {judged[worst].ci.low:.2f}x ({worst})")
    if kept:
        parts.append(f"AUTOTUNE itself is recommended for {', '.join(kept)}")
    if missing:
        parts.append(f"without a comparison: {', '.join(missing)}")
    words = f"no recommendation slower than AUTOTUNE on fresh rounds: {'; '.join(parts)}"
    return aim(not slower and not missing, words)


def near_the_limit(outcomes: Sequence[Outcome]) -> str:
    """Judges whether every recommendation reaches most of its pipeline's limit."""
    below = []
    for outcome in outcomes:
        fraction = outcome.record.result.fraction
        if fraction is None:
            below.append(f"{outcome.name} (not measured)")
        elif fraction.share < LEAST_SHARE:
            below.append(f"{outcome.name} {share(fraction.share)}")
    return aim(not below, f"at least {share(LEAST_SHARE)} of the limit: {all_but(below)}")


def little_memory(outcomes: Sequence[Outcome]) -> str:
    """Judges whether every recommendation needs little more memory than AUTOTUNE, or less."""
    more = []
    for outcome in outcomes:
        own, autotune = outcome.chosen, found(outcome.record, AUTOTUNE)
        if own is None or autotune is None:
            more.append(f"{outcome.name} (not measured)")
        elif own.host_peak_mib > MOST_MEMORY * autotune.host_peak_mib:
            more.append(f"{outcome.name} {own.host_peak_mib / max(autotune.host_peak_mib, 1):.1f}x")
    bought = "; see above for what it bought" if more else ""
    return aim(
        not more,
        f"peak memory of at most {MOST_MEMORY:g}x AUTOTUNE's: {all_but(more)}{bought}",
    )


def all_but(names: Sequence[str]) -> str:
    """Says which pipelines meet an aim: all of them, or all but these."""
    return f"all but {', '.join(names)}" if names else "all"


def aim(met: bool, text: str) -> str:
    """One line of the list of aims."""
    return f"- {'met' if met else '**not met**'}: {text}"

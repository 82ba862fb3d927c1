"""Decides which candidates need no more rounds, and when there are enough rounds. Pure.

Time goes to the open questions: a candidate that was beaten in every round so far will not be
recommended, and a ratio far from 1 doesn't need a narrow interval.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from prefetch_tuning.experiments.settings import LEAST_ROUNDS
from prefetch_tuning.experiments.verdict.measurements import (
    AS_WRITTEN,
    AUTOTUNE,
    ORDERED,
    STRUCTURE_AUTOTUNE,
    TUNED,
    Round,
    is_baseline,
    shared,
)
from prefetch_tuning.experiments.verdict.ratio import Ratio, ratio_to
from prefetch_tuning.experiments.verdict.recommendation import (
    LEAST_FIRST_BATCH_S,
    LEAST_SAVED_MIB,
    WORTH_SAVING,
)

# (rounds, share): a candidate leaves if it stayed below this share of the best rate in that many
# rounds, in all of them. Of equal ones that vary by 10% from run to run, one in 50,000 is that far
# behind in three rounds of three.
FAR_BEHIND = ((2, 0.50), (3, 0.70), (5, 0.85))
# If this many rounds don't tell tuned candidates apart, only the better one stays.
ALIKE_AFTER = 4
# From this many rounds on, the interval also decides: its upper end must be below the share.
BY_INTERVAL, BEHIND = 6, 0.97
# Rounds continue until the ratio to AUTOTUNE is known within this share ...
PRECISE_SHARE = 0.05
# ... or its whole interval is so far from 1 that the next digit changes nothing.
FAR_ABOVE, FAR_BELOW = 1.25, 0.8


def leader(names: Iterable[str], rounds: Sequence[Round]) -> str | None:
    """The fastest candidate that isn't a baseline; None without rounds.

    Two candidates are compared in the rounds that measured both, because one that left may have
    had only the host's better rounds.
    """
    medians = {
        name: statistics.median(r[name].examples_per_s for r in rounds if name in r)
        for name in names
        if not is_baseline(name) and any(name in r for r in rounds)
    }
    best: str | None = None
    for name in sorted(medians, key=lambda name: -medians[name]):
        if best is None or _is_ahead(name, best, rounds):
            best = name
    return best


def beaten(names: Iterable[str], rounds: Sequence[Round]) -> set[str]:
    """The candidates that need no more rounds, never AUTOTUNE or a script's own chain."""
    names = list(names)
    best = leader(names, rounds)
    if best is None:
        return set()
    tuned = [name for name in names if name.startswith(TUNED)]
    best_tuned = leader(tuned, rounds)
    left = {
        name
        for name in names
        if name not in (best, AUTOTUNE, AS_WRITTEN) and _is_beaten(name, best, rounds)
    }
    return left | {
        name
        for name in tuned
        if best_tuned not in (None, name) and _is_redundant(name, str(best_tuned), rounds)
    }


def enough(names: Iterable[str], rounds: Sequence[Round], least: int = LEAST_ROUNDS) -> bool:
    """Whether more rounds would change no decision.

    Args:
        names: candidates that are still measured.
        rounds: complete rounds so far.
        least: rounds below which nothing is decided.
    """
    names = list(names)
    best = leader(names, rounds)
    if best is None:
        return len(rounds) >= least
    asked = (AUTOTUNE, STRUCTURE_AUTOTUNE, ORDERED, AS_WRITTEN)
    open_questions = [name for name in asked if name in names]
    for other in open_questions:
        if other == best:
            continue
        above, below = shared(rounds, best, other)
        if len(above) < least or not known(ratio_to(above, below)):
            return False
    return len(rounds) >= least


def known(ratio: Ratio) -> bool:
    """Whether a ratio is known well enough to report it and to decide on it."""
    far = ratio.ci.low > FAR_ABOVE or ratio.ci.high < FAR_BELOW
    return far or ratio.half_width <= PRECISE_SHARE


def _is_ahead(name: str, best: str, rounds: Sequence[Round]) -> bool:
    ratios = _ratios(name, best, rounds)
    return bool(ratios) and statistics.median(ratios) > 1.0


def _is_beaten(name: str, best: str, rounds: Sequence[Round]) -> bool:
    ratios = _ratios(name, best, rounds)
    if any(len(ratios) >= count and max(ratios) < share for count, share in FAR_BEHIND):
        return True
    return len(ratios) >= BY_INTERVAL and ratio_to(*shared(rounds, name, best)).ci.high < BEHIND


def _is_redundant(name: str, best: str, rounds: Sequence[Round]) -> bool:
    """Whether a slower candidate saves neither memory nor time to the first batch.

    Either saving may still decide between the two, so a candidate with one of them stays.
    """
    both = [(r[name], r[best]) for r in rounds if name in r and best in r]
    if len(both) < ALIKE_AFTER:
        return False
    its_mib = statistics.median(its.memory_mib for _, its in both)
    most_mib = min((1.0 - WORTH_SAVING) * its_mib, its_mib - LEAST_SAVED_MIB)
    is_lean = statistics.median(own.memory_mib for own, _ in both) < most_mib
    earlier_s = statistics.median(its.first_batch_s - own.first_batch_s for own, its in both)
    is_slower = statistics.median(_ratios(name, best, rounds)) < 1.0
    return is_slower and not is_lean and earlier_s < LEAST_FIRST_BATCH_S


def _ratios(name: str, best: str, rounds: Sequence[Round]) -> list[float]:
    """The candidate's rate over the best one's, for each round that measured both."""
    return [own / its for own, its in zip(*shared(rounds, name, best), strict=True)]

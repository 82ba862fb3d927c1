"""Judges the rounds of a confirmation: who won, by how much, and what to use. Pure.

The search only nominates, because the best of many noisy trials is a lucky one. The nominees and
the baselines are measured again in rounds. Each round measures every candidate once, so the host
affects all of them alike. A candidate is compared with the baseline of the same round.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict

from prefetch_tuning.experiments.settings import LEAST_ROUNDS
from prefetch_tuning.experiments.verdict.confirmed import Confirmed, confirmed
from prefetch_tuning.experiments.verdict.limit import Limit, LimitRounds
from prefetch_tuning.experiments.verdict.measurements import (
    AS_WRITTEN,
    AUTOTUNE,
    STRUCTURE_AUTOTUNE,
    Round,
    baseline_failures,
    is_baseline,
    shared,
)
from prefetch_tuning.experiments.verdict.ratio import Ratio, ratio_to
from prefetch_tuning.experiments.verdict.recommendation import Chooser, Recommended
from prefetch_tuning.experiments.verdict.target import Shortfalls, TargetChooser, step_rates
from prefetch_tuning.objectives.measurement import LimitTerms
from prefetch_tuning.objectives.objective import Objective
from prefetch_tuning.pipelines.config import PipelineConfig


class Speedup(Ratio):
    """The ratio of `candidate` to `baseline` at equal batch size."""

    candidate: str
    baseline: str

    @classmethod
    def between(cls, rounds: Sequence[Round], candidate: str, baseline: str) -> Self | None:
        """Compares two candidates in the rounds that measured both; None if there are none."""
        above, below = shared(rounds, candidate, baseline)
        if not above:
            return None
        found = ratio_to(above, below)
        return cls(**dict(found), candidate=candidate, baseline=baseline)


class Gain(BaseModel):
    """The parts of a gain over AUTOTUNE, each with its interval.

    Attributes:
        structure: ratio of AUTOTUNE on the structure that was found to AUTOTUNE on the plain chain.
        settings: ratio of the best fixed settings on that structure to AUTOTUNE on it.
    """

    model_config = ConfigDict(frozen=True)

    structure: Speedup
    settings: Speedup


class Confirmation(BaseModel):
    """All candidates, fastest first, and the verdict on them.

    Attributes:
        speedup: the recommended configuration over AUTOTUNE; if AUTOTUNE is recommended, the best
            other one over it; None without a comparison.
        over_written: the same configuration over a script's own chain; None without one.
        gain: None if no structure was found, or AUTOTUNE was not measured on it.
        limit: the pipeline's limit at this batch size; None if it was not measured.
        baseline_failures: rounds in which AUTOTUNE failed.
    """

    model_config = ConfigDict(frozen=True)

    candidates: list[Confirmed]
    speedup: Speedup | None
    recommended: Recommended | None
    over_written: Speedup | None = None
    gain: Gain | None = None
    limit: Limit | None = None
    baseline_failures: int = 0

    def find(self, candidate: str) -> Confirmed | None:
        """A candidate by its name."""
        return next((c for c in self.candidates if c.candidate == candidate), None)


def conclude(
    configs: Mapping[str, PipelineConfig],
    rounds: Sequence[Round],
    *,
    cores: float,
    tolerance: float,
    memory_limit_mib: float | None = None,
    limits: Sequence[LimitTerms | None] = (),
    splittable: bool = False,
    flowing_share: float = 1.0,
    other_cores: float = 0.0,
    other_data: Sequence[str] = (),
    goal: Objective | None = None,
    step_rate: float = math.nan,
) -> Confirmation:
    """Judges the rounds; recommends nothing before there are `LEAST_ROUNDS` of them.

    Args:
        configs: the candidates by name.
        rounds: the measurements of each candidate in each round.
        cores: cores that a trial may use.
        tolerance: share of the best rate within which two candidates count as equally fast.
        memory_limit_mib: peak host memory above which a candidate cannot be recommended.
        limits: the limit's terms, one entry per round.
        splittable: whether the generator can run in several processes.
        flowing_share: share of the time in which the generator doesn't pause.
        other_cores: cores of other hosts, which can run the generator only.
        other_data: candidates whose batches differed from the plain chain's.
        goal: the study's objective; None for throughput.
        step_rate: examples/s of the step, for rounds without the limit's terms; only used if the
            objective has a target.
    """
    terms = LimitRounds(
        [*limits, *[None] * (len(rounds) - len(limits))],
        cores,
        splittable=splittable,
        flowing_share=flowing_share,
        other_cores=other_cores,
    )
    found = [
        confirmed(name, config, rounds, terms, same_data=name not in other_data)
        for name, config in configs.items()
    ]
    candidates = sorted((c for c in found if c), key=lambda c: -c.examples_per_s)
    measured = Confirmation(
        candidates=candidates,
        speedup=None,
        recommended=None,
        limit=terms.limit,
        baseline_failures=baseline_failures(rounds),
    )
    if len(rounds) < LEAST_ROUNDS:
        return measured
    chooser: Chooser | TargetChooser
    if goal is None or goal.target is None:
        chooser = Chooser(
            candidates, rounds, tolerance=tolerance, memory_limit_mib=memory_limit_mib
        )
    else:
        shortfalls = Shortfalls(goal, configs, rounds, step_rates(limits, rounds, step_rate))
        candidates = [
            c.model_copy(update={"reaches": shortfalls.reaches(c.candidate)}) for c in candidates
        ]
        chooser = TargetChooser(candidates, rounds, shortfalls, memory_limit_mib)
    recommended = chooser.choose()
    contender = chooser.contender
    shown = recommended.candidate if recommended else AUTOTUNE
    if is_baseline(shown) and contender is not None:
        shown = contender.candidate
    speedup = None if is_baseline(shown) else Speedup.between(rounds, shown, AUTOTUNE)
    return measured.model_copy(
        update={
            "candidates": candidates,
            "speedup": speedup,
            "over_written": Speedup.between(rounds, shown, AS_WRITTEN)
            if shown != AS_WRITTEN
            else None,
            "recommended": recommended,
            "gain": _gain(configs, rounds, candidates),
        }
    )


def _gain(
    configs: Mapping[str, PipelineConfig],
    rounds: Sequence[Round],
    candidates: Sequence[Confirmed],
) -> Gain | None:
    """Separates the structure's gain from that of the best fixed settings on it."""
    if STRUCTURE_AUTOTUNE not in configs:
        return None
    adaptive = configs[STRUCTURE_AUTOTUNE]
    judged = [c for c in candidates if c.same_data and c.rounds >= LEAST_ROUNDS]
    fixed = [
        c for c in judged if not c.config.is_autotune and c.config.handed_to_autotune() == adaptive
    ]
    if not fixed or STRUCTURE_AUTOTUNE not in [c.candidate for c in judged]:
        return None
    best = max(fixed, key=lambda c: c.ci.low)
    structure = Speedup.between(rounds, STRUCTURE_AUTOTUNE, AUTOTUNE)
    settings = Speedup.between(rounds, best.candidate, STRUCTURE_AUTOTUNE)
    return Gain(structure=structure, settings=settings) if structure and settings else None

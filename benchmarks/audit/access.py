"""What the audit uses of the rest of the project, in one place that follows its changes.

No part of the audit calls the search, the limit or a study's result in another way.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from pydantic import BaseModel
from rich.console import Console

from prefetch_tuning.experiments.commands.progress import ConsoleProgress
from prefetch_tuning.experiments.search.axes import offer
from prefetch_tuning.experiments.search.diagnosis import Diagnosis, diagnose
from prefetch_tuning.experiments.search.first_trials import first_trials
from prefetch_tuning.experiments.search.space import SearchSpace
from prefetch_tuning.experiments.settings import Options, TuneRequest
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.results import StudyResult
from prefetch_tuning.experiments.study.tuning import Tuning
from prefetch_tuning.experiments.verdict.confirmed import Confirmed
from prefetch_tuning.experiments.verdict.limit import LimitRounds
from prefetch_tuning.objectives.measurement import Interval, LimitTerms, TrialFailure
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.stage_costs import StageCosts
from prefetch_tuning.objectives.throughput import Throughput
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.cores import usable_cores


class NotMeasuredError(RuntimeError):
    """A measurement that a part needs failed, so its claim fails."""


class UnavailableError(RuntimeError):
    """Something that a part needs is missing, so its claim stays undecided."""


class Fraction(BaseModel):
    """Share of the limit that a candidate reached, with its 95% interval."""

    candidate: str
    value: float
    ci: Interval


class Studied(BaseModel):
    """What the audit needs of a finished study.

    Attributes:
        recommended: None if the study recommended nothing.
        limit: in examples/s; None if it wasn't measured.
    """

    study: str
    recommended: PipelineConfig | None
    limit: float | None
    fractions: list[Fraction]


def diagnosis_of(costs: StageCosts) -> Diagnosis:
    """The diagnosis of a pipeline with these stage costs."""
    return diagnose(costs, usable_cores())


def space_of(info: PipelineInfo, diagnosis: Diagnosis) -> SearchSpace:
    """The search space of a default study."""
    return offer(info, Options(), diagnosis, usable_cores()).space


def first_guesses(diagnosis: Diagnosis, space: SearchSpace) -> list[PipelineConfig]:
    """The first trials of a study, before its sampler has seen any result."""
    return first_trials(diagnosis, space, usable_cores(), Throughput())


def measure_limit(runner: TrialRunner, target: str, batch_size: int, seed: int = 0) -> LimitTerms:
    """Measures the terms of a pipeline's limit, as a round of a confirmation does.

    Raises:
        NotMeasuredError: the measurement failed.
    """
    info = runner.inspect(target, seed, "auto")
    vectorized = "vectorized_map" in info.axes
    found = runner.measure_limit(target, batch_size, seed, "auto", vectorized=vectorized)
    if isinstance(found, TrialFailure):
        raise NotMeasuredError(f"{target}: no limit, {found.kind}: {found.detail}")
    return found


def limit_of(terms: LimitTerms) -> float:
    """The examples/s that no configuration exceeds, for a generator that can't be split."""
    limit = LimitRounds([terms], usable_cores(), splittable=False).limit
    assert limit is not None
    return limit.examples_per_s


def run_study(runner: TrialRunner, folder: Path, target: str, name: str, seed: int) -> Studied:
    """Runs a study as `prefetch-tune tune` does by default, kept in `folder`.

    A study that was cut off resumes.

    Raises:
        NotMeasuredError: the study ended without a result.
    """
    folder = folder.resolve()  # MLflow needs an absolute address for artifacts
    store = Store.within(folder)
    tuning = Tuning(store, runner, ConsoleProgress(Console(file=sys.stderr, highlight=False)))
    tuning.tune(TuneRequest(pipelines=[target], study=name, seed=seed), time.monotonic())
    if not tuning.records:
        raise NotMeasuredError(f"{name}: {'; '.join(tuning.problems) or 'no result'}")
    return studied(tuning.records[0].result)


def studied(result: StudyResult) -> Studied:
    """The part of a study's result that the audit needs."""
    found = [fraction_of(confirmed) for confirmed in result.confirmation]
    return Studied(
        study=result.study,
        recommended=result.recommended.config if result.recommended else None,
        limit=result.limit.examples_per_s if result.limit else None,
        fractions=[fraction for fraction in found if fraction],
    )


def fraction_of(confirmed: Confirmed) -> Fraction | None:
    """The share of the limit that a candidate reached; None if there is no limit."""
    found = confirmed.fraction
    if found is None:
        return None
    return Fraction(candidate=confirmed.candidate, value=found.share, ci=found.ci)

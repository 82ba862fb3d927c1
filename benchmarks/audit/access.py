"""What the audit takes from the rest of the project, in one place: it follows that when it changes.

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
from prefetch_tuning.objectives.machine.cores import usable_cores
from prefetch_tuning.objectives.measurement import Interval, LimitTerms, PipelineInfo, TrialFailure
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.stage_costs import StageCosts
from prefetch_tuning.pipelines.config import PipelineConfig


class NotMeasuredError(RuntimeError):
    """Something that a part needs failed, so that its claim does."""


class UnavailableError(RuntimeError):
    """Something that a part needs is not there, so that its claim stays undecided."""


class Fraction(BaseModel):
    """Share of the limit that a candidate reached, with its 95 % interval."""

    candidate: str
    value: float
    ci: Interval


class Studied(BaseModel):
    """What the audit needs of a finished study.

    Attributes:
        recommended: None where the study had no answer.
        limit: in examples/s; None where it was not measured.
    """

    study: str
    recommended: PipelineConfig | None
    limit: float | None
    fractions: list[Fraction]


def diagnosis_of(costs: StageCosts) -> Diagnosis:
    """What limits a pipeline whose stages cost this."""
    return diagnose(costs, usable_cores())


def space_of(info: PipelineInfo, diagnosis: Diagnosis) -> SearchSpace:
    """The space of a default study."""
    return offer(info, Options(), diagnosis, usable_cores()).space


def first_guesses(diagnosis: Diagnosis, space: SearchSpace) -> list[PipelineConfig]:
    """What a study would try before its sampler has seen anything."""
    return first_trials(diagnosis, space, usable_cores())


def measure_limit(runner: TrialRunner, target: str, batch_size: int, seed: int = 0) -> LimitTerms:
    """Measures the terms of a pipeline's limit, as a round of a confirmation does.

    Raises:
        NotMeasuredError: it failed.
    """
    info = runner.inspect(target, seed, "auto")
    vectorized = "vectorized_map" in info.axes
    found = runner.measure_limit(target, batch_size, seed, "auto", vectorized=vectorized)
    if isinstance(found, TrialFailure):
        raise NotMeasuredError(f"{target}: no limit, {found.kind}: {found.detail}")
    return found


def limit_of(terms: LimitTerms) -> float:
    """Examples/s that no configuration passes, for a generator that cannot be split."""
    limit = LimitRounds([terms], usable_cores(), splittable=False).limit
    assert limit is not None
    return limit.examples_per_s


def run_study(runner: TrialRunner, folder: Path, target: str, name: str, seed: int) -> Studied:
    """A study as `prefetch-tune tune` runs it by default, kept in `folder`.

    One that was cut off goes on.

    Raises:
        NotMeasuredError: it ended without a result.
    """
    folder = folder.resolve()  # MLflow keeps artifacts under an absolute address
    store = Store(
        storage_url=f"sqlite:///{folder / 'optuna.db'}",
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
        artifacts=folder / "artifacts",
        folder=folder,
    )
    tuning = Tuning(store, runner, ConsoleProgress(Console(file=sys.stderr, highlight=False)))
    tuning.tune(TuneRequest(pipelines=[target], study=name, seed=seed), time.monotonic())
    if not tuning.records:
        raise NotMeasuredError(f"{name}: {'; '.join(tuning.problems) or 'no result'}")
    return studied(tuning.records[0].result)


def studied(result: StudyResult) -> Studied:
    """The audit's part of a study's result."""
    found = [fraction_of(confirmed) for confirmed in result.confirmation]
    return Studied(
        study=result.study,
        recommended=result.recommended.config if result.recommended else None,
        limit=result.limit.examples_per_s if result.limit else None,
        fractions=[fraction for fraction in found if fraction],
    )


def fraction_of(confirmed: Confirmed) -> Fraction | None:
    """The share of the limit that a candidate reached; None where there is no limit."""
    found = confirmed.fraction
    if found is None:
        return None
    return Fraction(candidate=confirmed.candidate, value=found.share, ci=found.ci)

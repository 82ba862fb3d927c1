"""One pipeline that feeds one emulated step: a study, then rounds that didn't choose its winner."""

from __future__ import annotations

import time
from dataclasses import dataclass

from benchmarks.accelerators.steps import Fed, steps_for
from benchmarks.audit.access import NotMeasuredError, measure_limit
from benchmarks.bench import Bench, Rates, kept_rounds, paired, say
from benchmarks.journal import Journal
from benchmarks.result_parts.run import RECOMMENDED, found, part_of
from prefetch_tuning.experiments.api import tune
from prefetch_tuning.experiments.report.conclusion import kept_record
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.results import StudyRecord
from prefetch_tuning.experiments.verdict.confirmed import Confirmed
from prefetch_tuning.experiments.verdict.limit import Fraction, LimitRounds
from prefetch_tuning.experiments.verdict.measurements import AUTOTUNE
from prefetch_tuning.experiments.verdict.ratio import ratio_to
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.cores import usable_cores
from prefetch_tuning.pipelines.step_time import StepTime
from prefetch_tuning.pipelines.target import compose

# Readings of a pipeline's limit, which says how hard the hard step is.
READINGS = 3
# The rounds after the choice.
ROUNDS = 9
LIMITS, STUDIES = "limits", "studies"
# A step that takes no time leaves the limit to the pipeline.
NO_STEP = StepTime(fixed_ms=0.001)


@dataclass(frozen=True)
class Outcome:
    """What a study found, and the rates of the rounds after it.

    Attributes:
        fresh: examples/s of the recommended configuration and of AUTOTUNE, one mapping per round.
    """

    fed: Fed
    record: StudyRecord
    fresh: list[Rates]

    @property
    def chosen(self) -> Confirmed | None:
        """The recommended configuration in the rounds that chose it."""
        recommended = self.record.result.recommended
        return found(self.record, recommended.candidate) if recommended else None

    def busy(self, candidate: str) -> Fraction | None:
        """A candidate's utilisation in the fresh rounds; None if no round measured it."""
        (rates,) = paired(self.fresh, candidate)
        if not rates:
            return None
        step = self.fed.batch_size / self.fed.step.seconds(self.fed.batch_size)
        share = ratio_to(rates, [step] * len(rates))
        return Fraction(share=share.ratio, ci=share.ci)


def steps_of(pipeline: str, journal: Journal) -> list[Fed]:
    """The steps that a pipeline feeds, after measuring its limit without one.

    Raises:
        NotMeasuredError: the limit could not be measured.
    """
    target = compose(catalog.resolve(pipeline), None, None, NO_STEP)
    line = journal.find(LIMITS, pipeline)
    if line is None:
        with TrialRunner() as runner:
            info = runner.inspect(target, 0, "auto")
            sizes = info.batch_sizes
            terms = [measure_limit(runner, target, max(sizes)) for _ in range(READINGS)]
        splittable = bool({"generator_workers", "workers"} & set(info.axes))
        limit = LimitRounds(terms, usable_cores(), splittable=splittable).limit
        assert limit is not None
        line = journal.add(LIMITS, pipeline, limit=limit.examples_per_s, batch_sizes=sizes)
    return steps_for(line["limit"], line["batch_sizes"])


def outcome_of(name: str, pipeline: str, fed: Fed, journal: Journal, store: Store) -> Outcome:
    """Measures what the journal of run `name` doesn't have yet of a pipeline that feeds a step.

    Raises:
        NotMeasuredError: the study recommended nothing.
    """
    study = f"{name}-{pipeline}-{fed.kind}"
    target = compose(catalog.resolve(pipeline), None, None, fed.step)
    if journal.find(STUDIES, study) is None:
        begin = time.monotonic()
        tuned = tune(target, study=study, batch_size=fed.batch_size)
        for problem in tuned.problems:
            say(problem)
        if tuned.results[0].recommended is None:
            raise NotMeasuredError(f"{study}: nothing was recommended")
        journal.add(STUDIES, study, seconds=time.monotonic() - begin, problems=tuned.problems)
    record = kept_record(study, store)
    pair = pair_of(record)
    part = part_of(f"{pipeline} feeding {fed.step}", pair[RECOMMENDED])
    if len(journal.of(part)) < ROUNDS * len(pair):
        with TrialRunner() as runner:
            Bench(runner, journal, record.seed).rounds(part, record.info.target, pair, ROUNDS)
    return Outcome(fed, record, kept_rounds(journal, part))


def pair_of(record: StudyRecord) -> dict[str, PipelineConfig]:
    """The recommended configuration and AUTOTUNE; only AUTOTUNE if that is recommended."""
    recommended = record.result.recommended
    assert recommended is not None
    pair = {RECOMMENDED: recommended.config}
    if recommended.candidate != AUTOTUNE:
        size = recommended.config.batch_size
        pair[AUTOTUNE] = PipelineConfig.autotune(size, **record.info.own)
    return pair

"""One pipeline's part of the results: a study, then rounds that did not choose its winner."""

from __future__ import annotations

import time
from dataclasses import dataclass

from benchmarks.bench import Bench, Rates, kept_rounds, paired, say
from benchmarks.journal import Journal
from prefetch_tuning.experiments.api import tune
from prefetch_tuning.experiments.report.conclusion import kept_record
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.results import StudyRecord
from prefetch_tuning.experiments.verdict.confirmed import Confirmed
from prefetch_tuning.experiments.verdict.measurements import AUTOTUNE
from prefetch_tuning.experiments.verdict.ratio import Ratio, ratio_to
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import Device
from prefetch_tuning.pipelines.config import PipelineConfig

# More search than by default: a list of results is made once, and for others.
SEARCH_S, TRIALS = 30.0, 40
# After the choice; as many as the confirmation has at least.
ROUNDS = 9
STUDIES, RECOMMENDED = "studies", "recommended"


@dataclass(frozen=True)
class Outcome:
    """What a study found, and what the rounds after it measured.

    Attributes:
        fresh: examples/s of the recommended configuration and of AUTOTUNE, a mapping per round;
            empty where AUTOTUNE is recommended.
    """

    record: StudyRecord
    fresh: list[Rates]

    @property
    def name(self) -> str:
        """Of the pipeline."""
        return self.record.info.name

    @property
    def chosen(self) -> Confirmed | None:
        """The recommended configuration in the rounds that chose it."""
        recommended = self.record.result.recommended
        return found(self.record, recommended.candidate) if recommended else None

    @property
    def keeps_autotune(self) -> bool:
        """Whether AUTOTUNE itself is recommended, so that its ratio is 1 by definition."""
        return self.chosen is not None and self.chosen.candidate == AUTOTUNE

    @property
    def whole_rounds(self) -> int:
        """Fresh rounds that measured both."""
        return len(paired(self.fresh, RECOMMENDED, AUTOTUNE)[0])

    @property
    def ratio(self) -> Ratio | None:
        """Recommended over AUTOTUNE in the fresh rounds; None where no round measured both."""
        above, below = paired(self.fresh, RECOMMENDED, AUTOTUNE)
        return ratio_to(above, below) if above else None

    @property
    def times(self) -> float | None:
        """The same as a number; 1 where AUTOTUNE is recommended."""
        if self.keeps_autotune:
            return 1.0
        return self.ratio.ratio if self.ratio else None


def found(record: StudyRecord, candidate: str) -> Confirmed | None:
    """A candidate of the confirmation; None where it was not measured."""
    return next((c for c in record.result.confirmation if c.candidate == candidate), None)


def outcome_of(
    name: str,
    pipeline: str,
    journal: Journal,
    store: Store,
    *,
    search_s: float | None = SEARCH_S,
    rounds: int = ROUNDS,
    device: Device = "auto",
) -> Outcome:
    """Measures what the journal of run `name` does not have of a pipeline yet.

    `search_s` are the seconds that the study may search, by default's rule where it is None;
    `rounds` are those after its choice. `device` is where training steps run.
    """
    study = f"{name}-{pipeline}"
    if journal.find(STUDIES, pipeline) is None:
        begin = time.monotonic()
        trials = None if search_s is None else TRIALS
        tuned = tune(pipeline, study=study, time_budget_s=search_s, trials=trials, device=device)
        for problem in tuned.problems:
            say(problem)
        # Without a recommendation it is tried again when the run goes on.
        if tuned.results[0].recommended is not None:
            seconds = time.monotonic() - begin
            journal.add(STUDIES, pipeline, study=study, seconds=seconds, problems=tuned.problems)
    else:
        say(f"{pipeline}: study {study} is there already")
    record = kept_record(study, store)
    pair = pair_of(record)
    if pair is not None:
        part = part_of(pipeline, pair[RECOMMENDED])
        if len(journal.of(part)) < rounds * len(pair):
            with TrialRunner() as runner:
                bench = Bench(runner, journal, record.seed, device)
                bench.rounds(part, record.info.target, pair, rounds)
    return kept_outcome(name, pipeline, journal, store)


def kept_outcome(name: str, pipeline: str, journal: Journal, store: Store) -> Outcome:
    """What there is of a pipeline in run `name`, without measuring anything.

    Raises:
        StudyError: its study was not begun.
    """
    record = kept_record(f"{name}-{pipeline}", store)
    pair = pair_of(record)
    if pair is None:
        return Outcome(record, [])
    return Outcome(record, kept_rounds(journal, part_of(pipeline, pair[RECOMMENDED])))


def pair_of(record: StudyRecord) -> dict[str, PipelineConfig] | None:
    """Recommended and AUTOTUNE at the same batch size; None where there are no two to compare."""
    recommended = record.result.recommended
    if recommended is None or recommended.candidate == AUTOTUNE:
        return None
    autotune = PipelineConfig.autotune(recommended.config.batch_size, **record.info.own)
    return {RECOMMENDED: recommended.config, AUTOTUNE: autotune}


def part_of(pipeline: str, recommended: PipelineConfig) -> str:
    """The journal's part of the fresh rounds: another recommendation gets rounds of its own."""
    return f"fresh rounds of {pipeline} ({recommended})"

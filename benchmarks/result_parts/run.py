"""One pipeline's part of the results: a study, then rounds that didn't choose its winner."""

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

# The rounds after the choice: as many as a confirmation has at least.
ROUNDS = 9
STUDIES, RECOMMENDED = "studies", "recommended"


@dataclass(frozen=True)
class Outcome:
    """What a study found, and what the rounds after it measured.

    Attributes:
        fresh: examples/s of the recommended configuration and of AUTOTUNE, one mapping per round;
            empty if AUTOTUNE or nothing is recommended.
    """

    record: StudyRecord
    fresh: list[Rates]

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return self.record.info.name

    @property
    def chosen(self) -> Confirmed | None:
        """The recommended configuration in the rounds that chose it."""
        recommended = self.record.result.recommended
        return found(self.record, recommended.candidate) if recommended else None

    @property
    def keeps_autotune(self) -> bool:
        """Whether AUTOTUNE itself is recommended, which makes the ratio 1 by definition."""
        return self.chosen is not None and self.chosen.candidate == AUTOTUNE

    @property
    def whole_rounds(self) -> int:
        """The number of fresh rounds that measured both configurations."""
        return len(paired(self.fresh, RECOMMENDED, AUTOTUNE)[0])

    @property
    def ratio(self) -> Ratio | None:
        """Recommended over AUTOTUNE in the fresh rounds; None if no round measured both."""
        above, below = paired(self.fresh, RECOMMENDED, AUTOTUNE)
        return ratio_to(above, below) if above else None

    @property
    def times(self) -> float | None:
        """The ratio as a number; 1 if AUTOTUNE is recommended."""
        if self.keeps_autotune:
            return 1.0
        return self.ratio.ratio if self.ratio else None


def found(record: StudyRecord, candidate: str) -> Confirmed | None:
    """A candidate of the confirmation; None if it wasn't measured."""
    return next((c for c in record.result.confirmation if c.candidate == candidate), None)


def outcome_of(
    name: str,
    pipeline: str,
    journal: Journal,
    store: Store,
    *,
    rounds: int = ROUNDS,
    device: Device = "auto",
) -> Outcome:
    """Measures what the journal of run `name` doesn't have yet of a pipeline.

    The study is a default one. `rounds` is the number of rounds after the choice. `device` is where
    training steps run.
    """
    study = f"{name}-{pipeline}"
    if journal.find(STUDIES, pipeline) is None:
        begin = time.monotonic()
        tuned = tune(pipeline, study=study, device=device)
        for problem in tuned.problems:
            say(problem)
        # Without a recommendation the study isn't recorded, so a resumed run tunes again.
        if tuned.results[0].recommended is not None:
            seconds = time.monotonic() - begin
            journal.add(STUDIES, pipeline, study=study, seconds=seconds, problems=tuned.problems)
    else:
        say(f"{pipeline}: study {study} is already there")
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
    """The outcome of a pipeline in run `name` so far; measures nothing.

    Raises:
        StudyError: its study wasn't started.
    """
    record = kept_record(f"{name}-{pipeline}", store)
    pair = pair_of(record)
    if pair is None:
        return Outcome(record, [])
    return Outcome(record, kept_rounds(journal, part_of(pipeline, pair[RECOMMENDED])))


def pair_of(record: StudyRecord) -> dict[str, PipelineConfig] | None:
    """Recommended and AUTOTUNE at the same batch size; None if they aren't two configurations."""
    recommended = record.result.recommended
    if recommended is None or recommended.candidate == AUTOTUNE:
        return None
    autotune = PipelineConfig.autotune(recommended.config.batch_size, **record.info.own)
    return {RECOMMENDED: recommended.config, AUTOTUNE: autotune}


def part_of(pipeline: str, recommended: PipelineConfig) -> str:
    """The journal's part of the fresh rounds; another recommendation gets separate rounds."""
    return f"fresh rounds of {pipeline} ({recommended})"

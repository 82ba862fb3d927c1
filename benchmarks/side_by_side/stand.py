"""What the parts measure with, and where they keep what they measured."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.bench import Bench
from benchmarks.journal import Journal
from prefetch_tuning.experiments.commands.progress import ConsoleProgress
from prefetch_tuning.experiments.report.conclusion import kept_record
from prefetch_tuning.experiments.settings import TuneRequest
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.results import MeasuredConfig, StudyRecord
from prefetch_tuning.experiments.study.tuning import Tuning
from prefetch_tuning.experiments.verdict.recommendation import Recommended
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.pipelines.config import PipelineConfig

STUDIES, SPENT, RECOMMENDED = "studies", "spent", "recommended"
QUICK_TRIALS = 4


class NoResultError(RuntimeError):
    """A study ended without a recommendation, so there is nothing to compare."""


@dataclass(frozen=True)
class Stand:
    """One run of the comparison.

    Attributes:
        runner: measures trials.
        journal: keeps every measurement; a part looks there before it measures.
        folder: for the studies and the grids.
        quick: measure less, so that the whole run ends within ten minutes.
    """

    runner: TrialRunner
    journal: Journal
    folder: Path
    quick: bool

    @property
    def bench(self) -> Bench:
        """Measures configurations in rounds."""
        return Bench(self.runner, self.journal)

    def study(self, name: str, target: str, batch_size: int, **options: object) -> StudyRecord:
        """A study as `prefetch-tune tune --batch-size` runs it; one that was cut off resumes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        store = Store.choose(self.folder.resolve(), None, None)
        if self.journal.find(STUDIES, name) is None:
            request = TuneRequest.checked(
                pipelines=[target], study=name, batch_size=batch_size, **options
            )
            self._tune(store, name, request)
            self.journal.add(STUDIES, name, seconds=self.spent_s(name))
        return kept_record(name, store)

    def spent_s(self, name: str) -> float:
        """Seconds of a study so far, over all runs of it."""
        line = self.journal.find(SPENT, name)
        return 0.0 if line is None else float(line["seconds"])

    def _tune(self, store: Store, name: str, request: TuneRequest) -> None:
        progress = ConsoleProgress(Console(file=sys.stderr, highlight=False))
        before_s, begin = self.spent_s(name), time.monotonic()
        try:
            Tuning(store, self.runner, progress).tune(request, begin)
        finally:
            self.journal.add(SPENT, name, seconds=before_s + time.monotonic() - begin)

    def recommended(self, name: str, target: str, batch_size: int) -> PipelineConfig:
        """The recommendation of a default study; in a quick run, the best of a few trials.

        The journal keeps it, so a run can go on without the study's database.

        Raises:
            NoResultError: it recommended nothing.
        """
        line = self.journal.find(RECOMMENDED, name)
        if line is None:
            config = self._tuned(name, target, batch_size)
            line = self.journal.add(RECOMMENDED, name, config=config)
        return PipelineConfig.model_validate(line["config"])

    def _tuned(self, name: str, target: str, batch_size: int) -> PipelineConfig:
        if self.quick:
            quick = self.study(name, target, batch_size, trials=QUICK_TRIALS, rounds=0)
            found: Recommended | MeasuredConfig | None = quick.result.best
        else:
            found = self.study(name, target, batch_size).result.recommended
        if found is None:
            raise NoResultError(f"{name}: nothing was recommended")
        return found.config

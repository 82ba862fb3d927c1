"""The trials of a study's search, until their number is reached or the time is spent."""

from __future__ import annotations

import time

from prefetch_tuning.experiments.storage.trial_rows import all_failed
from prefetch_tuning.experiments.study.pipeline_study import PipelineStudy
from prefetch_tuning.experiments.study.progress import Steps, show_trial
from prefetch_tuning.experiments.study.search import Outcome, Search
from prefetch_tuning.experiments.study.work import Piece


class Trials:
    """Begins trials and shows those that ended.

    Attributes:
        problems: a line if the search ended because nothing works.
    """

    def __init__(self, study: PipelineStudy, search: Search, steps: Steps, most: int) -> None:
        """`most` is the number of trials at which the search ends, with those of earlier runs."""
        self._study, self._search, self._steps, self._most = study, search, steps, most
        # On a cluster, the nodes measure their references first.
        self._begin = time.monotonic() if study.hosts.count == 1 else None
        finished = study.kept.finished
        self._begun = len(finished)
        # A resumed search has spent a part of its time before.
        earlier_s = sum(trial.duration.total_seconds() for trial in finished if trial.duration)
        self._earlier_s = earlier_s / study.hosts.count
        self.problems: list[str] = []

    def next(self) -> Piece[Outcome] | None:
        """The next trial; None if the search is over, but for what is running."""
        if self.problems or self._begun >= self._most or self._is_spent():
            return None
        self._begun += 1
        return self._search.trial()

    def ended(self, found: Outcome) -> None:
        """Shows a finished trial; ends the search if nothing works."""
        if self._begin is None:
            self._begin = time.monotonic()
        kept, name = self._study.kept, self._study.info.name
        show_trial(self._steps, name, found, kept.best, kept.shown)
        reason = all_failed(kept.finished)
        if reason is not None:
            self.problems = [f"{name}: every trial failed, {reason}"]
        elif self._search.nothing_fits:
            self.problems = [
                f"{name}: no batch size fits into the GPU's memory, not even "
                f"{kept.lacking_device_memory}"
            ]

    def _is_spent(self) -> bool:
        """Whether the time is used up, and no trial is left that runs even then."""
        settings = self._study.settings
        budget_s, by_default = settings.search_budget_s, settings.time_budget_s is None
        if budget_s is None or self._begin is None:
            return False
        # The default time is for measuring, not for a script's way to its fit.
        reaching_s = self._study.info.reach_s * self._begun if by_default else 0.0
        spent_s = self._earlier_s + time.monotonic() - self._begin
        if spent_s - reaching_s < budget_s:
            return False
        # A trial of a large model on a GPU takes 13 s. The default time was enough for two, so the
        # study knew only two kinds of configuration. So all predicted trials run, even after the
        # default time. A time budget that the user sets is kept.
        return not (by_default and self._search.has_predicted)

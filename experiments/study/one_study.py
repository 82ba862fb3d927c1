"""One study, from its diagnosis to its confirmation."""

from __future__ import annotations

from collections.abc import Sequence

from prefetch_tuning.experiments.errors import StudyError
from prefetch_tuning.experiments.search.axes import is_bound
from prefetch_tuning.experiments.storage.results import MeasuredConfig
from prefetch_tuning.experiments.study.candidates import candidates_of, usable
from prefetch_tuning.experiments.study.diagnose import diagnose_study
from prefetch_tuning.experiments.study.pipeline_study import PipelineStudy
from prefetch_tuning.experiments.study.progress import Progress
from prefetch_tuning.experiments.study.rounds import Confirmer
from prefetch_tuning.experiments.study.search import Search
from prefetch_tuning.experiments.study.trials import Trials
from prefetch_tuning.objectives.spec import StopRule

# Most confirmations in a row, if the best candidate keeps reading other data.
MOST_NOMINATIONS = 4
# If no change of structure helps, the configurations hardly differ in rate.
SHORT_TRIALS = 6
# To estimate how long a study takes: candidates in a round beside AUTOTUNE, and seconds to start a
# trial.
USUAL_CANDIDATES, START_S = 4, 2.0


class OneStudy:
    """Carries one study on from where it is.

    Attributes:
        problems: one line for each failure that didn't end the study.
    """

    def __init__(self, study: PipelineStudy, progress: Progress) -> None:
        self._study, self._progress = study, progress
        self.problems: list[str] = []

    def tune(self) -> None:
        """From the diagnosis to the confirmation; what is done already isn't done again."""
        study = self._study
        problem = diagnose_study(study, self._progress)
        if problem is not None:
            self.problems.append(problem)
        check_step_known(study)
        search = Search(study)
        search.begin()
        if not study.kept.finished:
            search.read_once()
        self._search(search)
        if study.settings.rounds and study.kept.complete:
            self.confirm()

    def confirm(self, more: int | None = None) -> None:
        """Runs rounds over the best configurations, AUTOTUNE and the chain without prefetch.

        `more` is how many to add to those of earlier runs.
        """
        study, kept = self._study, self._study.kept
        for left in reversed(range(MOST_NOMINATIONS)):
            # The study may have been made with --allow-reorder, and resumed without it.
            allowed = study.settings.allow_reorder
            complete = [m for m in kept.complete if allowed or not m.config.reorder]
            if not complete:
                return
            others = usable(complete, kept.excluded_with_best)
            gives_up = bool(others) and left > 0
            if not self._run_rounds(others or complete, more, gives_up=gives_up):
                return

    def _search(self, search: Search) -> None:
        """Runs trials until their number is reached or the time is spent."""
        study = self._study
        most, done = self._most_trials(), len(study.kept.finished)
        title, budget_s = f"{study.info.name}: searching", study.settings.search_budget_s
        steps = self._progress.steps(title, "trial", done, most, budget_s)
        trials = Trials(study, search, steps, most)
        with steps.shown():
            study.hosts.carry_out(trials)
        self.problems.extend(trials.problems)

    def _most_trials(self) -> int:
        """The number of trials that ends the search; says if it or their length is unusual."""
        study = self._study
        name, diagnosis = study.info.name, study.kept.diagnosis
        trials = study.settings.most_trials
        bound = diagnosis is not None and is_bound(diagnosis, study.settings)
        if bound and study.settings.trials is None:
            trials = SHORT_TRIALS
            self._progress.say(f"{name}: a short search of {trials} trials is enough")
        rules = [study.stop_rule(size) for size in study.offer.space.batch_sizes]
        longest = max(rules, key=lambda rule: rule.max_s)
        if longest != study.settings.stop and not study.kept.rounds:
            self._progress.say(
                f"{name}: trials last from one pause to the next, up to {longest.max_s:.0f} s, so "
                f"this study takes about {_minutes(longest, trials, study.settings.rounds):.0f} "
                "minutes"
            )
        return trials

    def _run_rounds(
        self, complete: Sequence[MeasuredConfig], more: int | None, *, gives_up: bool
    ) -> bool:
        """Runs rounds over the best of these trials; whether others should be nominated."""
        study, kept = self._study, self._study.kept
        goal, info = study.settings.goal, study.info
        found = candidates_of(
            complete,
            goal,
            kept.step_rate,
            info.own,
            resized=study.offer.space.resized,
            written=info.written,
        )
        kept.nominate(found)
        done = len(kept.rounds)
        total = max(study.settings.rounds, done) if more is None else done + more
        confirmer = Confirmer(study, gives_up=gives_up)
        steps = self._progress.steps(f"{study.info.name}: confirming", "round", done, total)
        try:
            with steps.shown():
                confirmer.run(steps, more)
        finally:
            self.problems.extend(confirmer.problems)
        return confirmer.gave_up


def check_step_known(study: PipelineStudy) -> None:
    """Raises StudyError if the objective has a target, but the step's time isn't known."""
    settings = study.settings
    if settings.goal.target is None or study.kept.diagnosis is not None or study.info.stand_in:
        return
    raise StudyError(
        f"{study.info.name}: --objective {settings.objective} needs the time of the training step, "
        "which was not measured; give --step-time or --accelerator, or leave out --objective"
    )


def _minutes(rule: StopRule, trials: int, rounds: int) -> float:
    """Rough length of a study whose trials have this rule, in minutes."""
    trial_s = START_S + rule.startup_s + rule.max_s
    round_s = USUAL_CANDIDATES * trial_s + START_S + rule.warmup_max_s + rule.max_s
    return (trials * trial_s + rounds * round_s) / 60.0

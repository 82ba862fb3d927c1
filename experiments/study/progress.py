"""What a study says while it runs, to whoever shows it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from prefetch_tuning.experiments.search.diagnosis import Diagnosis
from prefetch_tuning.experiments.storage.results import MeasuredConfig
from prefetch_tuning.experiments.study.search import Outcome


class Steps(Protocol):
    """A number of equal steps, of which some may have been done before."""

    def shown(self) -> AbstractContextManager[None]:
        """Shows them while the block runs."""

    def advance(self, text: str, line: str | None = None, most_s: float | None = None) -> None:
        """One step is done.

        Args:
            text: how far the whole is, in a few words.
            line: what this step gave, where each has a line of its own; `text` if not given.
            most_s: what is left of a time budget.
        """

    def warn(self, text: str) -> None:
        """Something failed, and the steps go on."""


class Progress(Protocol):
    """Shows a tuning run."""

    def steps(self, title: str, done: int, total: int) -> Steps:
        """Begins `total` steps, of which `done` have been done before."""

    def say(self, text: str) -> None:
        """One line."""

    def show_diagnosis(self, pipeline: str, diagnosis: Diagnosis) -> None:
        """What limits a pipeline, before its search begins."""


def show_trial(
    steps: Steps,
    pipeline: str,
    outcome: Outcome,
    best: MeasuredConfig | None,
    budget_s: float | None,
) -> None:
    """One trial ended; `budget_s` is what is left of the time budget, if there is one."""
    best_text = f"best {best.examples_per_s:,.0f} examples/s" if best else "no result yet"
    line = f"{outcome.config}: {outcome.state}"
    if outcome.failure is not None:
        failure = outcome.failure
        ended = "failed" if outcome.state == "failed" else f"is {outcome.state}"
        steps.warn(f"{pipeline}: trial {outcome.number} {ended}, {failure.kind}: {failure.detail}")
    elif outcome.measured is not None:
        state = "" if outcome.state == "complete" else f" ({outcome.state})"
        rate = f"{outcome.measured.examples_per_s:,.0f} examples/s"
        line = f"{outcome.config}: {rate}{state}; {best_text}"
    steps.advance(best_text, line, budget_s)

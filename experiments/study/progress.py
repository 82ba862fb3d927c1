"""The interface through which a study reports its progress while it runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from prefetch_tuning.experiments.search.diagnosis import Diagnosis
from prefetch_tuning.experiments.storage.results import MeasuredConfig
from prefetch_tuning.experiments.study.search import Outcome


class Steps(Protocol):
    """A number of equal steps, some of which may already be done."""

    def shown(self) -> AbstractContextManager[None]:
        """Shows the progress while the `with` block runs."""

    def advance(self, text: str, line: str | None = None) -> None:
        """Marks one more step as done.

        Args:
            text: overall progress, in a few words.
            line: result of this step, for displays that print a line per step; default `text`.
        """

    def warn(self, text: str) -> None:
        """Shows a failure that doesn't stop the steps."""


class Progress(Protocol):
    """Shows a tuning run."""

    def steps(
        self, title: str, unit: str, done: int, total: int, budget_s: float | None = None
    ) -> Steps:
        """Starts `total` steps, each a `unit`, of which `done` are already done.

        With a time budget, `total` is the most that there can be.
        """

    def say(self, text: str) -> None:
        """Shows one line."""

    def show_diagnosis(self, pipeline: str, diagnosis: Diagnosis) -> None:
        """Shows what limits a pipeline, before its search begins."""


def show_trial(
    steps: Steps,
    pipeline: str,
    outcome: Outcome,
    best: MeasuredConfig | None,
    shown: Callable[[MeasuredConfig], str],
) -> None:
    """Shows a finished trial and the best one so far; `shown` gives what one reached in words."""
    best_text = f"best {shown(best)}" if best else "no result yet"
    line = f"{outcome.config}: {outcome.state}"
    if outcome.failure is not None:
        failure = outcome.failure
        ended = "failed" if outcome.state == "failed" else f"is {outcome.state}"
        steps.warn(f"{pipeline}: trial {outcome.number} {ended}, {failure.kind}: {failure.detail}")
    elif outcome.measured is not None:
        state = "" if outcome.state == "complete" else f" ({outcome.state})"
        reached = shown(MeasuredConfig.of(outcome.config, outcome.measured, ""))
        line = f"{outcome.config}: {reached}{state}; {best_text}"
    steps.advance(best_text, line)

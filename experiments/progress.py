"""What a person sees while a study runs: a bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from experiments.results import MeasuredConfig
from experiments.study import Outcome

# Drawing takes processor time from what is being measured.
REDRAWS_PER_S = 2


class StudyProgress:
    """Progress of one study; `advance` after each trial."""

    def __init__(self, console: Console, pipeline: str, done: int, trials: int) -> None:
        self._console = console
        self._pipeline = pipeline
        self._trials = trials
        self._done = done
        self._first = done
        self._begin = time.monotonic()
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                console=console,
                refresh_per_second=REDRAWS_PER_S,
            )
            self._task = self._bar.add_task(pipeline, total=trials, completed=done, note="")

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Shows the bar while the block runs."""
        if self._bar is None:
            yield
            return
        with self._bar:
            yield

    def advance(
        self, outcome: Outcome, best: MeasuredConfig | None, budget_s: float | None
    ) -> None:
        """One trial ended; `budget_s` is what is left of the time budget, if there is one."""
        self._done += 1
        best_text = f"best {best.examples_per_s:,.0f} examples/s" if best else "no result yet"
        if outcome.failure is not None:
            self._console.print(
                f"{self._pipeline}: trial {outcome.number} failed, {outcome.failure.kind}: "
                f"{outcome.failure.detail}",
                style="yellow",
                markup=False,
            )
        if self._bar is not None:
            left = self._time_left_s(budget_s)
            self._bar.update(
                self._task, completed=self._done, note=f"{best_text}, {left:.0f} s left"
            )
        elif outcome.measured is not None:
            rate = f"{outcome.measured.examples_per_s:,.0f} examples/s"
            state = "" if outcome.state == "complete" else f" ({outcome.state})"
            self._line(f"{outcome.config}: {rate}{state}; {best_text}")

    def note(self, text: str) -> None:
        """Says what is done after the last trial."""
        if self._bar is not None:
            self._bar.update(self._task, note=text)
        else:
            self._line(text)

    def _line(self, text: str) -> None:
        self._console.print(f"{self._pipeline} {self._done}/{self._trials} {text}", markup=False)

    def _time_left_s(self, budget_s: float | None) -> float:
        each_s = (time.monotonic() - self._begin) / max(self._done - self._first, 1)
        left_s = each_s * (self._trials - self._done)
        return left_s if budget_s is None else min(left_s, max(budget_s, 0.0))

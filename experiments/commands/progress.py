"""Shows the progress of a command: a bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from prefetch_tuning.experiments.report.terminal import print_diagnosis
from prefetch_tuning.experiments.report.text import plural
from prefetch_tuning.experiments.search.diagnosis import Diagnosis

# Drawing takes CPU time from the measurement.
REDRAWS_PER_S = 2


class ConsoleProgress:
    """Shows the progress of a tuning run on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def steps(
        self, title: str, unit: str, done: int, total: int, budget_s: float | None = None
    ) -> ConsoleSteps:
        return ConsoleSteps(self._console, title, unit, done, total, budget_s)

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    def show_diagnosis(self, pipeline: str, diagnosis: Diagnosis) -> None:
        print_diagnosis(self._console, pipeline, diagnosis)


class ConsoleSteps:
    """The progress through steps of about equal length, which a time budget may end early.

    Args:
        console: where to show it.
        title: the activity, like "image: searching".
        unit: the name of a step, like "trial".
        done: steps of an earlier run.
        total: steps in all; with a time budget, the most there can be.
        budget_s: the time budget; None if only the number of steps counts.
    """

    def __init__(
        self,
        console: Console,
        title: str,
        unit: str,
        done: int,
        total: int,
        budget_s: float | None = None,
    ) -> None:
        self._console = console
        self._title = title
        self._unit = unit
        self._total = total
        self._done = done
        self._first = done
        self._budget_s = budget_s
        self._begin = time.monotonic()
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=16),
                TextColumn("{task.fields[note]}"),
                console=console,
                refresh_per_second=REDRAWS_PER_S,
            )
            note = f"at most {budget_s:.0f} s" if budget_s is not None else plural(total, unit)
            self._task = self._bar.add_task(title, total=1.0, note=note)
            self._bar.update(self._task, completed=self._share())

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Shows the bar while the block runs; its end fills the bar, however many steps it took."""
        if self._bar is None:
            yield
            return
        with self._bar:
            yield
            took_s = time.monotonic() - self._begin
            note = f"{plural(self._done, self._unit)} in {took_s:.0f} s"
            self._bar.update(self._task, completed=1.0, note=note)

    def advance(self, text: str, line: str | None = None) -> None:
        """Counts a finished step.

        Args:
            text: the state of the whole, shown beside the bar.
            line: the result of the step, printed where there is no bar; default: `text`.
        """
        self._done += 1
        self._total = max(self._total, self._done)
        if self._bar is not None:
            left_s = self._time_left_s()
            # Predicted trials may follow after the time budget; how long they take is unknown.
            left = f", about {left_s:.0f} s left" if left_s else ""
            note = f"{self._unit} {self._done}, {text}{left}"
            self._bar.update(self._task, completed=self._share(), note=note)
        else:
            said = text if line is None else line
            at_most = "at most " if self._budget_s is not None else ""
            count = f"{self._unit} {self._done} of {at_most}{self._total}"
            self._console.print(f"{self._title}, {count}: {said}", markup=False)

    def warn(self, text: str) -> None:
        """Prints a line above the bar."""
        self._console.print(text, style="yellow", markup=False)

    def _share(self) -> float:
        """How far the steps are, by their number or by the time budget, whichever ends them."""
        by_number = self._done / max(self._total, 1)
        if not self._budget_s:
            return by_number
        return min(max(by_number, (time.monotonic() - self._begin) / self._budget_s), 1.0)

    def _time_left_s(self) -> float:
        spent_s = time.monotonic() - self._begin
        left_s = spent_s / max(self._done - self._first, 1) * (self._total - self._done)
        return left_s if self._budget_s is None else min(left_s, max(self._budget_s - spent_s, 0.0))

"""What a user sees while something runs: a bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from prefetch_tuning.experiments.report.terminal import print_diagnosis
from prefetch_tuning.experiments.search.diagnosis import Diagnosis

# Drawing takes processor time from what is being measured.
REDRAWS_PER_S = 2


class ConsoleProgress:
    """Shows a tuning run on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def steps(self, title: str, done: int, total: int) -> ConsoleSteps:
        return ConsoleSteps(self._console, title, done, total)

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)

    def show_diagnosis(self, pipeline: str, diagnosis: Diagnosis) -> None:
        print_diagnosis(self._console, pipeline, diagnosis)


class ConsoleSteps:
    """A number of equal steps, of which some may have been done before."""

    def __init__(self, console: Console, title: str, done: int, total: int) -> None:
        self._console = console
        self._title = title
        self._total = total
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
            self._task = self._bar.add_task(title, total=total, completed=done, note="")

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Shows the bar while the block runs."""
        if self._bar is None:
            yield
            return
        with self._bar:
            yield

    def advance(self, text: str, line: str | None = None, most_s: float | None = None) -> None:
        """One step is done.

        Args:
            text: stands beside the bar.
            line: is printed where there is no bar; `text` if not given.
            most_s: what is left of a time budget.
        """
        self._done += 1
        self._total = max(self._total, self._done)
        if self._bar is not None:
            left_s = self._time_left_s(most_s)
            note = f"{text}, {left_s:.0f} s left"
            self._bar.update(self._task, completed=self._done, total=self._total, note=note)
        else:
            said = text if line is None else line
            self._console.print(f"{self._title} {self._done}/{self._total} {said}", markup=False)

    def warn(self, text: str) -> None:
        """A line above the bar."""
        self._console.print(text, style="yellow", markup=False)

    def _time_left_s(self, most_s: float | None) -> float:
        each_s = (time.monotonic() - self._begin) / max(self._done - self._first, 1)
        left_s = each_s * (self._total - self._done)
        return left_s if most_s is None else min(left_s, max(most_s, 0.0))

"""The same from Python, a notebook for example: `from prefetch_tuning import tune`."""

from __future__ import annotations

import html
import io
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Unpack

from rich.console import Console

from prefetch_tuning.experiments.commands.progress import ConsoleProgress
from prefetch_tuning.experiments.errors import UsageError
from prefetch_tuning.experiments.report.terminal import HEADINGS, print_results, row
from prefetch_tuning.experiments.report.text import verdict
from prefetch_tuning.experiments.settings import TuneOptions, TuneRequest
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.results import StudyRecord, StudyResult
from prefetch_tuning.experiments.study.tuning import Tuning
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.target import compose

Named = str | Callable[..., Any]


@dataclass(frozen=True, repr=False)
class Tuned:
    """What a tuning found; shows itself as its summary, in a notebook as a table.

    Attributes:
        records: one a pipeline, with the trials, for reports.
        problems: one line for each thing that failed without ending the run.
    """

    records: list[StudyRecord]
    problems: list[str]

    @property
    def results(self) -> list[StudyResult]:
        """What `--json` writes."""
        return [record.result for record in self.records]

    def __repr__(self) -> str:
        text = io.StringIO()
        print_results(Console(file=text, width=100), self.records)
        return text.getvalue()

    def _repr_html_(self) -> str:
        def cells(tag: str, texts: list[str]) -> str:
            return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)

        rows = [cells("th", list(HEADINGS)), *(cells("td", row(r)) for r in self.results)]
        table = "".join(f"<tr>{line}</tr>" for line in rows)
        words = "".join(f"<p>{html.escape(verdict(record))}</p>" for record in self.records)
        return f"<table>{table}</table>{words}"


def tune(
    *pipelines: Named,
    map: Named | None = None,  # noqa: A002 - as the command line calls it
    model: Named | None = None,
    step_time_ms: float | None = None,
    mixed_precision: Literal["float16", "bfloat16"] | None = None,
    jit_compile: bool = False,
    storage: str | None = None,
    tracking_uri: str | None = None,
    **options: Unpack[TuneOptions],
) -> Tuned:
    """Tunes pipelines as `prefetch-tune tune` does; progress goes to stderr.

    Args:
        pipelines: built-in names, `module:attribute`, or the classes and functions themselves, if
            they can be imported: trials run in processes of their own. None is all built-in ones.
        map: the map of a plain generator function.
        model: function that returns the compiled model of a plain generator function.
        step_time_ms: instead of a model, sleep so long.
        mixed_precision: builds the models under Keras's policy of this name, like mixed_bfloat16;
            None leaves them as they are.
        jit_compile: compiles the models' steps with XLA; False leaves them as they are.
        storage: of Optuna; by default `mlruns/optuna.db` of this directory.
        tracking_uri: of MLflow.
        options: as the options of the command, like `trials=12, seed=1`; `TuneOptions` lists them.

    Raises:
        UsageError, PipelineError: something cannot be used; the message says what to do.
    """
    began = time.monotonic()
    targets = [catalog.resolve(_target(pipeline)) for pipeline in pipelines]
    if (map, model, step_time_ms) != (None, None, None) and len(targets) != 1:
        raise UsageError("map, model and step_time_ms belong to one generator function")
    if mixed_precision or jit_compile:
        targets = targets or [catalog.resolve(name) for name in catalog.names()]
    parts = [None if part is None else _target(part) for part in (map, model)]
    targets = [
        compose(
            target, parts[0], parts[1], step_time_ms, precision=mixed_precision, jit=jit_compile
        )
        for target in targets
    ]
    request = TuneRequest.checked(pipelines=targets, **options)
    store = Store.choose(Path.cwd(), storage, tracking_uri)
    with TrialRunner() as runner:
        tuning = Tuning(store, runner, ConsoleProgress(Console(file=sys.stderr, highlight=False)))
        tuning.tune(request, began)
    return Tuned(tuning.records, tuning.problems)


def _target(named: Named) -> str:
    """What a trial's process can import."""
    if isinstance(named, str):
        return named
    module, name = named.__module__, named.__qualname__
    if module == "__main__" or "<" in name:
        raise UsageError(
            f"{name} is defined in {module}: trials run in processes of their own and must import "
            "it, so put it into a file beside this one"
        )
    return f"{module}:{name}"

"""Tunes pipelines from Python, for example in a notebook: `from prefetch_tuning import tune`."""

from __future__ import annotations

import html
import io
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Unpack

from rich.console import Console

from prefetch_tuning.experiments.cluster.measuring import measuring
from prefetch_tuning.experiments.commands.progress import ConsoleProgress
from prefetch_tuning.experiments.errors import UsageError
from prefetch_tuning.experiments.report.terminal import print_results, results_table
from prefetch_tuning.experiments.report.verdict_words import verdict
from prefetch_tuning.experiments.settings import TuneOptions, TuneRequest
from prefetch_tuning.experiments.storage.emulated import emulated_step
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.results import StudyRecord, StudyResult
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.step_time import StepTime
from prefetch_tuning.pipelines.target import compose

Named = str | Callable[..., Any]


@dataclass(frozen=True, repr=False)
class Tuned:
    """The result of a tuning run; its repr is the summary, and a notebook shows it as a table.

    Attributes:
        records: one per pipeline, with its trials, for reports.
        problems: one line for each thing that failed without ending the run.
    """

    records: list[StudyRecord]
    problems: list[str]

    @property
    def results(self) -> list[StudyResult]:
        """The results that `--json` writes, one per pipeline."""
        return [record.result for record in self.records]

    def __repr__(self) -> str:
        text = io.StringIO()
        print_results(Console(file=text, width=100), self.records)
        return text.getvalue()

    def _repr_html_(self) -> str:
        def cells(tag: str, texts: Sequence[str]) -> str:
            return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)

        headings, rows = results_table(self.results)
        lines = [cells("th", headings), *(cells("td", row) for row in rows)]
        table = "".join(f"<tr>{line}</tr>" for line in lines)
        words = "".join(f"<p>{html.escape(verdict(record))}</p>" for record in self.records)
        return f"<table>{table}</table>{words}"


def tune(
    *pipelines: Named,
    map: Named | None = None,  # noqa: A002 - named after the option --map
    model: Named | None = None,
    step_time: str | None = None,
    accelerator: str | None = None,
    mixed_precision: Literal["float16", "bfloat16"] | None = None,
    jit_compile: bool = False,
    storage: str | None = None,
    tracking_uri: str | None = None,
    cluster: str | None = None,
    mixed_hosts: bool = False,
    generator_cluster: str | None = None,
    **options: Unpack[TuneOptions],
) -> Tuned:
    """Tunes pipelines like `prefetch-tune tune` and prints the progress to stderr.

    Args:
        pipelines: built-in names, `module:attribute`, or the classes and functions themselves.
            Each trial runs in its own process, so it must be able to import them. Without any,
            all built-in pipelines are tuned, except those made for a GPU.
        map: map function for the elements of a plain generator function.
        model: function that returns the compiled model to train, for a generator function, a
            dataset function or a PyDataset.
        step_time: emulate an accelerator whose step takes this long, like "12ms" or
            "4ms+0.1ms/example", in place of the model's step.
        accelerator: the same with a known model's step on a known accelerator, like
            "resnet50-h100", or with one that `prefetch-tune step-time` logged, as "runs:/RUN_ID".
        mixed_precision: build the models under Keras's policy mixed_float16 or mixed_bfloat16;
            None leaves them as they are.
        jit_compile: compile the models' steps with XLA; False leaves them as they are.
        storage: URL of the Optuna storage; by default `mlruns/optuna.db` in the current directory.
        tracking_uri: address of MLflow; by default MLFLOW_TRACKING_URI if it is set, otherwise
            `mlruns/mlflow.db`.
        cluster: measure on the nodes of a Ray cluster: "auto", "ray://HOST:PORT", "HOST:PORT" or
            "local:N"; by default on this host.
        mixed_hosts: with a cluster, also use nodes that differ in processor, cores or GPU.
        generator_cluster: run those generator_workers that this host has no cores for on the nodes
            of a Ray cluster, of which this host is one: "auto", "HOST:PORT" or "local:N".
        options: other options of the command, like `trials=12, seed=1`; `TuneOptions` lists them.

    Raises:
        UsageError, PipelineError: an argument cannot be used; the message says what to do.
        StoreError, StudyError: the store or the named study cannot be used.
    """
    began = time.monotonic()
    if "step_time_ms" in options:
        raise UsageError('step_time_ms is now a text with a unit: step_time="5ms"')
    targets = [catalog.resolve(_target(pipeline)) for pipeline in pipelines]
    if sum(given is not None for given in (model, step_time, accelerator)) > 1:
        raise UsageError("give only one of model, step_time and accelerator")
    given = None if step_time is None else StepTime.parse(step_time)
    step = emulated_step(given, accelerator, tracking_uri)
    if (map, model) != (None, None) and len(targets) != 1:
        raise UsageError(
            "map and model belong to exactly one generator function, dataset function or "
            f"PyDataset; name one pipeline, not {len(targets)}"
        )
    if step or mixed_precision or jit_compile:
        targets = targets or [catalog.resolve(name) for name in catalog.names()]
    parts = [None if part is None else _target(part) for part in (map, model)]
    targets = [
        compose(target, parts[0], parts[1], step, precision=mixed_precision, jit=jit_compile)
        for target in targets
    ]
    request = TuneRequest.checked(pipelines=targets, **options)
    store = Store.choose(Path.cwd(), storage, tracking_uri)
    progress = ConsoleProgress(Console(file=sys.stderr, highlight=False))
    with measuring(cluster, generator_cluster, progress.say, mixed=mixed_hosts) as hosts:
        tuning = hosts.tuning(store, progress)
        tuning.tune(request, began)
    return Tuned(tuning.records, tuning.problems)


def _target(named: Named) -> str:
    """The name under which a trial's process can import a pipeline or function."""
    if isinstance(named, str):
        return named
    module, name = named.__module__, named.__qualname__
    if module == "__main__" or "<" in name:
        raise UsageError(
            f"{name} is defined in {module}, but each trial runs in its own process and must "
            "import it: define it at the top level of a file beside this one"
        )
    return f"{module}:{name}"

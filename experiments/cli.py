"""The command line: arguments in, tables out; the work is done in the other modules.

Modules that take seconds to import (Optuna, MLflow) are imported inside the commands, after what
can be refused at once has been refused and while the fork server imports TensorFlow.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from experiments.errors import UsageError
from experiments.store import Store
from objectives.isolation import TrialRunner, WorkerError
from pipelines import catalog
from pipelines.config import MAX_BATCH_SIZE
from pipelines.source import PipelineError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 100},
    help="Find the tf.data settings that feed your model fastest from a Python generator.",
)
SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([KMGT]i?B)$", re.IGNORECASE)
UNITS_MIB = {"k": 1 / 1024, "m": 1.0, "g": 1024.0, "t": 1024.0 * 1024.0}


class DeviceChoice(StrEnum):
    """Where training steps run."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


@app.callback()
def main() -> None:
    """Options come after the command; `prefetch-tune tune --help` lists them."""


@app.command()
def tune(
    pipelines: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PIPELINE]...",
            help="Built-in names or module:attribute of your own; all built-in ones by default.",
            show_default=False,
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            help="Trials a pipeline, those of a resumed study included. "
            "Default: 24, or what fits in 95 s.",
            show_default=False,
        ),
    ] = None,
    time_budget: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Longest search a pipeline.", show_default=False),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Search at this batch size only.", show_default=False),
    ] = None,
    memory_limit: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Peak host memory a trial may add, e.g. 2GiB; more is infeasible, no error.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[DeviceChoice, typer.Option(help="Where training steps run.")] = (
        DeviceChoice.auto
    ),
    seed: Annotated[int, typer.Option(help="Of generator, model and sampler.")] = 0,
    study: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the study; the same name resumes it."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Optuna storage; default mlruns/optuna.db."),
    ] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="MLflow; default MLFLOW_TRACKING_URI, else mlruns/mlflow.db."
        ),
    ] = None,
    trial_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="A trial that takes longer is killed.")
    ] = 90.0,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the results there as JSON, too."),
    ] = None,
) -> None:
    """Search batch size, prefetch buffer and map parallelism by short training runs."""
    began = time.monotonic()
    with one_line_errors():
        for name in pipelines or []:
            catalog.resolve(name)
        require("--trials", trials, trials is None or trials >= 1, "at least 1")
        fits = batch_size is None or 1 <= batch_size <= MAX_BATCH_SIZE
        require("--batch-size", batch_size, fits, f"from 1 to {MAX_BATCH_SIZE}")
        require("--time-budget", time_budget, time_budget is None or time_budget > 0, "above 0")
        require("--trial-timeout", trial_timeout, trial_timeout > 0, "above 0")
        require("--seed", seed, 0 <= seed < 2**31, "from 0 to 2147483647")
        memory_limit_mib = None if memory_limit is None else parse_memory_mib(memory_limit)
        check_json_file(json_file)
        store = Store.choose(Path.cwd(), storage, tracking_uri)
        with TrialRunner() as runner:
            from experiments.tuning import TuneRequest, run_and_report

            request = TuneRequest(
                pipelines=pipelines or [],
                trials=trials,
                time_budget_s=time_budget,
                batch_size=batch_size,
                memory_limit_mib=memory_limit_mib,
                device=device.value,
                seed=seed,
                study=study,
                trial_timeout_s=trial_timeout,
            )
            code = run_and_report(request, store, runner, json_file, began)
    raise typer.Exit(code)


@app.command(name="pipelines")
def list_pipelines(
    selectors: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PIPELINE]...", help="Also your own, as module:attribute."),
    ] = None,
) -> None:
    """List the pipelines there are, with what is searched for each."""
    from experiments.summary import print_pipelines
    from objectives.measurement import TrialFailure

    with one_line_errors(), TrialRunner() as runner:
        infos = []
        for target in [catalog.resolve(name) for name in selectors or catalog.names()]:
            info = runner.inspect(target, seed=0, device="auto")
            if isinstance(info, TrialFailure):
                raise PipelineError(info.detail)
            infos.append(info)
    print_pipelines(Console(), infos)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns every error that a person can act on into one line and exit code 2."""
    try:
        yield
    except (PipelineError, UsageError, WorkerError) as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        raise typer.Exit(2) from None


def require(option: str, value: object, holds: bool, bound: str) -> None:
    """Raises UsageError unless `holds`."""
    if not holds:
        raise UsageError(f"{option} must be {bound}, not {value}")


def parse_memory_mib(text: str) -> float:
    """A size with a unit (`512MiB`, `2GiB`, also `2GB`, taken as binary) in MiB.

    Raises:
        UsageError: it is no such size.
    """
    match = SIZE.match(text.strip())
    if match is None or float(match[1]) <= 0:
        raise UsageError(f"--memory-limit must be a size like 512MiB or 2GiB, not {text!r}")
    return float(match[1]) * UNITS_MIB[match[2][0].lower()]


def check_json_file(path: Path | None) -> None:
    """Raises UsageError where the results could not be written at the end."""
    if path is None:
        return
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(f"--json {path}: not a file in a folder that exists")

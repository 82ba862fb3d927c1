"""Runs a training script in this process, up to its `fit`; what follows happens inside of it.

The script isn't unwound: a generator may read files that a `with` around `fit` would close. So the
process does its work inside the call of `fit` and ends there.
"""

from __future__ import annotations

import importlib
import os
import re
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from prefetch_tuning.pipelines.script.fit import Changes, FitCall, watching
from prefetch_tuning.pipelines.script.pipeline import pipeline_of
from prefetch_tuning.pipelines.script.scratch import make_scratch
from prefetch_tuning.pipelines.source import Pipeline, PipelineError
from prefetch_tuning.pipelines.target import Target

# Where a script's own loggers write in a trial, besides MLflow's address.
SCRATCH = {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
LOOP = (
    "a loop without fit is tuned as a function of config, which returns the dataset: see "
    "docs/your-pipeline.md"
)
_reached: list[FitCall] = []


def run_script(target: Target, reached: Callable[[FitCall], Changes]) -> None:
    """Runs the script to its end; `reached` is called inside of its `fit`.

    Raises:
        PipelineError: the script ended without such a `fit`, or failed before it.
    """
    has_reached = False

    def once(call: FitCall) -> Changes:
        nonlocal has_reached
        has_reached = True
        return reached(call)

    if target.precision is not None:
        keras.mixed_precision.set_global_policy(f"mixed_{target.precision}")
    why, hint = "ended", f"; {LOOP}"
    try:
        with _as_main(target), watching(target.fit, once):
            runpy.run_path(target.main, run_name="__main__")
    except (Exception, SystemExit) as error:
        if has_reached:
            raise
        traceback.print_exc()
        why, hint = _why(error), ""
    if not has_reached:
        which = "its first fit" if target.fit == 1 else f"fit number {target.fit}"
        raise PipelineError(f"{target.main} {why} before {which} on data from Python{hint}")


def run_to_fit(target: Target, then: Callable[[], None]) -> None:
    """Runs the script up to its `fit` and calls `then` there, which must end the process.

    The script's own MLflow and W&B runs go to a scratch folder.

    Raises:
        PipelineError: the script didn't get there.
    """

    def reached(call: FitCall) -> Changes:
        _reached.append(call)
        then()
        raise AssertionError("then() must end the process")

    use_scratch_stores(Path(target.main))
    run_script(target, reached)


def pipeline_of_script(target: Target) -> Pipeline:
    """The pipeline of the `fit` inside of which this process is.

    Raises:
        PipelineError: this process doesn't run a script.
    """
    if not _reached:
        raise PipelineError(f"{target.main} is a training script, which only a trial can run")
    return pipeline_of(Path(target.main), _reached[0], target.step, target.sizes)


def is_inside_fit() -> bool:
    """Whether a script has reached its `fit` in this process."""
    return bool(_reached)


@contextmanager
def _as_main(target: Target) -> Iterator[None]:
    """Arguments and import path as Python sets them for a script."""
    folder = str(Path(target.main).resolve().parent)
    argv, path = sys.argv, sys.path[:]
    sys.argv = [target.main, *target.args]
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, path


def use_scratch_stores(script: Path) -> None:
    """Has MLflow and W&B log to a temporary folder instead of where the script tells them to."""
    folder = str(make_scratch())
    uri = f"sqlite:///{folder}/mlflow.db"
    os.environ |= {**SCRATCH, "WANDB_DIR": folder, "MLFLOW_TRACKING_URI": uri}
    if re.search(r"\bmlflow\b", script.read_text(encoding="utf-8", errors="replace")):
        # The script's own: it may tell it another address only after this.
        mlflow: Any = importlib.import_module("mlflow")
        mlflow.set_tracking_uri(uri)
        mlflow.set_tracking_uri = _ignored


def _ignored(*_: Any, **__: Any) -> None:
    """A trial must not log to the script's own server."""


def _why(error: BaseException) -> str:
    if isinstance(error, EOFError):
        return "reads standard input, which a trial doesn't have,"
    if isinstance(error, SystemExit):
        return f"exited with {error.code!r}"
    said = str(error).strip().split("\n")[0]
    return f"failed with {type(error).__name__}: {said},"

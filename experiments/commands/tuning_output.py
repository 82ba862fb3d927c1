"""Runs `tune` and `confirm`, prints the results, and returns the exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from optuna.exceptions import StorageInternalError
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from prefetch_tuning.experiments.cluster.measuring import Measuring
from prefetch_tuning.experiments.commands.progress import ConsoleProgress
from prefetch_tuning.experiments.errors import (
    ENDED_BY_SIGNAL,
    EXIT_NO_RESULT,
    EXIT_OK,
    StoreError,
    StudyError,
    first_line,
    without_secrets,
)
from prefetch_tuning.experiments.host.interrupts import interrupted_code
from prefetch_tuning.experiments.report.document import SNIPPET
from prefetch_tuning.experiments.report.terminal import print_results
from prefetch_tuning.experiments.settings import TuneRequest
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.results import StudyRecord, write_json
from prefetch_tuning.experiments.storage.runs.reader import RunReader
from prefetch_tuning.experiments.study.tuning import Tuning

# In the checkout itself, `make ui` is the shorter command.
PROJECT = Path(__file__).resolve().parents[2]


def tune_and_report(
    request: TuneRequest,
    store: Store,
    hosts: Measuring,
    json_file: Path | None,
    began: float,
) -> int:
    """Runs a request and prints the results; returns the exit code.

    0: every pipeline has a result; 1: one has none; 130: interrupted, but measurements are kept.
    """
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    tuning = hosts.tuning(store, ConsoleProgress(notes))
    code = _run(tuning, store, json_file, notes, lambda: tuning.tune(request, began))
    if code > ENDED_BY_SIGNAL and tuning.records:
        result = tuning.records[-1].result
        selector = tuning.selectors[result.pipeline]
        trials = f" --trials {request.trials}" if request.trials else ""
        notes.print(
            f"To resume, give the same options and the study's name: prefetch-tune tune {selector}"
            f"{trials} --study {result.study}"
        )
    return code


def confirm_and_report(
    study: str,
    more: int,
    store: Store,
    hosts: Measuring,
    json_file: Path | None,
    began: float,
) -> int:
    """Adds rounds to a study and prints the new results; the exit codes are the same."""
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    tuning = hosts.tuning(store, ConsoleProgress(notes))
    return _run(tuning, store, json_file, notes, lambda: tuning.confirm(study, more, began))


def _run(
    tuning: Tuning,
    store: Store,
    json_file: Path | None,
    notes: Console,
    work: Callable[[], None],
) -> int:
    interrupted: int | None = None
    try:
        work()
    except KeyboardInterrupt as error:
        interrupted = interrupted_code(error)
    except (SQLAlchemyError, StorageInternalError) as error:
        reason = first_line(error)
        raise StoreError(f"the Optuna storage {store.storage_url} failed: {reason}") from None
    finally:
        # Also if an error is raised: what was measured before it is still valid.
        _report(tuning, store, json_file, notes)
    if interrupted is not None:
        return interrupted
    _print_where(store, notes)
    return EXIT_OK if all(record.result.best for record in tuning.records) else EXIT_NO_RESULT


def _report(tuning: Tuning, store: Store, json_file: Path | None, notes: Console) -> None:
    if tuning.records:
        print_results(Console(), tuning.records, _code(tuning.records, store))
        if json_file is not None:
            write_json([record.result for record in tuning.records], json_file)
    for problem in tuning.problems:
        notes.print(f"warning: {without_secrets(problem)}", style="yellow", markup=False)


def _code(records: Sequence[StudyRecord], store: Store) -> dict[str, str]:
    """Where the code to paste is, by study; empty if MLflow does not answer."""
    try:
        reader = RunReader(store)
        return {
            record.result.study: reader.place_of(record.result.mlflow_run_id, SNIPPET)
            for record in records
            if record.result.best is not None
        }
    except (StoreError, StudyError):
        return {}  # the results are printed all the same


def _print_where(store: Store, notes: Console) -> None:
    """Prints how to open the results."""
    if store.artifacts is None:
        address = without_secrets(store.tracking_uri)
        notes.print(f"Every trial and the reports are in MLflow at {address}")
        return
    program = sys.argv[0] if Path(sys.argv[0]).name == "prefetch-tune" else "prefetch-tune"
    command = "make ui" if Path.cwd() == PROJECT else f"{program} ui"
    notes.print(f"To compare every trial and read the reports in MLflow: {command}")

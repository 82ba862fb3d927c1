"""`prefetch-tune show`: print one study or one run."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from prefetch_tuning.experiments.commands.arguments import (
    Commands,
    add_command,
    add_store,
    store_of,
)
from prefetch_tuning.experiments.errors import EXIT_OK, StudyError
from prefetch_tuning.experiments.report.console_table import console_table
from prefetch_tuning.experiments.storage.locations import Store

if TYPE_CHECKING:  # MLflow takes seconds to import
    from prefetch_tuning.experiments.storage.runs.reader import LoggedRun


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    command = add_command(commands, "show", run, "print one study or one run")
    command.add_argument(
        "name", metavar="STUDY|RUN_ID", help="name of a study, or MLflow's id of a run"
    )
    add_store(command)


def run(options: argparse.Namespace) -> int:
    store = store_of(options)
    store.check_tracking_exists()
    from prefetch_tuning.experiments.storage.runs.tracking import Tracker

    try:
        found = Tracker(store).read(options.name)
    except StudyError:
        return _show_study(options.name, store)
    print_run(Console(), found)
    return EXIT_OK


def _show_study(name: str, store: Store) -> int:
    from prefetch_tuning.experiments.report.conclusion import kept_record
    from prefetch_tuning.experiments.report.terminal import print_candidates, print_results

    store.check_exists()
    record = kept_record(name, store)
    print_results(Console(), [record])
    print_candidates(Console(), record)
    return EXIT_OK


def print_run(console: Console, run: LoggedRun) -> None:
    """Prints the parameters, metrics and tags of one run."""
    console.print(f"{run.name}: {run.status}, run {run.run_id}", highlight=False, markup=False)
    tags = {key: value for key, value in run.tags.items() if not key.startswith("mlflow.")}
    for title, found in (
        ("parameters", run.params),
        ("metrics", {key: f"{value:,.6g}" for key, value in run.metrics.items()}),
        ("tags", tags),
    ):
        table = console_table(title)
        table.show_header = False
        table.add_column()
        table.add_column()
        for key in sorted(found):
            table.add_row(escape(key), escape(found[key]))
        console.print(table)

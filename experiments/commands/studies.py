"""`prefetch-tune studies`: list all studies."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Console

from prefetch_tuning.experiments.commands.arguments import (
    Commands,
    add_command,
    add_store,
    store_of,
)
from prefetch_tuning.experiments.errors import EXIT_OK
from prefetch_tuning.experiments.report.console_table import print_rows
from prefetch_tuning.experiments.storage.schema import Tag

if TYPE_CHECKING:  # MLflow takes seconds to import
    from prefetch_tuning.experiments.storage.runs.reader import LoggedRun


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    add_store(add_command(commands, "studies", run, "list all studies"))


def run(options: argparse.Namespace) -> int:
    store = store_of(options)
    store.check_exists()
    from prefetch_tuning.experiments.storage.runs.tracking import Tracker

    print_studies(Console(), Tracker(store).studies())
    return EXIT_OK


def print_studies(console: Console, studies: Sequence[LoggedRun]) -> None:
    """Prints one line per study."""
    from prefetch_tuning.experiments.storage.results import TrialCounts

    def cells(run: LoggedRun) -> list[str]:
        trials = sum(run.metrics.get(f"trials/{state}", 0.0) for state in TrialCounts.model_fields)
        return [
            run.name,
            run.tags.get(Tag.PIPELINE, "?"),
            f"{trials:.0f}",
            run.tags.get(Tag.VERDICT, "none"),
            run.tags.get(Tag.RECOMMENDED_CONFIG, "-"),
            datetime.fromtimestamp(run.started_s).strftime("%Y-%m-%d %H:%M"),
        ]

    headings = ("study", "pipeline", "trials", "verdict", "recommended", "begun")
    print_rows(console, "Studies", headings, [cells(run) for run in studies])

"""`prefetch-tune sync`: deliver the runs that an MLflow server didn't take."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from prefetch_tuning.experiments.commands.arguments import (
    Commands,
    add_command,
    add_tracking,
)
from prefetch_tuning.experiments.errors import EXIT_NO_RESULT, EXIT_OK, without_secrets
from prefetch_tuning.experiments.storage.locations import Store


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    text = "deliver the runs that were kept while the MLflow server didn't answer"
    add_tracking(add_command(commands, "sync", run, text))


def run(options: argparse.Namespace) -> int:
    store = Store.choose(Path.cwd(), None, options.tracking_uri)
    from prefetch_tuning.experiments.report.text import plural
    from prefetch_tuning.experiments.storage.runs.spool import Spool, SpoolingTracker

    console = Console(highlight=False, soft_wrap=True)
    spool = Spool.of(Path.cwd(), store.tracking_uri)
    waiting = len(spool)
    refused: list[str] = []
    if waiting:
        SpoolingTracker(store, refused.append, Path.cwd())
    for line in refused:
        console.print(line, markup=False)
    count = waiting - len(refused)
    address = without_secrets(store.tracking_uri)
    runs = plural(count, "run")
    said = f"delivered {runs} to {address}" if waiting else f"nothing waits for {address}"
    console.print(said, markup=False)
    return EXIT_NO_RESULT if refused else EXIT_OK

"""`prefetch-tune ui`: open the MLflow UI on the results, with links to the studies."""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from rich.console import Console

from prefetch_tuning.experiments.commands.arguments import (
    Commands,
    add_command,
    add_store,
    store_of,
)
from prefetch_tuning.experiments.commands.values import number
from prefetch_tuning.experiments.errors import EXIT_OK
from prefetch_tuning.experiments.storage.schema import Tag

if TYPE_CHECKING:  # MLflow takes seconds to import
    from prefetch_tuning.experiments.storage.runs.reader import LoggedRun

Port = Annotated[int, Field(ge=1, le=65_535)]
PORT = 5_000
# The variable that gives MLflow's server the address of its database.
BACKEND = "MLFLOW_BACKEND_STORE_URI"
# The latest studies; the list of views in the UI has the others.
SHOWN = 3


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    text = "open the MLflow UI on the results, with links to the studies"
    command = add_command(commands, "ui", run, text)
    command.add_argument(
        "--port",
        type=number(Port),
        default=PORT,
        metavar="N",
        help=f"port of the UI; default: {PORT}",
    )
    add_store(command)


def run(options: argparse.Namespace) -> int:
    store = store_of(options)
    store.check_tracking_exists()
    from prefetch_tuning.experiments.storage.runs.tracking import Tracker

    remote = store.tracking_uri.startswith("http")
    # The browser asks for a password that the address has.
    server = re.sub(r"//[^/@]*@", "//", store.tracking_uri.rstrip("/"))
    base = server if remote else f"http://127.0.0.1:{options.port}"
    print_links(Console(), Tracker(store).studies()[:SHOWN], base)
    if not remote:
        command = ui_command(options.port)
        # Ctrl-C and the exit code are the server's.
        os.execve(command[0], command, {**os.environ, BACKEND: store.tracking_uri})
    return EXIT_OK


def print_links(console: Console, studies: list[LoggedRun], base: str) -> None:
    """Prints a link to the studies of each pipeline, and to the report and trials of each study.

    A link is never wrapped, so a terminal lets it be clicked.
    """
    from prefetch_tuning.experiments.storage.runs.views import STUDIES, link, report_link

    for run in {run.experiment_id: run for run in studies}.values():
        pipeline = run.tags.get(Tag.PIPELINE, run.name)
        _line(console, f"all studies of {pipeline}", base + link(run.experiment_id, STUDIES))
    for run in studies:
        report = report_link(run.experiment_id, run.run_id)
        _line(console, f"report of {run.name}", base + report)
        trials = link(run.experiment_id, run.run_id, charts=True)
        _line(console, f"trials of {run.name}", base + trials)


def _line(console: Console, text: str, address: str) -> None:
    console.print(f"{text}:\n  {address}", markup=False, highlight=False, soft_wrap=True)


def ui_command(port: int) -> list[str]:
    """The command of the MLflow UI on a database, whose address `BACKEND` gives it.

    On the command line, every user of the host could read a password in the address.
    """
    return [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]

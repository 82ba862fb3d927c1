"""`prefetch-tune report`: write a study's report, and the code and settings to use."""

from __future__ import annotations

import argparse
from pathlib import Path

from prefetch_tuning.experiments.commands.arguments import (
    Commands,
    add_command,
    add_store,
    store_of,
)
from prefetch_tuning.experiments.errors import EXIT_OK


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    text = "write a study's report as HTML and Markdown, the code to paste and config.json"
    command = add_command(commands, "report", run, text)
    command.add_argument("study", metavar="STUDY", help="name of the study, as tune printed it")
    command.add_argument(
        "--out",
        type=Path,
        default=Path(),
        metavar="FOLDER",
        help="folder for the files; default: the current directory",
    )
    add_store(command)


def run(options: argparse.Namespace) -> int:
    from prefetch_tuning.experiments.report.conclusion import kept_record
    from prefetch_tuning.experiments.report.document import Report

    for path in Report(kept_record(options.study, store_of(options))).write(options.out):
        print(path)  # noqa: T201 - the command's output
    return EXIT_OK

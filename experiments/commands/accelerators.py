"""`prefetch-tune accelerators`: list the accelerators whose step can be emulated."""

from __future__ import annotations

import argparse

from rich.console import Console

from prefetch_tuning.experiments.commands.arguments import Commands, add_command
from prefetch_tuning.experiments.errors import EXIT_OK
from prefetch_tuning.experiments.report.console_table import print_rows
from prefetch_tuning.pipelines.accelerators import ACCELERATORS

HEADINGS = ("name", "model", "accelerator", "step", "batch size", "source")


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    text = "list the accelerators that --accelerator emulates"
    add_command(commands, "accelerators", run, text)


def run(options: argparse.Namespace) -> int:
    del options
    rows = [
        (
            known.name,
            known.model,
            known.chip,
            str(known.step_time).partition("@")[0],
            str(known.batch_size),
            known.source,
        )
        for known in ACCELERATORS.values()
    ]
    print_rows(Console(), "Accelerators", HEADINGS, rows)
    return EXIT_OK

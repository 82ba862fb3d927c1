"""`prefetch-tune pipelines`: list the pipelines that can be tuned."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console

from prefetch_tuning.experiments.commands.arguments import Commands, add_command, add_pipelines
from prefetch_tuning.experiments.errors import EXIT_OK
from prefetch_tuning.experiments.report.console_table import print_rows
from prefetch_tuning.objectives.measurement import PipelineInfo
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.pipelines import catalog


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    add_pipelines(add_command(commands, "pipelines", run, "list the pipelines that can be tuned"))


def run(options: argparse.Namespace) -> int:
    targets = [catalog.resolve(name) for name in options.pipelines or catalog.names()]
    with TrialRunner() as runner:
        infos = [runner.inspect(target, seed=0, device="auto") for target in targets]
    print_pipelines(Console(), infos, () if options.pipelines else catalog.heavy_names())
    return EXIT_OK


def print_pipelines(
    console: Console, infos: Sequence[PipelineInfo], heavy: Sequence[str] = ()
) -> None:
    """Prints a table of pipelines, and the names of the heavy ones, which are not inspected."""
    rows = [
        (
            info.name,
            info.summary,
            info.element,
            " ".join(str(size) for size in info.batch_sizes),
            ", ".join(["batch_size", "prefetch_buffer", *info.axes]),
        )
        for info in infos
    ]
    headings = ("name", "summary", "element", "batch sizes", "searched")
    print_rows(console, "Pipelines", headings, rows)
    if heavy:
        console.print(
            f"Also built in, with a step heavy enough for a GPU: {', '.join(heavy)}. They run only "
            f"if you name them; see prefetch-tune pipelines {heavy[0]}.",
            highlight=False,
        )

"""`prefetch-tune pipelines`: list the pipelines that can be tuned."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console

from prefetch_tuning.experiments.commands.arguments import Commands, add_command, add_pipelines
from prefetch_tuning.experiments.errors import EXIT_OK
from prefetch_tuning.experiments.report.console_table import print_rows
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.pipelines import catalog

HEADINGS = ("name", "summary", "element", "batch sizes", "searched")


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    add_pipelines(add_command(commands, "pipelines", run, "list the pipelines that can be tuned"))


def run(options: argparse.Namespace) -> int:
    # Only a user's own pipelines are imported now: TensorFlow alone takes seconds.
    rows = catalog.described()
    names = options.pipelines or list(rows)
    unknown = [name for name in names if name not in rows]
    if unknown:
        targets = {name: catalog.resolve(name) for name in unknown}
        with TrialRunner() as runner:
            for name, target in targets.items():
                rows[name] = row_of(runner.inspect(target, seed=0, device="auto"))
    found = [rows[name] for name in names]
    print_pipelines(Console(), found, () if options.pipelines else catalog.heavy_names())
    return EXIT_OK


def row_of(info: PipelineInfo) -> list[str]:
    """A pipeline's cells under `HEADINGS`."""
    return [
        info.name,
        info.summary,
        info.element,
        " ".join(str(size) for size in info.batch_sizes),
        ", ".join(["batch_size", "prefetch_buffer", *info.axes]),
    ]


def print_pipelines(
    console: Console, rows: Sequence[Sequence[str]], heavy: Sequence[str] = ()
) -> None:
    """Prints a table of pipelines, and the names of the heavy ones, which are not inspected."""
    print_rows(console, "Pipelines", HEADINGS, rows)
    if heavy:
        console.print(
            f"Also built in, with a step heavy enough for a GPU: {', '.join(heavy)}. They run only "
            f"if you name them; see prefetch-tune pipelines {heavy[0]}.",
            highlight=False,
        )

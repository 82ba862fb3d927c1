"""`prefetch-tune step-time`: measure a real training step, to emulate it on another machine."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from prefetch_tuning.experiments.commands.arguments import (
    Commands,
    add_command,
    add_functions,
    add_json,
    add_measuring,
    add_model_options,
    add_store,
    check_json_file,
    store_of,
    targets_of,
)
from prefetch_tuning.experiments.errors import EXIT_OK, UsageError
from prefetch_tuning.experiments.host.environment import environment_tags
from prefetch_tuning.experiments.report.console_table import print_rows
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.schema import Tag
from prefetch_tuning.objectives.measurement import TrialFailure
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import Device
from prefetch_tuning.pipelines.source import PipelineError
from prefetch_tuning.pipelines.step_time import StepTime

# Readings per batch size, each in a fresh process; their median counts.
READINGS = 3
HEADINGS = ("batch size", "step, ms", "emulated, ms")


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    text = "measure a pipeline's training step alone, to emulate it on a machine without its GPU"
    command = add_command(commands, "step-time", run, text)
    command.add_argument(
        "pipelines", nargs=1, metavar="PIPELINE", help="built-in name, or your own as file.py:name"
    )
    add_functions(command)
    add_model_options(command)
    add_measuring(command)
    add_store(command)
    add_json(command)


def run(options: argparse.Namespace) -> int:
    [target] = targets_of(options)
    check_json_file(options.json)
    store = store_of(options)
    with TrialRunner() as runner:
        return measure_and_report(
            target, options.seed or 0, options.device or "auto", runner, store, options.json
        )


def measure_and_report(
    target: str,
    seed: int,
    device: Device,
    runner: TrialRunner,
    store: Store,
    json_file: Path | None,
) -> int:
    """Measures the step at each batch size, logs it and prints the option that emulates it."""
    from prefetch_tuning.experiments.storage.results import write_json
    from prefetch_tuning.experiments.storage.runs.tracking import Tracker

    info = runner.inspect(target, seed, device)
    if info.stand_in is not None:
        raise UsageError(
            f"{info.name}: its step is emulated, so there is nothing to measure; name the pipeline "
            "without it"
        )
    store.create()
    tracker = Tracker(store)
    seconds = step_seconds(target, info, seed, device, runner)
    found = StepTime.fitted(seconds)
    rows = [
        (str(size), f"{1e3 * each:.3f}", f"{1e3 * found.seconds(size):.3f}")
        for size, each in seconds.items()
    ]
    print_rows(Console(), f"{info.name} on {info.device}", HEADINGS, rows, "rrr")
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"To emulate it on another machine:\n  --step-time {found}")
    # Now, because MLflow may be gone.
    tags = environment_tags(Path.cwd()) | {Tag.SOURCE_DIGEST: info.source_digest}
    run_id = tracker.log_step_time(info, found, seconds, tags)
    console.print(f"or, with the same MLflow:\n  --accelerator runs:/{run_id}")
    if info.device == "cpu":
        console.print("This step ran on the CPU and took cores. An emulated step takes none.")
    if json_file is not None:
        write_json({"step_time": str(found), "step_s": seconds, "run_id": run_id}, json_file)
    return EXIT_OK


def step_seconds(
    target: str, info: PipelineInfo, seed: int, device: Device, runner: TrialRunner
) -> Mapping[int, float]:
    """Seconds of a step on ready batches, by batch size.

    Raises:
        PipelineError: the step can't be measured.
    """
    found: dict[int, float] = {}
    for size in info.batch_sizes:
        readings = []
        for _ in range(READINGS):
            terms = runner.measure_limit(target, size, seed, device, vectorized=False)
            if isinstance(terms, TrialFailure):
                raise PipelineError(terms.detail)
            readings.append(size / terms.step_examples_per_s)
        found[size] = statistics.median(readings)
    return found

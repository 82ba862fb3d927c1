"""`prefetch-tune diagnose`: measure the cost of each stage and name the bottleneck."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console

from prefetch_tuning.experiments.commands.arguments import (
    Commands,
    add_command,
    add_emulated,
    add_functions,
    add_json,
    add_measuring,
    add_model_options,
    add_pipelines,
    add_script,
    check_json_file,
    targets_of,
)
from prefetch_tuning.experiments.errors import EXIT_OK
from prefetch_tuning.experiments.search.diagnosis import Diagnosis, diagnose
from prefetch_tuning.objectives.measurement import TrialFailure
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import Device
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.cores import usable_cores
from prefetch_tuning.pipelines.source import PipelineError


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    text = "measure the cost of each stage and name the bottleneck"
    command = add_command(commands, "diagnose", run, text)
    add_pipelines(command)
    add_script(command)
    add_functions(command)
    add_emulated(command)
    add_model_options(command)
    add_measuring(command)
    add_json(command)


def run(options: argparse.Namespace) -> int:
    targets = targets_of(options) or [catalog.resolve(name) for name in catalog.names()]
    check_json_file(options.json)
    with TrialRunner() as runner:
        return diagnose_and_report(
            targets, options.seed or 0, options.device or "auto", runner, options.json
        )


def diagnose_and_report(
    targets: Sequence[str],
    seed: int,
    device: Device,
    runner: TrialRunner,
    json_file: Path | None,
) -> int:
    """Measures the stages of each pipeline and prints what limits it."""
    from prefetch_tuning.experiments.report.terminal import print_diagnosis
    from prefetch_tuning.experiments.storage.results import write_json
    from prefetch_tuning.experiments.study.diagnose import FIRST_S, Listener

    found: dict[str, Diagnosis] = {}
    for target in targets:
        info = runner.inspect(target, seed, device)
        costs = runner.measure_stages(target, seed, device)
        if isinstance(costs, TrialFailure):
            raise PipelineError(costs.detail)
        listener = Listener(runner, partial(_say, info.name))
        pauses = listener.pauses_of(target, seed, FIRST_S, costs, info.batch_sizes)
        found[info.name] = diagnose(costs, usable_cores(), pauses)
        print_diagnosis(Console(), info.name, found[info.name])
    if json_file is not None:
        write_json(found, json_file)
    return EXIT_OK


def _say(name: str, text: str) -> None:
    Console().print(f"{name}: {text}", highlight=False)

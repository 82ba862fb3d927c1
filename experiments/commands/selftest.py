"""`prefetch-tune selftest`: compare a configuration with itself many times."""

from __future__ import annotations

import argparse

from prefetch_tuning.experiments.commands.arguments import (
    Commands,
    add_command,
    add_json,
    add_measuring,
    add_rounds,
    add_store,
    check_json_file,
    store_of,
)
from prefetch_tuning.experiments.commands.values import number
from prefetch_tuning.experiments.settings import LEAST_ROUNDS, Comparisons
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.pipelines import catalog


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    text = "compare a configuration with itself many times, to see which gains this host can detect"
    command = add_command(commands, "selftest", run, text)
    command.add_argument(
        "pipeline",
        nargs="?",
        default="simple",
        metavar="PIPELINE",
        help="pipeline to measure; default: simple",
    )
    command.add_argument(
        "--comparisons",
        type=number(Comparisons),
        default=40,
        metavar="N",
        help="number of comparisons; default: 40, which take about twenty minutes",
    )
    add_rounds(command, "rounds per comparison")
    add_measuring(command)
    add_store(command)
    add_json(command)


def run(options: argparse.Namespace) -> int:
    target = catalog.resolve(options.pipeline)
    check_json_file(options.json)
    store = store_of(options)
    with TrialRunner() as runner:
        from prefetch_tuning.experiments.commands.selftest_output import selftest_and_report
        from prefetch_tuning.experiments.repeat.selftest import SelfTestRequest

        request = SelfTestRequest(
            target=target,
            comparisons=options.comparisons,
            rounds=options.rounds or LEAST_ROUNDS,
            seed=options.seed or 0,
            device=options.device or "auto",
        )
        return selftest_and_report(request, store, runner, options.json)

"""`prefetch-tune tune`: search the settings by short training runs, and confirm the best."""

from __future__ import annotations

import argparse
import time

from prefetch_tuning.experiments.commands.arguments import (
    Commands,
    add_command,
    add_functions,
    add_json,
    add_measuring,
    add_model_options,
    add_pipelines,
    add_rounds,
    add_store,
    check_json_file,
    store_of,
    targets_of,
)
from prefetch_tuning.experiments.commands.values import memory_mib, number
from prefetch_tuning.experiments.settings import (
    BatchSize,
    ConfirmBudgetS,
    TimeBudgetS,
    Tolerance,
    Trials,
    TrialTimeoutS,
    TuneRequest,
)
from prefetch_tuning.objectives.process.runner import TrialRunner


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    text = "search the settings by short training runs, and confirm the best"
    command = add_command(commands, "tune", run, text)
    add_pipelines(command)
    add_functions(command)
    add_model_options(command)
    _add_search(command)


def run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    options.pipelines = targets_of(options)
    check_json_file(options.json)
    store = store_of(options)
    given = {key: value for key, value in vars(options).items() if value is not None}
    asked = {key: given[key] for key in TuneRequest.model_fields if key in given}
    request = TuneRequest.checked(**asked)
    with TrialRunner() as runner:
        from prefetch_tuning.experiments.commands.tuning_output import tune_and_report

        return tune_and_report(request, store, runner, options.json, began)


def _add_search(command: argparse.ArgumentParser) -> None:
    """Each option is named after its field of `TuneRequest`."""
    add = command.add_argument
    add(
        "--trials",
        type=number(Trials),
        metavar="N",
        help="trials a pipeline, those of a resumed study included; default: 24, or as many "
        "as fit into 20 s; those that the diagnosis predicts are always run",
    )
    add(
        "--time-budget",
        dest="time_budget_s",
        type=number(TimeBudgetS),
        metavar="SECONDS",
        help="longest search a pipeline, without diagnosis and confirmation",
    )
    add(
        "--axes",
        choices=["basic", "all"],
        help="basic: batch size, prefetch and map parallelism; all (default): also the structure "
        "of the chain, where the diagnosis finds that it may help",
    )
    add(
        "--batch-size",
        type=number(BatchSize),
        metavar="N",
        help="search at this batch size only",
    )
    add(
        "--memory-limit",
        dest="memory_limit_mib",
        type=memory_mib,
        metavar="SIZE",
        help="peak host memory a trial may add, like 2GiB; more is infeasible, not an error",
    )
    add_rounds(command)
    add(
        "--no-confirm",
        dest="rounds",
        action="store_const",
        const=0,
        help="leave the confirmation out; the best of the search is then partly luck",
    )
    add(
        "--confirm-budget",
        dest="confirm_budget_s",
        type=number(ConfirmBudgetS),
        metavar="SECONDS",
        help="rounds beyond the least number begin only within this time; default: 110",
    )
    add(
        "--tolerance",
        type=number(Tolerance),
        metavar="SHARE",
        help="of the best rate that may be given up for less memory; default: 0.02",
    )
    add_measuring(command)
    add("--study", metavar="NAME", help="name of the study; the same name resumes it")
    add(
        "--trial-timeout",
        dest="trial_timeout_s",
        type=number(TrialTimeoutS),
        metavar="SECONDS",
        help="a trial that takes longer is killed; default: 90",
    )
    add_store(command)
    add_json(command)

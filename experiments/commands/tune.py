"""`prefetch-tune tune`: find the best settings in short training runs and confirm them."""

from __future__ import annotations

import argparse
import time
from typing import get_args

from prefetch_tuning.experiments.cluster.measuring import measuring_as
from prefetch_tuning.experiments.commands.arguments import (
    Commands,
    add_cluster,
    add_command,
    add_emulated,
    add_functions,
    add_json,
    add_measuring,
    add_model_options,
    add_pipelines,
    add_rounds,
    add_script,
    add_store,
    add_trial_timeout,
    check_json_file,
    say,
    store_of,
    targets_of,
)
from prefetch_tuning.experiments.commands.values import memory_mib, number
from prefetch_tuning.experiments.settings import (
    BatchSize,
    ConfirmBudgetS,
    Target,
    TimeBudgetS,
    Tolerance,
    Trials,
    TuneRequest,
)
from prefetch_tuning.objectives.named import ObjectiveName


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    text = "find the best settings in short training runs and confirm them"
    command = add_command(commands, "tune", run, text)
    add_pipelines(command)
    add_script(command)
    add_functions(command)
    add_emulated(command)
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
    with measuring_as(options, say) as hosts:
        from prefetch_tuning.experiments.commands.tuning_output import tune_and_report

        return tune_and_report(request, store, hosts, options.json, began)


def _add_search(command: argparse.ArgumentParser) -> None:
    """Adds the options of a search; each sets the field of `TuneRequest` with its name."""
    add = command.add_argument
    add(
        "--trials",
        type=number(Trials),
        metavar="N",
        help="trials per pipeline, including those of a resumed study; default: up to 24 in 20 s; "
        "those that the diagnosis predicts to be fast run even after that",
    )
    add(
        "--time-budget",
        dest="time_budget_s",
        type=number(TimeBudgetS),
        metavar="SECONDS",
        help="longest search per pipeline, without diagnosis and confirmation; default: 20, or no "
        "limit if you give --trials",
    )
    add(
        "--objective",
        choices=get_args(ObjectiveName),
        help="throughput: the most examples/s; utilisation: the least CPU time that keeps the "
        "training step busy for --target of the time, at one batch size; default: utilisation if "
        "the step is emulated, otherwise throughput",
    )
    add(
        "--target",
        type=number(Target),
        metavar="SHARE",
        help="share of time in which the training step must be busy, like 0.9 for 90%%; default: "
        "0.9",
    )
    add(
        "--axes",
        choices=["basic", "all"],
        help="what to search; basic: batch size, prefetch, map parallelism and the settings of a "
        "PyDataset; all (default): also the structure of the chain, if the diagnosis finds that it "
        "may help",
    )
    add(
        "--batch-size",
        type=number(BatchSize),
        metavar="N",
        help="search only at this batch size; default: all of the pipeline's, but only the largest "
        "if the objective is utilisation",
    )
    add(
        "--memory-limit",
        dest="memory_limit_mib",
        type=memory_mib,
        metavar="SIZE",
        help="peak host memory that a trial may add, like 2GiB; a trial that adds more is marked "
        "infeasible, not failed",
    )
    add(
        "--allow-reorder",
        action="store_true",
        help="also try settings in which finished calls of the map overtake slower ones; the same "
        "elements then come in another order",
    )
    add_rounds(command, "fewest rounds of the confirmation; more follow within --confirm-budget")
    add(
        "--no-confirm",
        dest="rounds",
        action="store_const",
        const=0,
        help="skip the confirmation; the best result of the search is then partly luck",
    )
    add(
        "--confirm-budget",
        dest="confirm_budget_s",
        type=number(ConfirmBudgetS),
        metavar="SECONDS",
        help="seconds for all rounds; the first --rounds rounds always run, a further one begins "
        "only if it fits; default: 110",
    )
    add(
        "--tolerance",
        type=number(Tolerance),
        metavar="SHARE",
        help="share of the best rate that may be given up for less memory or an earlier first "
        "batch; default: 0.02",
    )
    add_measuring(command)
    add("--study", metavar="NAME", help="name of the study; give the same name again to resume it")
    add_trial_timeout(command)
    add_cluster(command)
    add_store(command)
    add_json(command)

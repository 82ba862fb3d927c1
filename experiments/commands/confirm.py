"""`prefetch-tune confirm`: add rounds to a study's confirmation."""

from __future__ import annotations

import argparse
import time

from prefetch_tuning.experiments.cluster.measuring import measuring_as
from prefetch_tuning.experiments.commands.arguments import (
    Commands,
    add_cluster,
    add_command,
    add_json,
    add_rounds,
    add_store,
    check_json_file,
    say,
    store_of,
)
from prefetch_tuning.experiments.settings import LEAST_ROUNDS


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    command = add_command(commands, "confirm", run, "add rounds to a study's confirmation")
    command.add_argument("study", metavar="STUDY", help="name of the study, as tune printed it")
    add_rounds(command, "number of rounds to add")
    add_cluster(command)
    add_store(command)
    add_json(command)


def run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    check_json_file(options.json)
    store = store_of(options)
    with measuring_as(options, say) as hosts:
        from prefetch_tuning.experiments.commands.tuning_output import confirm_and_report

        more = options.rounds or LEAST_ROUNDS
        return confirm_and_report(options.study, more, store, hosts, options.json, began)

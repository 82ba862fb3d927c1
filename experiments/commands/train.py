"""`prefetch-tune run`: run a training script with the chain that was recommended for it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import NoReturn

from rich.console import Console

from prefetch_tuning.experiments.commands.arguments import (
    Commands,
    add_command,
    add_fit,
    add_json,
    add_rounds,
    add_store,
    check_json_file,
    store_of,
)
from prefetch_tuning.experiments.commands.values import number
from prefetch_tuning.experiments.errors import EXIT_OK, StudyError, UsageError
from prefetch_tuning.experiments.repeat.check_sources import Source, from_file, from_store, is_file
from prefetch_tuning.experiments.settings import LEAST_ROUNDS, Steps
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.script import PROGRAM
from prefetch_tuning.pipelines.target import Target, compose

STEPS = 200
# As many as there are: the first epoch of a chain with a cache is slower than the others.
ALL_STEPS = 1_000_000


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    text = "run a training script with the chain that was recommended for it"
    command = add_command(commands, "run", run, text)
    command.add_argument(
        "script",
        metavar="SCRIPT",
        help="the training script, like train.py; its own arguments follow after --",
    )
    add_fit(command)
    command.add_argument(
        "--config",
        metavar="SOURCE",
        help="a config.json, a run as runs:/RUN_ID, or a study; default: the latest study of the "
        "script that recommends something",
    )
    command.add_argument(
        "--compare",
        action="store_true",
        help="instead of training, time the first steps of fit as the script has it and with that "
        "chain, alternately, each in a fresh process",
    )
    command.add_argument(
        "--steps",
        type=number(Steps),
        metavar="N",
        help=f"with --compare: steps to time in each run; default: {STEPS}, or the whole training "
        "if the recommendation keeps the elements in memory, since its first epoch gains nothing",
    )
    add_rounds(command, "with --compare: pairs of runs")
    add_store(command)
    add_json(command)


def run(options: argparse.Namespace) -> int:
    check_json_file(options.json)
    target = _target(options)
    source = _source(options, target)
    if not options.compare:
        _become(target, source)
    return _compare(options, target, source)


def _become(target: Target, source: Source) -> NoReturn:
    """Runs the script in place of this process, so it has signals and the terminal as usual."""
    config = json.dumps(source.config.to_params())
    told = [f"--chain={source.chain}", f"--source={source.said}"]
    sys.stdout.flush()
    os.execv(PROGRAM[0], [*PROGRAM, str(target), config, *told])


def _target(options: argparse.Namespace) -> Target:
    resolved = catalog.resolve(options.script)
    if not Target.parse(resolved).is_script:
        raise UsageError(f"{options.script} isn't a training script; give a file, like train.py")
    line = compose(resolved, fit=options.fit, args=options.script_args)
    return Target.parse(line)


def _source(options: argparse.Namespace, target: Target) -> Source:
    if options.config is None:
        return _latest(target, store_of(options))
    if is_file(options.config):
        return from_file(options.config)
    found = from_store(options.config, store_of(options))
    if not _is_of(found, target):
        raise UsageError(f"{found.said} measured {found.target!r}, not {str(target)!r}")
    return found


def _is_of(source: Source, target: Target) -> bool:
    """Whether a record is of the same `fit` of the same script."""
    measured = Target.parse(source.target) if source.target else None
    return measured is not None and (measured.main, measured.fit) == (target.main, target.fit)


def _latest(target: Target, store: Store) -> Source:
    """The latest study of the script that recommends something."""
    from prefetch_tuning.experiments.storage.runs.reader import RunReader
    from prefetch_tuning.experiments.storage.schema import Tag

    store.check_tracking_exists()
    name = target.main.rpartition("/")[2].removesuffix(".py")
    for run_of_study in RunReader(store).studies(name):
        if Tag.RECOMMENDED_CONFIG not in run_of_study.tags:
            continue
        try:
            found = from_store(run_of_study.tags[Tag.STUDY], store)
        except StudyError:
            continue  # somebody else's: its trials are in another Optuna storage
        if _is_of(found, target):
            return found
    raise StudyError(
        f"no study of {target.main} recommends anything yet; run: prefetch-tune tune {target.main}"
    )


def _compare(options: argparse.Namespace, target: Target, source: Source) -> int:
    from prefetch_tuning.experiments.repeat.compare_fit import CONFIGURED, WRITTEN, compare_fit
    from prefetch_tuning.experiments.report.text import times

    written = PipelineConfig.written(source.config.batch_size)
    found = compare_fit(
        str(target),
        {WRITTEN: written, CONFIGURED: source.config},
        steps=options.steps or (ALL_STEPS if source.config.cache else STEPS),
        rounds=options.rounds or LEAST_ROUNDS,
        said=_say,
    )
    words = str(source.config)
    Console(highlight=False, soft_wrap=True).print(
        f"{target.main}: {times(found)} the rate of fit as written, with {words} "
        f"({source.said}): {found.verdict}",
        markup=False,
    )
    if options.json is not None:
        answer = {"target": str(target), "words": words, **found.model_dump(mode="json")}
        options.json.write_text(json.dumps(answer), encoding="utf-8")
    return EXIT_OK


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")

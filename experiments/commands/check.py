"""`prefetch-tune check`: fail if a configuration is slower than AUTOTUNE or another one."""

from __future__ import annotations

import argparse

from prefetch_tuning.experiments.commands.arguments import (
    Commands,
    add_command,
    add_emulated,
    add_functions,
    add_json,
    add_measuring,
    add_model_options,
    add_store,
    add_trial_timeout,
    check_json_file,
    store_of,
    targets_of,
)
from prefetch_tuning.experiments.commands.values import duration_s, margin
from prefetch_tuning.experiments.errors import UsageError
from prefetch_tuning.experiments.repeat.check_sources import Source, from_file, from_store, is_file
from prefetch_tuning.experiments.settings import TRIAL_TIMEOUT_S
from prefetch_tuning.experiments.verdict.measurements import AUTOTUNE
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import StopRule

SOURCES = "a config.json, runs:/RUN_ID, or a study's name for what it recommends"


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    text = "fail if a configuration is slower than AUTOTUNE or another one, for example in CI"
    command = add_command(commands, "check", run, text)
    command.add_argument("source", metavar="SOURCE", help=f"what to check: {SOURCES}")
    command.add_argument(
        "pipelines",
        nargs="?",
        type=lambda name: [name],
        default=[],
        metavar="PIPELINE",
        help="built-in name, or your own as file.py:name; a run or a study names its own, which "
        "you must confirm here, or with --trust, if it isn't built in",
    )
    command.add_argument(
        "--trust",
        action="store_true",
        help="run the code that the run or study names, even if it isn't built in",
    )
    command.add_argument(
        "--against",
        default=AUTOTUNE,
        metavar="autotune|SOURCE",
        help=f"what to compare with: autotune at the same batch size, which is the default; or "
        f"{SOURCES}",
    )
    command.add_argument(
        "--margin",
        type=margin,
        default=margin("5%"),
        metavar="PERCENT",
        help="how much slower it may be; default: 5%%",
    )
    command.add_argument(
        "--time",
        type=duration_s,
        default=duration_s("5m"),
        metavar="TIME",
        help="time for the rounds, like 90s or 10m, after which the check ends undecided; "
        "default: 5m",
    )
    add_functions(command)
    add_emulated(command)
    add_model_options(command)
    add_measuring(command)
    add_trial_timeout(command)
    add_store(command)
    add_json(command)


def run(options: argparse.Namespace) -> int:
    check_json_file(options.json)
    named = _pipeline_of(options)
    source = _find(options.source, options)
    target = _target(source, named, options)
    other = None if options.against == AUTOTUNE else _find(options.against, options)
    if other is not None:
        _check_comparable(source, other, target)
    with TrialRunner() as runner:
        from prefetch_tuning.experiments.commands.check_output import check_and_report
        from prefetch_tuning.experiments.repeat.checked import CheckOptions

        how = CheckOptions(
            target=target,
            margin=options.margin,
            time_s=options.time,
            seed=source.seed if options.seed is None else options.seed,
            device=options.device or source.device,
            stop=source.stop or (other and other.stop) or StopRule(),
            trial_timeout_s=options.trial_timeout_s
            or source.trial_timeout_s
            or (other and other.trial_timeout_s)
            or TRIAL_TIMEOUT_S,
        )
        return check_and_report(source, other, how, runner, options.json)


def _pipeline_of(options: argparse.Namespace) -> str | None:
    """The target of the pipeline that the user named, with its functions and model options."""
    targets = targets_of(options)
    if len(targets) > 1:  # without a name, options of the model are for all built-in pipelines
        raise UsageError("name the pipeline that the options of its model belong to")
    return targets[0] if targets else None


def _find(named: str, options: argparse.Namespace) -> Source:
    return from_file(named) if is_file(named) else from_store(named, store_of(options))


def _target(source: Source, named: str | None, options: argparse.Namespace) -> str:
    """The pipeline to measure. A record's own code is imported only if the user says so."""
    if source.target is None:
        if named is None:
            raise UsageError(
                f"{source.said} doesn't name its pipeline; use prefetch-tune check {source.said} "
                "PIPELINE"
            )
        return named
    from prefetch_tuning.experiments.repeat.rerun import check_trusted

    command = f"prefetch-tune check {options.source}"
    check_trusted(source.target, named, source.said, command, trust=options.trust)
    return source.target


def _check_comparable(source: Source, other: Source, target: str) -> None:
    """Raises UsageError if the rates of the two say nothing about each other."""
    if other.target not in (None, target):
        raise UsageError(f"{other.said} measured {other.target!r}, not {target!r}")
    sizes = source.config.batch_size, other.config.batch_size
    if sizes[0] != sizes[1]:
        raise UsageError(
            f"{source.said} has batch size {sizes[0]} and {other.said} {sizes[1]}; rates are "
            "comparable only at equal batch size"
        )

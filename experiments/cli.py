"""The command line. Each command is a file in `commands/`.

Optuna and MLflow take seconds to import, so the commands import them late: after everything that
can be checked at once has been checked, and while the fork server imports TensorFlow.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from prefetch_tuning.experiments.commands import (
    accelerators,
    check,
    confirm,
    diagnose,
    new,
    pipelines,
    report,
    rerun,
    selftest,
    show,
    step_time,
    studies,
    sync,
    train,
    tune,
    ui,
)
from prefetch_tuning.experiments.commands.arguments import Parser
from prefetch_tuning.experiments.errors import (
    EXIT_MISUSE,
    UsageError,
    without_secrets,
)
from prefetch_tuning.experiments.host.environment import package_versions
from prefetch_tuning.experiments.host.interrupts import end_like_ctrl_c, interrupted_code
from prefetch_tuning.objectives.process.server import WorkerError
from prefetch_tuning.pipelines.printable import printable
from prefetch_tuning.pipelines.source import PipelineError

# `--help` lists them in this order.
COMMANDS = (
    tune,
    diagnose,
    train,
    confirm,
    report,
    ui,
    rerun,
    check,
    studies,
    show,
    selftest,
    new,
    pipelines,
    accelerators,
    step_time,
    sync,
)


def run() -> NoReturn:
    """The `prefetch-tune` program."""
    end_like_ctrl_c()
    sys.exit(main(sys.argv[1:] or ["--help"]))


def main(arguments: Sequence[str]) -> int:
    """Runs one command and returns its exit code; prints a user's error as one line."""
    try:
        options = parsed(arguments)
        code: int = options.handler(options)
    except (PipelineError, UsageError, WorkerError) as error:
        sys.stderr.write(f"error: {printable(without_secrets(str(error)))}\n")
        return EXIT_MISUSE
    except KeyboardInterrupt as error:
        sys.stderr.write("interrupted; what was already logged is kept\n")
        return interrupted_code(error)
    return code


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; what follows `--` are the arguments of a training script.

    Raises:
        UsageError: an option is wrong, or the command runs no script.
    """
    own = list(arguments)
    given = own[own.index("--") + 1 :] if "--" in own else []
    options = parser().parse_args(own[: own.index("--")] if "--" in own else own)
    if given and not hasattr(options, "fit"):
        raise UsageError(f"-- {given[0]}: only tune, diagnose and run take a script's arguments")
    options.script_args = given
    return options


class _ShowVersions(argparse.Action):
    """Prints the versions that a bug report needs; only then are they looked up."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        versions = package_versions()
        own = "prefetch-tuning"
        first = {own: versions.pop(own)} if own in versions else {}
        said = ", ".join(" ".join(each) for each in {**first, **versions}.items())
        sys.stdout.write(said + "\n")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """The argument parser with all commands."""
    top = Parser(
        prog="prefetch-tune",
        description="Find the tf.data settings that feed your model fastest from a generator.",
    )
    top.add_argument("--version", action=_ShowVersions, nargs=0, help="show versions and exit")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return top

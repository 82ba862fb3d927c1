"""What the command line takes: the options of each command and the types of their values."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from experiments.errors import UsageError
from pipelines.config import MAX_BATCH_SIZE

PIPELINES_HELP = "built-in names, or module:attribute of your own; default: all built-in ones"
SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([KMGT])i?B$", re.IGNORECASE)
UNITS_MIB = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0 * 1024.0}
N = TypeVar("N", int, float)


class Parser(argparse.ArgumentParser):
    """Raises its errors, so that they come out as all others do."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))


def add_pipelines(command: argparse.ArgumentParser) -> None:
    """The pipelines that a command is about."""
    command.add_argument("pipelines", nargs="*", metavar="PIPELINE", help=PIPELINES_HELP)


def add_tune_options(command: argparse.ArgumentParser) -> None:
    """The options of `tune`."""
    add = command.add_argument
    add(
        "--trials",
        type=number(int, 1),
        metavar="N",
        help="trials a pipeline, those of a resumed study included; default: 24 or what 95 s allow",
    )
    add(
        "--time-budget",
        type=number(float, 0.0, above=True),
        metavar="SECONDS",
        help="longest search a pipeline",
    )
    add(
        "--batch-size",
        type=number(int, 1, MAX_BATCH_SIZE),
        metavar="N",
        help="search at this batch size only",
    )
    add(
        "--memory-limit",
        type=memory_mib,
        metavar="SIZE",
        help="peak host memory a trial may add, like 2GiB; more is infeasible, not an error",
    )
    add(
        "--device",
        choices=("auto", "cpu", "gpu"),
        default="auto",
        help="where training steps run; default: a GPU where there is one",
    )
    add(
        "--seed",
        type=number(int, 0, 2**31 - 1),
        default=0,
        metavar="N",
        help="of generator, model and sampler; default: 0",
    )
    add("--study", metavar="NAME", help="name of the study; the same name resumes it")
    add("--storage", metavar="URL", help="Optuna storage; default: mlruns/optuna.db")
    add(
        "--tracking-uri",
        metavar="URL",
        help="MLflow; default: MLFLOW_TRACKING_URI, else mlruns/mlflow.db",
    )
    add(
        "--trial-timeout",
        type=number(float, 0.1, 86_400.0),
        default=90.0,
        metavar="SECONDS",
        help="a trial that takes longer is killed; default: 90",
    )
    add("--json", type=Path, metavar="FILE", help="write the results there, too")


def number(
    kind: type[N], low: N, high: N | None = None, *, above: bool = False
) -> Callable[[str], N]:
    """An argument type: a number from `low` to `high`, or greater than `low` where `above`."""

    def convert(text: str) -> N:
        try:
            value = kind(text)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"must be {what}, not {text!r}") from None
        bound = f"above {low:g}" if above else f"at least {low:g}"
        if high is not None:
            bound = f"from {low} to {high}"
        # Written so that NaN fails, too.
        inside = (value > low if above else value >= low) and (high is None or value <= high)
        if not inside:
            raise argparse.ArgumentTypeError(f"must be {bound}, not {text}")
        return value

    return convert


def memory_mib(text: str) -> float:
    """An argument type: a size with a unit (`512MiB`, `2GiB`, also `2GB`, as binary) in MiB."""
    match = SIZE.match(text.strip())
    if match is None or float(match[1]) <= 0:
        raise argparse.ArgumentTypeError(f"must be a size like 512MiB or 2GiB, not {text!r}")
    return float(match[1]) * UNITS_MIB[match[2].upper()]

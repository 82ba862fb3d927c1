"""What the command line takes: the options of each command and the types of their values."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

from prefetch_tuning.experiments.errors import UsageError
from prefetch_tuning.experiments.settings import LEAST_ROUNDS
from prefetch_tuning.pipelines.config import MAX_BATCH_SIZE
from prefetch_tuning.pipelines.target import PRECISIONS

PIPELINES_HELP = "built-in names, or module:attribute of your own; default: all built-in ones"
SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([KMGT])i?B$", re.IGNORECASE)
UNITS_MIB = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0 * 1024.0}
TIME = re.compile(r"^(\d+(?:\.\d+)?)\s*(ms|s)$")
TIME_UNITS_MS = {"ms": 1.0, "s": 1_000.0}
MAX_STEP_MS = 10_000.0
N = TypeVar("N", int, float)


class Parser(argparse.ArgumentParser):
    """Raises its errors, so that they come out as all others do."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))


def add_pipelines(command: argparse.ArgumentParser) -> None:
    """The pipelines that a command is about."""
    command.add_argument("pipelines", nargs="*", metavar="PIPELINE", help=PIPELINES_HELP)


def add_functions(command: argparse.ArgumentParser) -> None:
    """What belongs to a pipeline that is a plain generator function."""
    command.add_argument(
        "--map",
        metavar="MODULE:FUNCTION",
        help="the map of a plain generator function, in TensorFlow ops",
    )
    command.add_argument(
        "--model",
        metavar="MODULE:FUNCTION",
        help="returns the compiled Keras model that a plain generator function feeds",
    )
    command.add_argument(
        "--step-time",
        type=milliseconds,
        metavar="TIME",
        help="like 5ms: sleep so long in place of a model's training step",
    )


def add_model_options(command: argparse.ArgumentParser) -> None:
    """How the model of any pipeline computes, whatever its `build_model` says."""
    command.add_argument(
        "--mixed-precision",
        type=precision,
        nargs="?",
        const=PRECISIONS[0],
        metavar="|".join(PRECISIONS),
        help="build the model under Keras's policy mixed_float16, or mixed_bfloat16, which wants "
        "an A100 or later; default: the model's own",
    )
    command.add_argument(
        "--jit-compile",
        action="store_true",
        help="compile the model's step with XLA; default: as the model is compiled",
    )


def add_tune_options(command: argparse.ArgumentParser) -> None:
    """The options of `tune`: each is named after its field of `TuneRequest`."""
    add = command.add_argument
    add(
        "--trials",
        type=number(int, 1),
        metavar="N",
        help="trials a pipeline, those of a resumed study included; default: 24, or as many "
        "as fit into 20 s; those that the diagnosis predicts are always run",
    )
    add(
        "--time-budget",
        dest="time_budget_s",
        type=number(float, 0.0, above=True),
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
        type=number(int, 1, MAX_BATCH_SIZE),
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
        type=number(float, 0.0),
        metavar="SECONDS",
        help="rounds beyond the least number begin only within this time; default: 110",
    )
    add(
        "--tolerance",
        type=number(float, 0.0, 0.5),
        metavar="SHARE",
        help="of the best rate that may be given up for less memory; default: 0.02",
    )
    add_measuring(command)
    add("--study", metavar="NAME", help="name of the study; the same name resumes it")
    add(
        "--trial-timeout",
        dest="trial_timeout_s",
        type=number(float, 0.1, 86_400.0),
        metavar="SECONDS",
        help="a trial that takes longer is killed; default: 90",
    )
    add_store(command)
    add_json(command)


def add_rounds(command: argparse.ArgumentParser) -> None:
    """How long a confirmation is."""
    command.add_argument(
        "--rounds",
        type=number(int, LEAST_ROUNDS, 10_000),
        metavar="N",
        help=f"rounds of the confirmation, at least {LEAST_ROUNDS}, which is the default",
    )


def add_rerun_options(command: argparse.ArgumentParser) -> None:
    """Which run, and whether its code may run here."""
    command.add_argument("run", metavar="RUN_ID", help="of a trial, a round or a whole study")
    command.add_argument(
        "pipeline",
        nargs="?",
        metavar="PIPELINE",
        help="the pipeline that it measured; needed for one that is not built in",
    )
    command.add_argument(
        "--trust", action="store_true", help="run the code that the run names, whatever it is"
    )
    command.add_argument(
        "--rounds",
        type=number(int, 1, 10_000),
        metavar="N",
        help="measure so often, for more certainty; default: 1",
    )


def add_selftest_options(command: argparse.ArgumentParser) -> None:
    """What is compared with itself, and how often."""
    command.add_argument(
        "pipeline", nargs="?", default="simple", metavar="PIPELINE", help="default: simple"
    )
    command.add_argument(
        "--comparisons",
        type=number(int, 1, 10_000),
        default=40,
        metavar="N",
        help="default: 40, some twenty minutes",
    )
    add_rounds(command)


def add_measuring(command: argparse.ArgumentParser) -> None:
    """Where and from what seed something is measured."""
    command.add_argument(
        "--device",
        choices=("auto", "cpu", "gpu"),
        help="where training steps run; default: a GPU where there is one",
    )
    command.add_argument(
        "--seed",
        type=number(int, 0, 2**31 - 1),
        metavar="N",
        help="of generator, model and sampler; default: 0",
    )


def add_store(command: argparse.ArgumentParser) -> None:
    """Where studies and runs are kept."""
    command.add_argument(
        "--storage", metavar="URL", help="Optuna storage; default: mlruns/optuna.db"
    )
    command.add_argument(
        "--tracking-uri",
        metavar="URL",
        help="MLflow; default: MLFLOW_TRACKING_URI, else mlruns/mlflow.db",
    )


def add_json(command: argparse.ArgumentParser) -> None:
    """A file for what the table says, and more."""
    command.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")


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


def milliseconds(text: str) -> float:
    """An argument type: a time with a unit (`5ms`, `0.2s`) in milliseconds."""
    match = TIME.match(text.strip())
    if match is None or not 0 < float(match[1]) * TIME_UNITS_MS[match[2]] <= MAX_STEP_MS:
        raise argparse.ArgumentTypeError(f"must be a time like 5ms, up to 10s, not {text!r}")
    return float(match[1]) * TIME_UNITS_MS[match[2]]


def precision(text: str) -> str:
    """An argument type: what a mixed precision computes in."""
    if text not in PRECISIONS:
        raise argparse.ArgumentTypeError(
            f"must be {' or '.join(PRECISIONS)}, not {text!r}; pipelines go before it"
        )
    return text


def memory_mib(text: str) -> float:
    """An argument type: a size with a unit (`512MiB`, `2GiB`, also `2GB`, as binary) in MiB."""
    match = SIZE.match(text.strip())
    if match is None or float(match[1]) <= 0:
        raise argparse.ArgumentTypeError(f"must be a size like 512MiB or 2GiB, not {text!r}")
    return float(match[1]) * UNITS_MIB[match[2].upper()]

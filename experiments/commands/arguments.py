"""Options that several commands share, and how a command joins the program."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from prefetch_tuning.experiments.commands.values import milliseconds, number, precision
from prefetch_tuning.experiments.errors import UsageError
from prefetch_tuning.experiments.settings import LEAST_ROUNDS, Rounds, Seed
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.target import PRECISIONS, compose

Commands = argparse._SubParsersAction  # argparse has no public name for it
Handler = Callable[[argparse.Namespace], int]
PIPELINES_HELP = "built-in names, or your own as file.py:name; default: all built-in ones"


class Parser(argparse.ArgumentParser):
    """Raises its errors, so that they come out as all others do."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))


def add_command(
    commands: Commands[argparse.ArgumentParser], name: str, handler: Handler, text: str
) -> argparse.ArgumentParser:
    """A new command of the program; its options are added to what is returned."""
    command = commands.add_parser(name, help=text, description=text)
    command.set_defaults(handler=handler)
    return command


def add_pipelines(command: argparse.ArgumentParser) -> None:
    """The pipelines that a command is about."""
    command.add_argument("pipelines", nargs="*", metavar="PIPELINE", help=PIPELINES_HELP)


def add_functions(command: argparse.ArgumentParser) -> None:
    """What belongs to a pipeline that is a plain generator function."""
    command.add_argument(
        "--map",
        metavar="FILE:FUNCTION",
        help="the map of a plain generator function, in TensorFlow ops",
    )
    command.add_argument(
        "--model",
        metavar="FILE:FUNCTION",
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


def add_rounds(command: argparse.ArgumentParser) -> None:
    """How long a confirmation is."""
    command.add_argument(
        "--rounds",
        type=number(Rounds),
        metavar="N",
        help=f"rounds of the confirmation, at least {LEAST_ROUNDS}, which is the default",
    )


def add_measuring(command: argparse.ArgumentParser) -> None:
    """Where and from what seed something is measured."""
    command.add_argument(
        "--device",
        choices=("auto", "cpu", "gpu"),
        help="where training steps run; default: a GPU where there is one",
    )
    command.add_argument(
        "--seed",
        type=number(Seed),
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


def store_of(options: argparse.Namespace) -> Store:
    """Where the results of this call are kept."""
    return Store.choose(Path.cwd(), options.storage, options.tracking_uri)


def targets_of(options: argparse.Namespace) -> list[str]:
    """The pipelines that were named as `module:attribute`, each with what was said beside it.

    Raises:
        PipelineError: no such pipeline.
        UsageError: it is not clear which one the options belong to.
    """
    targets = [catalog.resolve(name) for name in options.pipelines]
    functions = (options.map, options.model, options.step_time)
    if functions != (None, None, None):
        _check_functions(options, targets)
    elif options.mixed_precision or options.jit_compile:
        targets = targets or [catalog.resolve(name) for name in catalog.names()]
    precision, jit = options.mixed_precision, options.jit_compile
    return [compose(target, *functions, precision=precision, jit=jit) for target in targets]


def _check_functions(options: argparse.Namespace, targets: Sequence[str]) -> None:
    if options.model is not None and options.step_time is not None:
        raise UsageError("--model and --step-time: a step either trains or sleeps; leave one out")
    if len(targets) != 1:
        raise UsageError(
            "--map, --model and --step-time belong to one generator function; name just that one"
        )


def check_json_file(path: Path | None) -> None:
    """Raises UsageError where the results could not be written at the end."""
    if path is None:
        return
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir():
        raise UsageError(f"--json {path}: not a file in a folder that exists")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"--json {path}: the folder {folder} is not writable")

"""Options that several commands share, and the function that adds a command to the program."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from prefetch_tuning.experiments.commands.values import batch_sizes, number, precision, step_time
from prefetch_tuning.experiments.errors import UsageError
from prefetch_tuning.experiments.settings import (
    LEAST_ROUNDS,
    TRIAL_TIMEOUT_S,
    FitNumber,
    Rounds,
    Seed,
    TrialTimeoutS,
)
from prefetch_tuning.experiments.storage.emulated import emulated_step
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.step_time import StepTime
from prefetch_tuning.pipelines.target import PRECISIONS, Target, compose

Commands = argparse._SubParsersAction  # argparse has no public name for it
Handler = Callable[[argparse.Namespace], int]
PIPELINES_HELP = (
    "names of built-in pipelines, your own as file.py:name, or a training script as train.py, with "
    "its own arguments after --; default: all built-in ones that don't need a GPU"
)


class Parser(argparse.ArgumentParser):
    """Raises its errors, so `main` prints them like all others."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))


def add_command(
    commands: Commands[argparse.ArgumentParser], name: str, handler: Handler, text: str
) -> argparse.ArgumentParser:
    """Adds a command to the program and returns its parser, which takes the options."""
    command = commands.add_parser(name, help=text, description=text)
    command.set_defaults(handler=handler)
    return command


def add_pipelines(command: argparse.ArgumentParser) -> None:
    """Adds the pipelines that a command works on."""
    command.add_argument("pipelines", nargs="*", metavar="PIPELINE", help=PIPELINES_HELP)


def add_functions(command: argparse.ArgumentParser) -> None:
    """Adds the functions that complete a user's generator, dataset function or PyDataset."""
    command.add_argument(
        "--map",
        metavar="FILE:FUNCTION",
        help="map function for the elements of a plain generator function, in TensorFlow ops",
    )
    command.add_argument(
        "--model",
        metavar="FILE:FUNCTION",
        help="function that returns the compiled Keras model to train; for a generator function, a "
        "dataset function or a PyDataset",
    )


def add_emulated(command: argparse.ArgumentParser) -> None:
    """Adds the accelerator whose step takes the place of the model's."""
    emulated = command.add_mutually_exclusive_group()
    emulated.add_argument(
        "--step-time",
        type=step_time,
        metavar="TIME",
        help="emulate an accelerator whose training step takes this long: 12ms, 0.56ms/example or "
        "4ms+0.1ms/example",
    )
    emulated.add_argument(
        "--accelerator",
        metavar="NAME",
        help="emulate a known accelerator, like resnet50-h100 (prefetch-tune accelerators lists "
        "them), or a step that prefetch-tune step-time measured, as runs:/RUN_ID",
    )


def add_model_options(command: argparse.ArgumentParser) -> None:
    """Adds the options that override how any pipeline's model computes."""
    command.add_argument(
        "--mixed-precision",
        type=precision,
        nargs="?",
        const=PRECISIONS[0],
        metavar="|".join(PRECISIONS),
        help="build the model under Keras's policy mixed_float16 (also without a value) or "
        "mixed_bfloat16, which on a GPU needs an A100 or later; default: the model's own policy",
    )
    command.add_argument(
        "--jit-compile",
        action="store_true",
        help="compile the model's step with XLA; default: as the model was compiled",
    )


def add_fit(command: argparse.ArgumentParser) -> None:
    """Adds which `fit` of a training script is meant."""
    command.add_argument(
        "--fit",
        type=number(FitNumber),
        metavar="N",
        help="for a training script with several calls of fit on data from Python: which one is "
        "meant; default: 1",
    )


def add_trial_timeout(command: argparse.ArgumentParser) -> None:
    """Adds after how long a measurement is killed."""
    command.add_argument(
        "--trial-timeout",
        dest="trial_timeout_s",
        type=number(TrialTimeoutS),
        metavar="SECONDS",
        help=f"kill a trial that takes longer; default: {TRIAL_TIMEOUT_S:g}",
    )


def add_script(command: argparse.ArgumentParser) -> None:
    """Adds what only a training script has; its own arguments follow `--`."""
    add_fit(command)
    command.add_argument(
        "--batch-sizes",
        type=batch_sizes,
        metavar="N,N",
        help="for a training script: the batch sizes to search, like 32,64; default: its own",
    )


def add_rounds(command: argparse.ArgumentParser, what: str) -> None:
    """Adds the number of rounds; `what` says of what."""
    command.add_argument(
        "--rounds",
        type=number(Rounds),
        metavar="N",
        help=f"{what}; at least {LEAST_ROUNDS}, which is the default",
    )


def add_measuring(command: argparse.ArgumentParser) -> None:
    """Adds the device and the seed of a measurement."""
    command.add_argument(
        "--device",
        choices=("auto", "cpu", "gpu"),
        help="where the training steps run; default: auto, a GPU if there is one",
    )
    command.add_argument(
        "--seed",
        type=number(Seed),
        metavar="N",
        help="seed of the generator, the model and the sampler; default: 0",
    )


def add_cluster(command: argparse.ArgumentParser) -> None:
    """Adds the cluster whose nodes measure in place of this host."""
    command.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="measure on the nodes of a Ray cluster: auto, ray://HOST:PORT, HOST:PORT, or local:N "
        "for N nodes on this host; default: on this host, without Ray",
    )
    command.add_argument(
        "--mixed-hosts",
        action="store_true",
        help="with --cluster: also use nodes that differ in processor, cores or GPU",
    )
    add_generator_cluster(command)


def add_generator_cluster(command: argparse.ArgumentParser) -> None:
    """Adds the cluster whose nodes run the generator's processes."""
    command.add_argument(
        "--generator-cluster",
        metavar="ADDRESS",
        help="run those generator_workers that this host has no cores for on the nodes of a Ray "
        "cluster, of which this host is one: auto, HOST:PORT, or local:N",
    )


def add_store(command: argparse.ArgumentParser) -> None:
    """Adds where studies and runs are kept."""
    command.add_argument(
        "--storage",
        metavar="URL",
        help="Optuna storage, like sqlite:///results.db; default: mlruns/optuna.db",
    )
    add_tracking(command)


def add_tracking(command: argparse.ArgumentParser) -> None:
    """Adds the address of MLflow."""
    command.add_argument(
        "--tracking-uri",
        metavar="URL",
        help="address of MLflow, like http://host:5000; default: MLFLOW_TRACKING_URI if it is set, "
        "otherwise mlruns/mlflow.db",
    )


def add_json(command: argparse.ArgumentParser) -> None:
    """Adds a file for the results, with more than the table shows."""
    command.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the results to this file, as JSON"
    )


def say(text: str) -> None:
    """Prints a note beside the results."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def store_of(options: argparse.Namespace) -> Store:
    """The store that this call reads and writes."""
    return Store.choose(Path.cwd(), options.storage, options.tracking_uri)


def targets_of(options: argparse.Namespace) -> list[str]:
    """The targets of the selected pipelines, each with its functions and model options.

    Raises:
        PipelineError: there is no such pipeline, or a function's name is malformed.
        UsageError: --map or --model don't belong to exactly one pipeline, or contradict an
            emulated step.
    """
    targets = [catalog.resolve(name) for name in options.pipelines]
    step = emulated_step(
        getattr(options, "step_time", None),
        getattr(options, "accelerator", None),
        getattr(options, "tracking_uri", None),
    )
    if step and getattr(options, "device", None) == "gpu":
        raise UsageError(
            "an emulated step runs on no device: leave out --device gpu or the emulated step"
        )
    fit, args = getattr(options, "fit", None), getattr(options, "script_args", ())
    if args and not targets:
        raise UsageError("what follows -- are a training script's arguments; name the script")
    if (options.map, options.model) != (None, None):
        _check_functions(options, step, targets)
    elif step or options.mixed_precision or options.jit_compile:
        targets = targets or [catalog.resolve(name) for name in catalog.names()]
    precision, jit = options.mixed_precision, options.jit_compile
    return [
        compose(
            target,
            options.map,
            options.model,
            step,
            precision=precision,
            jit=jit,
            sizes=_sizes(options, target),
            fit=fit,
            args=args,
        )
        for target in targets
    ]


def _sizes(options: argparse.Namespace, target: str) -> Sequence[int] | None:
    """The batch sizes of a script, at which its step is measured."""
    given: Sequence[int] | None = getattr(options, "batch_sizes", None)
    one = getattr(options, "batch_size", None)
    if given is None and one is not None and Target.parse(target).is_script:
        return (one,)
    return given


def _check_functions(
    options: argparse.Namespace, step: StepTime | None, targets: Sequence[str]
) -> None:
    if options.model is not None and step is not None:
        raise UsageError(
            "--model and --step-time or --accelerator: a step is either the model's or emulated; "
            "leave one out"
        )
    if len(targets) != 1:
        raise UsageError(
            "--map and --model belong to exactly one generator function, dataset function or "
            f"PyDataset; name one pipeline, not {len(targets)}"
        )


def check_json_file(path: Path | None) -> None:
    """Raises UsageError now if the results could not be written at the end."""
    if path is None:
        return
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir():
        raise UsageError(f"--json {path}: not a file in an existing folder; choose another path")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"--json {path}: the folder {folder} is not writable; choose another")

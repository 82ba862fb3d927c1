"""The command line: arguments in, tables out; the work is done in the other modules.

Modules that take seconds to import (Optuna, MLflow) are imported inside the commands, after what
can be refused at once has been refused and while the fork server imports TensorFlow.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from experiments.arguments import Parser, add_pipelines, add_tune_options
from experiments.errors import UsageError
from experiments.store import Store
from objectives.isolation import TrialRunner, WorkerError
from pipelines import catalog
from pipelines.source import PipelineError

EXIT_MISUSE, EXIT_INTERRUPTED = 2, 130


def run() -> NoReturn:
    """The `prefetch-tune` program."""
    sys.exit(main(sys.argv[1:] or ["--help"]))


def main(arguments: Sequence[str]) -> int:
    """Runs one command; returns its exit code. An error that a person can act on is one line."""
    try:
        options = parser().parse_args(arguments)
        code: int = options.handler(options)
    except (PipelineError, UsageError, WorkerError) as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_MISUSE
    except KeyboardInterrupt:
        sys.stderr.write("interrupted before anything was measured\n")
        return EXIT_INTERRUPTED
    return code


def tune(options: argparse.Namespace) -> int:
    """`prefetch-tune tune`."""
    began = time.monotonic()
    for name in options.pipelines:
        catalog.resolve(name)
    check_json_file(options.json)
    store = Store.choose(Path.cwd(), options.storage, options.tracking_uri)
    with TrialRunner() as runner:
        from experiments.tuning import TuneRequest, run_and_report

        request = TuneRequest(
            pipelines=options.pipelines,
            trials=options.trials,
            time_budget_s=options.time_budget,
            batch_size=options.batch_size,
            memory_limit_mib=options.memory_limit,
            device=options.device,
            seed=options.seed,
            study=options.study,
            trial_timeout_s=options.trial_timeout,
        )
        return run_and_report(request, store, runner, options.json, began)


def list_pipelines(options: argparse.Namespace) -> int:
    """`prefetch-tune pipelines`."""
    from experiments.summary import print_pipelines
    from objectives.measurement import TrialFailure

    targets = [catalog.resolve(name) for name in options.pipelines or catalog.names()]
    infos = []
    with TrialRunner() as runner:
        for target in targets:
            info = runner.inspect(target, seed=0, device="auto")
            if isinstance(info, TrialFailure):
                raise PipelineError(info.detail)
            infos.append(info)
    print_pipelines(Console(), infos)
    return 0


def parser() -> argparse.ArgumentParser:
    """All commands."""
    top = Parser(
        prog="prefetch-tune",
        description="Find the tf.data settings that feed your model fastest from a generator.",
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    tuning = commands.add_parser("tune", help="search the settings by short training runs")
    add_pipelines(tuning)
    add_tune_options(tuning)
    tuning.set_defaults(handler=tune)
    listing = commands.add_parser("pipelines", help="list what there is to tune")
    add_pipelines(listing)
    listing.set_defaults(handler=list_pipelines)
    return top


def check_json_file(path: Path | None) -> None:
    """Raises UsageError where the results could not be written at the end."""
    if path is None:
        return
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir():
        raise UsageError(f"--json {path}: not a file in a folder that exists")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"--json {path}: the folder {folder} is not writable")

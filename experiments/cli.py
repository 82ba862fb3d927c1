"""The command line: arguments in, tables out; the work is done in the other modules.

Modules that take seconds to import (Optuna, MLflow) are imported inside the commands, after what
can be refused at once has been refused and while the fork server imports TensorFlow.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from prefetch_tuning.experiments.commands.arguments import (
    Parser,
    add_functions,
    add_json,
    add_measuring,
    add_model_options,
    add_pipelines,
    add_rerun_options,
    add_rounds,
    add_selftest_options,
    add_store,
    add_tune_options,
)
from prefetch_tuning.experiments.commands.new import write_starter
from prefetch_tuning.experiments.errors import EXIT_INTERRUPTED, EXIT_MISUSE, EXIT_OK, UsageError
from prefetch_tuning.experiments.settings import LEAST_ROUNDS, TuneRequest
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.objectives.process.runner import TrialRunner, WorkerError
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.source import PipelineError
from prefetch_tuning.pipelines.target import compose

Handler = Callable[[argparse.Namespace], int]


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
    options.pipelines = _selectors(options)
    check_json_file(options.json)
    store = _store(options)
    given = {key: value for key, value in vars(options).items() if value is not None}
    request = TuneRequest(**{key: given[key] for key in TuneRequest.model_fields if key in given})
    with TrialRunner() as runner:
        from prefetch_tuning.experiments.commands.reporting import tune_and_report

        return tune_and_report(request, store, runner, options.json, began)


def confirm(options: argparse.Namespace) -> int:
    """`prefetch-tune confirm`."""
    began = time.monotonic()
    check_json_file(options.json)
    store = _store(options)
    with TrialRunner() as runner:
        from prefetch_tuning.experiments.commands.reporting import confirm_and_report

        more = options.rounds or LEAST_ROUNDS
        return confirm_and_report(options.study, more, store, runner, options.json, began)


def report(options: argparse.Namespace) -> int:
    """`prefetch-tune report`."""
    from prefetch_tuning.experiments.commands.browsing import write_report_of

    return write_report_of(options.study, _store(options), options.out)


def list_studies(options: argparse.Namespace) -> int:
    """`prefetch-tune studies`."""
    from prefetch_tuning.experiments.commands.browsing import list_studies

    return list_studies(_store(options))


def show(options: argparse.Namespace) -> int:
    """`prefetch-tune show`."""
    from prefetch_tuning.experiments.commands.browsing import show

    return show(options.name, _store(options))


def rerun(options: argparse.Namespace) -> int:
    """`prefetch-tune rerun`."""
    check_json_file(options.json)
    store = _store(options)
    from prefetch_tuning.experiments.commands.reporting import rerun_and_report

    rounds = options.rounds or 1
    return rerun_and_report(
        options.run, options.pipeline, rounds, store, options.json, trust=options.trust
    )


def diagnose(options: argparse.Namespace) -> int:
    """`prefetch-tune diagnose`."""
    targets = _selectors(options) or [catalog.resolve(name) for name in catalog.names()]
    check_json_file(options.json)
    with TrialRunner() as runner:
        from prefetch_tuning.experiments.commands.reporting import diagnose_and_report

        return diagnose_and_report(
            targets, options.seed or 0, options.device or "auto", runner, options.json
        )


def selftest(options: argparse.Namespace) -> int:
    """`prefetch-tune selftest`."""
    target = catalog.resolve(options.pipeline)
    check_json_file(options.json)
    store = _store(options)
    with TrialRunner() as runner:
        from prefetch_tuning.experiments.study.selftest import SelfTestRequest, selftest_and_report

        request = SelfTestRequest(
            target=target,
            comparisons=options.comparisons,
            rounds=options.rounds or LEAST_ROUNDS,
            seed=options.seed or 0,
            device=options.device or "auto",
        )
        return selftest_and_report(request, store, runner, options.json)


def new(options: argparse.Namespace) -> int:
    """`prefetch-tune new`."""
    selector = write_starter(options.file)
    print(f"{options.file} is there; tune it with: prefetch-tune tune {selector}")  # noqa: T201
    return EXIT_OK


def list_pipelines(options: argparse.Namespace) -> int:
    """`prefetch-tune pipelines`."""
    from prefetch_tuning.experiments.report.terminal import print_pipelines

    targets = [catalog.resolve(name) for name in options.pipelines or catalog.names()]
    with TrialRunner() as runner:
        infos = [runner.describe(target, seed=0, device="auto") for target in targets]
    print_pipelines(Console(), infos, () if options.pipelines else catalog.heavy_names())
    return 0


def parser() -> argparse.ArgumentParser:
    """All commands."""
    top = Parser(
        prog="prefetch-tune",
        description="Find the tf.data settings that feed your model fastest from a generator.",
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, handler: Handler, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(handler=handler)
        return command

    command = add("tune", tune, "search the settings by short training runs, and confirm the best")
    add_pipelines(command)
    add_functions(command)
    add_model_options(command)
    add_tune_options(command)
    command = add("diagnose", diagnose, "measure what each stage costs, and name the bottleneck")
    add_pipelines(command)
    add_functions(command)
    add_model_options(command)
    add_measuring(command)
    add_json(command)
    command = add("confirm", confirm, "add rounds to a study's confirmation")
    command.add_argument("study", metavar="STUDY", help="its name, as tune printed it")
    add_rounds(command)
    add_store(command)
    add_json(command)
    command = add("report", report, "write a study's report: HTML, Markdown and code to copy")
    command.add_argument("study", metavar="STUDY", help="its name, as tune printed it")
    command.add_argument(
        "--out", type=Path, default=Path(), metavar="FOLDER", help="default: this one"
    )
    add_store(command)
    command = add("rerun", rerun, "measure a logged run again and compare")
    add_rerun_options(command)
    add_store(command)
    add_json(command)
    command = add("studies", list_studies, "list the studies that there are")
    add_store(command)
    command = add("show", show, "print one study, or one run")
    command.add_argument("name", metavar="STUDY|RUN_ID")
    add_store(command)
    command = add("selftest", selftest, "compare a configuration with itself, many times over")
    add_selftest_options(command)
    add_measuring(command)
    add_store(command)
    add_json(command)
    command = add("new", new, "write a commented pipeline to start from")
    command.add_argument("file", type=Path, metavar="FILE", help="like my_pipeline.py")
    command = add("pipelines", list_pipelines, "list what there is to tune")
    add_pipelines(command)
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


def _store(options: argparse.Namespace) -> Store:
    return Store.choose(Path.cwd(), options.storage, options.tracking_uri)


def _selectors(options: argparse.Namespace) -> list[str]:
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

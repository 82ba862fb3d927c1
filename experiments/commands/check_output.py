"""Runs a check, prints what it found, and returns the exit code."""

from __future__ import annotations

import math
from pathlib import Path

from rich.console import Console

from prefetch_tuning.experiments.commands.progress import ConsoleSteps
from prefetch_tuning.experiments.errors import EXIT_OK, EXIT_SLOWER, EXIT_UNDECIDED
from prefetch_tuning.experiments.repeat.check import Checker
from prefetch_tuning.experiments.repeat.check_sources import Source
from prefetch_tuning.experiments.repeat.checked import (
    DATA_ROUNDS,
    Check,
    CheckOptions,
    CheckRequest,
)
from prefetch_tuning.experiments.report.text import plural, rate
from prefetch_tuning.experiments.storage.results import write_json
from prefetch_tuning.experiments.verdict.equivalence import LOOKS, Equivalence
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.pipelines.config import PipelineConfig

EXITS = {
    "not slower": EXIT_OK,
    "slower": EXIT_SLOWER,
    "failed": EXIT_SLOWER,
    "undecided": EXIT_UNDECIDED,
}
AUTOTUNE_SAID = "AUTOTUNE"


def check_and_report(
    source: Source,
    other: Source | None,
    how: CheckOptions,
    runner: TrialRunner,
    json_file: Path | None,
) -> int:
    """Measures, prints and writes; `other` is None for AUTOTUNE.

    Returns 0 if it is not slower by more than the margin, 3 if it is or if it fails, 4 if that
    wasn't decided in time.
    """
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    runner.say = notes.print
    info = runner.inspect(how.target, how.seed, how.device)
    autotune = PipelineConfig.autotune(source.config.batch_size, **info.own)
    request = CheckRequest(
        **how.model_dump(),
        source=source.said,
        against=other.said if other else AUTOTUNE_SAID,
        configs={"checked": source.config, "reference": other.config if other else autotune},
    )
    notes.print(
        f"{info.name}: {source.config}, against {request.against}; at most {_time(how.time_s)}",
        markup=False,
    )
    steps = ConsoleSteps(notes, info.name, "round", 0, LOOKS[-1], how.time_s)
    # A line per round would fill the log of a CI job.
    show = steps.advance if notes.is_terminal else lambda _: None
    with steps.shown():
        found = Checker(info.name, request, runner, show, steps.warn).run()
    if json_file is not None:
        write_json(found, json_file)
    console = Console(highlight=False, soft_wrap=True)
    for line in lines(found):
        console.print(line, markup=False)
    if found.outcome == "undecided":
        for problem in found.problems:
            notes.print(f"warning: {problem}", style="yellow", markup=False)
    return EXITS[found.outcome]


def lines(check: Check) -> list[str]:
    """The lines that tell the result."""
    request, found = check.request, check.found
    told = [f"{check.pipeline}: {_verdict(check)}"]
    if found is not None:
        rates = check.examples_per_s
        told += [
            f"  ratio   {_ratio(found, request.against)}",
            f"  rates   {rate(rates['checked'])} examples/s; "
            f"{request.against}: {rate(rates['reference'])}",
        ]
    noise = f"; a single measurement varies by {found.noise:.1%}" if found else ""
    count = plural(found.rounds if found else 0, "round")
    told.append(f"  rounds  {count} in {check.wall_s:.0f} s{noise}")
    if found is not None and found.visible_slowdown is not None:
        told.append(f"  sees    {_visible(found.visible_slowdown)}")
    told += [f"  failed  {line}" for line in check.failures]
    if found is not None and found.rounds >= DATA_ROUNDS and not check.data_checked:
        reordered = any(config.reorder for config in request.configs.values())
        why = f"{request.against}'s own differs from run to run"
        why = "its order may differ from run to run" if reordered else why
        told.append(f"  data    not compared: {why}")
    return told


def _verdict(check: Check) -> str:
    request = check.request
    by = f"than {request.against} by more than {100 * request.margin:g}%"
    if check.outcome == "failed":
        return f"FAILED: {request.source} cannot be measured, but {request.against} can"
    if check.outcome == "slower":
        return f"SLOWER {by}"
    if check.outcome == "not slower":
        return f"not slower {by}"
    if check.found is None or check.found.rounds < LOOKS[0]:
        return f"UNDECIDED: the test needs at least {LOOKS[0]} rounds; give more --time"
    if check.found.rounds >= LOOKS[-1]:
        return f"UNDECIDED after {LOOKS[-1]} rounds: too near to the margin; give another --margin"
    return f"UNDECIDED in {check.wall_s:.0f} s; give more --time, or a larger --margin"


def _ratio(found: Equivalence, against: str) -> str:
    words = f"{_times(found.ratio)} {against}"
    if not math.isfinite(found.ci.high):
        return words
    return f"{words} ({_times(found.ci.low)} to {_times(found.ci.high)})"


def _times(ratio: float) -> str:
    """A ratio; near 1 with three decimals, because a margin may be 1%."""
    return f"{ratio:.{3 if ratio < 2 else 2 if ratio < 5 else 1 if ratio < 20 else 0}f}x"


def _visible(slowdown: float) -> str:
    share = math.ceil(1_000 * slowdown) / 10
    return f"a slowdown of {share:g}% or more would have been seen in 4 of 5 checks like this"


def _time(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"

"""Runs a self-test, logs it, and prints the result."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from prefetch_tuning.experiments.commands.progress import ConsoleSteps
from prefetch_tuning.experiments.errors import EXIT_INTERRUPTED, EXIT_NO_RESULT, EXIT_OK
from prefetch_tuning.experiments.host.environment import environment_tags
from prefetch_tuning.experiments.repeat.selftest import (
    EXPECTED_SHARE,
    SelfTest,
    SelfTestRequest,
    self_test,
)
from prefetch_tuning.experiments.report.text import plural
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.results import write_json
from prefetch_tuning.experiments.storage.runs.tracking import Tracker
from prefetch_tuning.objectives.process.runner import TrialRunner

SOUND = "The verdicts can be trusted."
UNSOUND = "That is too many: don't trust verdicts on this host."


def selftest_and_report(
    request: SelfTestRequest, store: Store, runner: TrialRunner, json_file: Path | None
) -> int:
    """Runs, logs and prints a self-test; returns the exit code.

    0: the verdicts can be trusted on this host; 1: too many were false; 130: interrupted.
    """
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    info = runner.inspect(request.target, request.seed, request.device)
    store.create()
    tracker = Tracker(store)
    steps = ConsoleSteps(notes, f"{info.name} against itself", "comparison", 0, request.comparisons)
    with steps.shown():
        found = self_test(
            request, info, runner, lambda r: steps.advance(f"ratio {r.ratio:.3f}, {r.verdict}")
        )
    # First, because MLflow may be gone by now.
    if json_file is not None:
        write_json(found, json_file)
    for line in lines(found):
        Console(highlight=False, soft_wrap=True).print(line)
    for warning in found.warnings:
        notes.print(f"warning: {warning}", style="yellow", markup=False)
    _log(found, tracker)
    if len(found.ratios) < request.comparisons:
        return EXIT_INTERRUPTED
    return EXIT_OK if found.sound else EXIT_NO_RESULT


def lines(found: SelfTest) -> list[str]:
    """The lines that tell the result."""
    count = len(found.ratios)
    false = round(found.false_share * count)
    return [
        f"{found.pipeline}, {found.config}: compared with itself {count} times, with "
        f"{found.rounds} rounds each. {plural(false, 'verdict')} of faster or slower: "
        f"{found.false_share:.1%} ({found.false_ci.low:.1%} to {found.false_ci.high:.1%}); "
        f"{EXPECTED_SHARE:.0%} are expected. {SOUND if found.sound else UNSOUND}",
        f"the same configuration varies by {found.cv:.1%} from run to run (CV), and by "
        f"{found.round_cv:.1%} within a round",
        f"this host can tell apart rates that differ by more than {found.half_width:.1%} "
        f"(median half width of the intervals); measured in {found.wall_s:.0f} s",
    ]


def selftest_metrics(found: SelfTest) -> dict[str, float]:
    """The metrics of a self-test under the names of the schema, without the series of ratios."""
    return {
        "selftest/false_share": found.false_share,
        "selftest/cv": found.cv,
        "selftest/round_cv": found.round_cv,
        "selftest/half_width": found.half_width,
    }


def _log(found: SelfTest, tracker: Tracker) -> None:
    tracker.log_selftest(
        f"{found.pipeline}, {len(found.ratios)} comparisons",
        environment_tags(Path.cwd()),
        {"pipeline": found.pipeline, **found.config.to_params(), "rounds": found.rounds},
        selftest_metrics(found),
        [ratio.ratio for ratio in found.ratios],
        found.model_dump_json(indent=2),
    )

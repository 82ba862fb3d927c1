"""The A/A test: a configuration against itself, so that every difference found is a false one."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel
from rich.console import Console

from prefetch_tuning.experiments.errors import EXIT_INTERRUPTED, EXIT_NO_RESULT, EXIT_OK
from prefetch_tuning.experiments.host.environment import environment_tags
from prefetch_tuning.experiments.host.noise import host_warnings, steal_warning, stolen_s
from prefetch_tuning.experiments.storage.locations import Store
from prefetch_tuning.experiments.storage.results import write_json
from prefetch_tuning.experiments.storage.tracking import Tracker
from prefetch_tuning.experiments.study.progress import Steps
from prefetch_tuning.experiments.verdict.ratio import Ratio, ratio_to, variation
from prefetch_tuning.objectives.measurement import PipelineInfo, TrialFailure
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import Device, StopRule, TrialSpec
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.source import PipelineError

# Wrong verdicts that a 95 % interval is allowed.
EXPECTED_SHARE = 0.05
# Above this the same configuration differs so much between runs that small gains cannot be seen.
NOISY_CV = 0.05


class SelfTestRequest(BaseModel):
    """What is to be compared with itself, and how often; `rounds` a comparison."""

    target: str
    comparisons: int
    rounds: int
    seed: int = 0
    device: Device = "auto"
    stop: StopRule = StopRule()


class SelfTest(BaseModel):
    """What comparing a configuration with itself showed.

    Attributes:
        ratios: one a comparison; each has a verdict, and "faster" or "slower" is a false one.
        false_share: of the comparisons with a false verdict.
        cv: standard deviation of all runs over their mean.
        round_cv: the same within a round, the noise that is left between neighbouring runs.
        half_width: median half width of the ratios' intervals: what can be told apart here.
        warnings: what disturbs this host.
    """

    pipeline: str
    config: PipelineConfig
    rounds: int
    ratios: list[Ratio]
    false_share: float
    cv: float
    round_cv: float
    half_width: float
    warnings: list[str]
    wall_s: float


def self_test(
    request: SelfTestRequest,
    info: PipelineInfo,
    runner: TrialRunner,
    progress: Callable[[Ratio], None],
) -> SelfTest:
    """Compares a middling configuration with itself, in the way that a confirmation does.

    Ctrl-C ends it with the comparisons that there are.

    Raises:
        PipelineError: a run failed; there is nothing to compare then.
        KeyboardInterrupt: before the first comparison was done.
    """
    config, rounds = middling(info), request.rounds
    spec = TrialSpec(
        pipeline=info.target,
        config=config,
        seed=request.seed,
        device=request.device,
        stop=request.stop,
    )
    begin, stolen = time.monotonic(), stolen_s()
    warnings = host_warnings()
    order = random.Random(request.seed)  # noqa: S311 - which side runs first, no secret
    ratios: list[Ratio] = []
    pairs: list[tuple[float, float]] = []
    try:
        for _ in range(request.comparisons):
            own = [_pair(runner, spec, order) for _ in range(rounds)]
            pairs += own
            ratios.append(ratio_to([a for a, _ in own], [b for _, b in own]))
            progress(ratios[-1])
    except KeyboardInterrupt:
        if not ratios:
            raise
    wall_s = time.monotonic() - begin
    stolen_line = steal_warning(stolen, stolen_s(), wall_s)
    false = [ratio for ratio in ratios if ratio.verdict in ("faster", "slower")]
    found = SelfTest(
        pipeline=info.name,
        config=config,
        rounds=rounds,
        ratios=ratios,
        false_share=len(false) / len(ratios),
        cv=variation([rate for pair in pairs for rate in pair]),
        round_cv=statistics.median(variation(pair) for pair in pairs),
        half_width=statistics.median(ratio.half_width for ratio in ratios),
        warnings=[*warnings, *([stolen_line] if stolen_line else [])],
        wall_s=wall_s,
    )
    if found.cv > NOISY_CV:
        found.warnings.append(
            f"the same configuration differs by {found.cv:.0%} from run to run: differences under "
            f"{found.half_width:.0%} need more than {rounds} rounds here"
        )
    return found


def middling(info: PipelineInfo) -> PipelineConfig:
    """A configuration like those that win: largest batch, some look-ahead."""
    return PipelineConfig(
        batch_size=info.batch_sizes[-1],
        prefetch_buffer=4,
        map_parallelism=2 if info.has_transform else 1,
    )


def _pair(runner: TrialRunner, spec: TrialSpec, order: random.Random) -> tuple[float, float]:
    """One round of two candidates that are the same, in random order."""
    rates = {}
    for side in order.sample(("a", "b"), 2):
        result = runner.measure(spec)
        if isinstance(result, TrialFailure):
            raise PipelineError(f"{spec.pipeline}: {result.kind}: {result.detail}")
        rates[side] = result.examples_per_s
    return rates["a"], rates["b"]


def selftest_and_report(
    request: SelfTestRequest, store: Store, runner: TrialRunner, json_file: Path | None
) -> int:
    """Runs the test, prints and logs it; returns 1 where the verdicts cannot be trusted."""
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    info = runner.describe(request.target, request.seed, request.device)
    store.create()
    tracker = Tracker(store)
    steps = Steps(notes, f"{info.name} against itself", 0, request.comparisons)
    with steps.shown():
        found = self_test(
            request, info, runner, lambda r: steps.advance(f"ratio {r.ratio:.3f}, {r.verdict}")
        )
    _log(found, tracker)
    if json_file is not None:
        write_json(found, json_file)
    for line in lines(found):
        Console(highlight=False, soft_wrap=True).print(line)
    for warning in found.warnings:
        notes.print(f"warning: {warning}", style="yellow", markup=False)
    if len(found.ratios) < request.comparisons:
        return EXIT_INTERRUPTED
    return EXIT_OK if found.false_share <= EXPECTED_SHARE else EXIT_NO_RESULT


def lines(found: SelfTest) -> list[str]:
    """The result in words."""
    count = len(found.ratios)
    false = round(found.false_share * count)
    return [
        f"{found.pipeline}, {found.config}: {false} of {count} comparisons with itself came out "
        f"faster or slower ({found.false_share:.1%}; up to {EXPECTED_SHARE:.0%} is expected), "
        f"{found.rounds} rounds each",
        f"the same configuration varies by {found.cv:.1%} from run to run (CV), by "
        f"{found.round_cv:.1%} within a round",
        f"so this host tells apart what differs by more than {found.half_width:.1%} "
        f"(median half width of the intervals); {found.wall_s:.0f} s",
    ]


def _log(found: SelfTest, tracker: Tracker) -> None:
    tracker.log_selftest(
        f"{found.pipeline}, {len(found.ratios)} comparisons",
        environment_tags(Path.cwd()),
        {"pipeline": found.pipeline, **found.config.to_params(), "rounds": found.rounds},
        {
            "selftest/false_share": found.false_share,
            "selftest/cv": found.cv,
            "selftest/round_cv": found.round_cv,
            "selftest/half_width": found.half_width,
        },
        [ratio.ratio for ratio in found.ratios],
        found.model_dump_json(indent=2),
    )

"""The A/A test: compares a configuration with itself, so every difference it finds is false."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable

from pydantic import BaseModel
from scipy import stats

from prefetch_tuning.experiments.host.noise import host_warnings, steal_warning, stolen_s
from prefetch_tuning.experiments.verdict.ratio import Ratio, ratio_to, variation
from prefetch_tuning.objectives.measurement import Interval, TrialFailure
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import Device, StopRule, TrialSpec
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.source import PipelineError

# Share of wrong verdicts that a 95% interval allows.
EXPECTED_SHARE = 0.05
# A sound host gives more false verdicts than the self-test allows in at most this share of runs.
FALSE_ALARMS = 0.01
# Above this run-to-run variation (CV), small gains cannot be seen.
NOISY_CV = 0.05


class SelfTestRequest(BaseModel):
    """What to compare with itself, and how often; `rounds` is per comparison."""

    target: str
    comparisons: int
    rounds: int
    seed: int = 0
    device: Device = "auto"
    stop: StopRule = StopRule()


class SelfTest(BaseModel):
    """The result of comparing a configuration with itself.

    Attributes:
        ratios: one per comparison. Its verdict is false if it is "faster" or "slower".
        false_share: share of the comparisons with a false verdict.
        false_ci: its 95% interval (Clopper and Pearson, exact).
        sound: whether that many false verdicts are plausible if a verdict is false as often as
            expected, by an exact binomial test.
        cv: coefficient of variation of all runs: standard deviation over mean.
        round_cv: the same within a round, pooled over the rounds: the noise that remains between
            consecutive runs.
        half_width: median half width of the ratios' intervals, as a share. Smaller differences
            cannot be told apart on this host.
        warnings: what disturbs this host.
    """

    pipeline: str
    config: PipelineConfig
    rounds: int
    ratios: list[Ratio]
    false_share: float
    false_ci: Interval
    sound: bool
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
    """Compares a typical configuration with itself, in the same way as a confirmation.

    Ctrl-C ends it and keeps the comparisons that are complete.

    Raises:
        PipelineError: a run failed, so there is nothing to compare.
        KeyboardInterrupt: interrupted before the first comparison was complete.
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
    order = random.Random(request.seed)  # noqa: S311 - which side runs first is no secret
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
    false = sum(ratio.verdict in ("faster", "slower") for ratio in ratios)
    false_ci, sound = judge(false, len(ratios))
    found = SelfTest(
        pipeline=info.name,
        config=config,
        rounds=rounds,
        ratios=ratios,
        false_share=false / len(ratios),
        false_ci=false_ci,
        sound=sound,
        cv=variation([rate for pair in pairs for rate in pair]),
        round_cv=math.sqrt(statistics.fmean(variation(pair) ** 2 for pair in pairs)),
        half_width=statistics.median(ratio.half_width for ratio in ratios),
        warnings=[*warnings, *([stolen_line] if stolen_line else [])],
        wall_s=wall_s,
    )
    if found.cv > NOISY_CV:
        found.warnings.append(
            f"the same configuration differs by {found.cv:.0%} from run to run: differences below "
            f"{found.half_width:.0%} need more than {rounds} rounds on this host"
        )
    return found


def judge(false: int, comparisons: int) -> tuple[Interval, bool]:
    """The interval of the share of false verdicts, and whether a sound host gives that many."""
    found = stats.binomtest(false, comparisons, EXPECTED_SHARE, alternative="greater")
    ci = stats.binomtest(false, comparisons).proportion_ci(method="exact")
    return Interval(low=float(ci.low), high=float(ci.high)), bool(found.pvalue >= FALSE_ALARMS)


def middling(info: PipelineInfo) -> PipelineConfig:
    """A configuration like those that win: the largest batch and some prefetch."""
    return PipelineConfig(
        batch_size=info.batch_sizes[-1],
        prefetch_buffer=4,
        map_parallelism=2 if info.has_transform else 1,
    )


def _pair(runner: TrialRunner, spec: TrialSpec, order: random.Random) -> tuple[float, float]:
    """One round of two identical candidates, in random order; returns both rates."""
    rates = {}
    for side in order.sample(("a", "b"), 2):
        result = runner.measure(spec)
        if isinstance(result, TrialFailure):
            raise PipelineError(f"{spec.pipeline}: {result.kind}: {result.detail}")
        rates[side] = result.examples_per_s
    return rates["a"], rates["b"]

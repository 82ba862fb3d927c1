"""Looks at a rival with each of its numbers, to measure it at its best.

Each number gets one look of the usual length, and the best few get further ones, alternately.
"""

from __future__ import annotations

import statistics

from benchmarks.bench import Bench
from benchmarks.side_by_side.rivals.targets import RIVALS, target_of
from prefetch_tuning.objectives.spec import StopRule
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.source import GeneratorPipeline

PART = "looks"
# A loader's processes take long to start, and a trial starts them twice.
LOOK, DEADLINE_S = StopRule(warmup_max_s=5.0), 240.0
# So many of the best numbers get so many looks in all.
BEST, LOOKS = 3, 3


def best_number(
    bench: Bench, pipeline: str, rival: str, size: int, most: int | None = None
) -> int | None:
    """The number with the highest median rate, of the first `most`; None if none of them worked."""
    plain, loaded = PipelineConfig.autotune(size), catalog.load(pipeline)
    assert isinstance(loaded, GeneratorPipeline)
    rates: dict[int, list[float]] = {}

    def look(number: int, repeat: int) -> None:
        key, target = f"{pipeline}/{rival}/{number}/{repeat}", target_of(pipeline, rival, number)
        rate = bench.rate(PART, key, target, plain, LOOK, DEADLINE_S)
        if rate is not None:
            rates.setdefault(number, []).append(rate)

    for number in RIVALS[rival].numbers_for(loaded)[:most]:
        look(number, 0)
    best = sorted(rates, key=lambda number: -rates[number][0])[:BEST]
    if len(best) > 1:
        for repeat in range(1, LOOKS):
            for number in best:
                look(number, repeat)
    return max(best, key=lambda number: statistics.median(rates[number]), default=None)

"""Short looks at a rival with each of its numbers, to measure it at its best."""

from __future__ import annotations

from benchmarks.bench import BRIEF, Bench
from benchmarks.side_by_side.rivals.targets import RIVALS, target_of
from prefetch_tuning.pipelines.config import PipelineConfig

PART = "looks"
# A loader's processes take long to start.
LOOK, DEADLINE_S = BRIEF.model_copy(update={"warmup_max_s": 5.0}), 90.0


def best_number(
    bench: Bench, pipeline: str, rival: str, size: int, most: int | None = None
) -> int | None:
    """The number with the highest rate, of the first `most`; None if none of them worked."""
    plain = PipelineConfig.autotune(size)
    rates: dict[int, float] = {}
    for number in RIVALS[rival].numbers[:most]:
        key, target = f"{pipeline}/{rival}/{number}", target_of(pipeline, rival, number)
        rate = bench.rate(PART, key, target, plain, LOOK, DEADLINE_S)
        if rate is not None:
            rates[number] = rate
    return max(rates, key=lambda number: rates[number], default=None)

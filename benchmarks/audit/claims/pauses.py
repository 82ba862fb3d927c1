"""Checks that a study finds the buffer for a generator that pauses; 60 s per buffer judge it."""

from __future__ import annotations

from benchmarks.audit.access import NotMeasuredError
from benchmarks.audit.ground import AuditBench
from benchmarks.audit.judging import Line
from benchmarks.audit.parts import part
from prefetch_tuning.objectives.spec import StopRule
from prefetch_tuning.pipelines.config import PipelineConfig

PAUSING = "benchmarks.audit.edges:Pausing"
BUFFERS = (1, 2, 4, 8, 16, 32, 64)
LONG = StopRule(window_s=6.0, startup_s=6.0, min_windows=10, max_s=60.0, target_half_width=1e-6)
NEAR = 0.95


@part("pauses", full=True)
def pauses(bench: AuditBench) -> list[Line]:
    """Compares the recommended buffer with those from 1 to 64, over a minute each."""
    found = bench.study("pausing", PAUSING, 1).recommended
    if found is None:
        raise NotMeasuredError("pausing: nothing was recommended")
    rates: dict[int, float] = {}
    for buffer in BUFFERS:
        config = PipelineConfig(batch_size=16, prefetch_buffer=buffer, map_parallelism=1)
        rate = bench.rate("pauses", str(buffer), PAUSING, config, LONG)
        if rate is not None:
            rates[buffer] = rate
    chosen = bench.rate("pauses", "recommended", PAUSING, found, LONG)
    if chosen is None or not rates:
        raise NotMeasuredError("pausing: the recommendation or every buffer failed")
    best = max(rates, key=lambda buffer: rates[buffer])
    share = chosen / rates[best]
    said = ", ".join(f"{buffer}: {rate:,.0f}" for buffer, rate in rates.items())
    return [
        Line(
            name="a generator that pauses",
            planted="a pause of 1 s after every 5 s, before a step at 85% of the mean rate",
            expected=f"at least {NEAR:g}x the best of prefetch 1 to 64 over 60 s",
            measured=f"{share:.3f}x with {found}; examples/s by buffer: {said}",
            state="holds" if share >= NEAR else "fails",
        )
    ]

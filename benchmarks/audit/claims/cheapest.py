"""Checks that a study finds the cheapest settings that keep an emulated accelerator busy."""

from __future__ import annotations

from benchmarks.audit.ground import PLANTED, AuditBench
from benchmarks.audit.judging import Line
from benchmarks.audit.parts import part
from prefetch_tuning.pipelines.step_time import StepTime
from prefetch_tuning.pipelines.target import compose

# One process makes an element per 4 ms, so it keeps this step busy for two thirds of the time. Two
# make more than it takes.
STEP, NEEDED, STUDIES = StepTime(per_example_ms=2.7), 2, 3


@part("cheapest", full=True)
def cheapest(bench: AuditBench) -> list[Line]:
    """Counts the processes that studies recommend."""
    target = compose(PLANTED["blocking_generator"], None, None, STEP)
    found = [bench.study("cheapest", target, n).recommended for n in range(1, STUDIES + 1)]
    processes = [None if config is None else config.generator_workers for config in found]
    return [
        Line(
            name="cheapest settings for a target",
            planted=f"a generator that waits 4 ms per element before a step of {STEP}, offered 0 "
            "to 32 processes",
            expected=f"{NEEDED} processes in each of {STUDIES} studies",
            measured="; ".join(str(config) for config in found),
            state="holds" if processes == [NEEDED] * STUDIES else "fails",
        )
    ]

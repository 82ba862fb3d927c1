"""Checks that an emulated accelerator is as busy as its times say, and takes no cores itself."""

from __future__ import annotations

import time

from benchmarks.audit import judging
from benchmarks.audit.access import NotMeasuredError
from benchmarks.audit.ground import AuditBench
from benchmarks.audit.judging import Estimate, Line, judge
from benchmarks.audit.parts import part
from benchmarks.bench import paired
from prefetch_tuning.objectives.machine.emulated_accelerator import EmulatedAccelerator
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.step_time import StepTime
from prefetch_tuning.pipelines.target import compose

EDGES = "benchmarks.audit.edges"
BATCH, ROUNDS = 32, 7
STEP = StepTime(fixed_ms=30.0)
# Rows that make a batch take so long, and the share of the time that the step is then busy.
# The host's clock may put a step that is always busy a little above 1.
BUSY = {
    "rows_of_20_ms": ("at least 0.98", 0.98, 1.005),
    "rows_of_40_ms": ("0.75 ± 0.02", 0.73, 0.77),
}
MOST_CORES, SAME = 0.02, 0.02
CONFIG = PipelineConfig(batch_size=BATCH, prefetch_buffer=2, map_parallelism=1)


@part("emulated_step")
def emulated_step(bench: AuditBench) -> list[Line]:
    """Compares the utilisation of an emulated step with the times of generator and step."""
    lines = []
    for rows, (expected, low, high) in BUSY.items():
        target = compose(f"{EDGES}:{rows}", None, None, STEP)
        rounds = bench.rounds(f"emulated_step/{rows}", target, {"trial": CONFIG}, ROUNDS)
        (rates,) = paired(rounds, "trial")
        if not rates:
            raise NotMeasuredError(f"emulated_step: {rows} could not be measured")
        busy = STEP.seconds(BATCH) / BATCH
        found = judging.median([rate * busy for rate in rates])
        lines.append(
            Line(
                name=f"emulated step, {rows.replace('_', ' ')}",
                planted=f"a batch of {rows.split('_')[2]} ms before an emulated step of 30 ms",
                expected=f"utilisation {expected}",
                measured=found.text("{:.3f}"),
                state=judge(found, low=low, high=high),
            )
        )
    return lines


@part("emulated_cores")
def emulated_cores(bench: AuditBench) -> list[Line]:
    """Checks that the emulated step itself keeps no core busy."""
    cores = []
    for number in range(ROUNDS):
        line = bench.journal.find("emulated_cores", str(number))
        if line is None:
            line = bench.journal.add("emulated_cores", str(number), cores=cores_of(STEP))
        cores.append(line["cores"])
    found: Estimate = judging.median(cores)
    return [
        Line(
            name="cores of an emulated step",
            planted="emulated steps of 30 ms, one after another",
            expected=f"under {MOST_CORES:g} cores",
            measured=found.text("{:.4f}"),
            state=judge(found, high=MOST_CORES),
        )
    ]


def cores_of(step: StepTime) -> float:
    """Cores that a second of emulated steps keeps busy."""
    accelerator = EmulatedAccelerator(step, time.perf_counter, time.sleep)
    begin, cpu = time.perf_counter(), time.thread_time()
    while time.perf_counter() - begin < 1.0:
        accelerator.dispatch(BATCH)
    accelerator.synchronise()
    return (time.thread_time() - cpu) / (time.perf_counter() - begin)


@part("emulated_beside")
def emulated_beside(bench: AuditBench) -> list[Line]:
    """Checks that the emulated step doesn't slow down the pipeline before it."""
    steps = {"none": StepTime(fixed_ms=0.001), "emulated": STEP}
    rows = f"{EDGES}:rows_of_40_ms"
    targets = {name: compose(rows, None, None, step) for name, step in steps.items()}
    configs = dict.fromkeys(steps, CONFIG)
    found = bench.ratio("emulated_beside", targets, configs, ROUNDS, "none", "emulated")
    return [
        Line(
            name="a pipeline beside an emulated step",
            planted="a batch of 40 ms, before an emulated step of 30 ms and one of 0.001 ms",
            expected=f"the same rate within {SAME:.0%}",
            measured=found.text("{:.3f}x"),
            state=judge(found, low=1 - SAME, high=1 + SAME, proven=True),
        )
    ]

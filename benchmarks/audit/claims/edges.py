"""Cases that are hard to measure: a late start, large buffers, slow rows, and two protocols."""

from __future__ import annotations

from benchmarks.audit import judging
from benchmarks.audit.access import NotMeasuredError, first_guesses
from benchmarks.audit.ground import PLANTED, AuditBench
from benchmarks.audit.judging import Line, judge
from benchmarks.audit.parts import part
from prefetch_tuning.pipelines.config import PipelineConfig

EDGES = "benchmarks.audit.edges"
KNOWN_GENERATOR = "benchmarks.audit.claims.known:KnownGenerator"
ROUNDS = 5
# AUTOTUNE may choose differently each time, so equal rates are not equal exactly.
LATE_SHARE = 0.9
# Batches of 1 MiB in the two buffers that are compared, and how well their memory must be known.
SMALL, LARGE, MIB_SHARE = 2, 34, 0.25
LATEST_FIRST_BATCH_S = 0.3
PROTOCOL_ROUNDS, SAME = 9, 0.02


@part("late_start")
def late_start(bench: AuditBench) -> list[Line]:
    """Checks that AUTOTUNE is warmed up however late its first batch is."""
    targets = {"prompt": PLANTED["blocking_map"], "late": f"{EDGES}:LateBlockingMap"}
    configs = dict.fromkeys(targets, PipelineConfig.autotune(32))
    found = bench.ratio("late_start", targets, configs, ROUNDS, "prompt", "late")
    return [
        Line(
            name="AUTOTUNE after a late start",
            planted="the blocking map behind a generator that needs 3 s before its first row",
            expected=f"at least {LATE_SHARE:g}x AUTOTUNE on the same chain without the delay",
            measured=found.text(),
            state=judge(found, low=LATE_SHARE),
        )
    ]


@part("buffer_memory")
def buffer_memory(bench: AuditBench) -> list[Line]:
    """Checks that the memory of two buffers differs by what they hold."""
    target = f"{EDGES}:WideRows"
    peaks: dict[int, list[float]] = {SMALL: [], LARGE: []}
    for number in range(ROUNDS):
        for buffer, seen in peaks.items():
            config = PipelineConfig(batch_size=16, prefetch_buffer=buffer, map_parallelism=1)
            line = bench.measured("buffer_memory", f"{number:02d}/{buffer}", target, config)
            if line["examples_per_s"] is None:
                raise NotMeasuredError(f"buffer_memory: {config} failed")
            seen.append(line["host_peak_mib"])
    more = judging.median([b - a for a, b in zip(peaks[SMALL], peaks[LARGE], strict=True)])
    truth = float(LARGE - SMALL)
    return [
        Line(
            name="memory of buffers",
            planted=f"prefetch {LARGE} instead of {SMALL}, in batches of 1 MiB",
            expected=f"{truth:.0f} MiB more, within {MIB_SHARE:.0%}",
            measured=more.text("{:.1f} MiB"),
            state=judge(more, low=(1 - MIB_SHARE) * truth, high=(1 + MIB_SHARE) * truth),
        )
    ]


@part("first_batch")
def first_batch(bench: AuditBench) -> list[Line]:
    """Checks that no first trial has blocks that hold up the first batch."""
    ground = bench.ground(f"{EDGES}:SlowRows")
    guesses = first_guesses(ground.diagnosis, ground.space)
    seen = []
    for number, config in enumerate(guesses):
        line = bench.measured("first_batch", str(number), ground.info.target, config)
        if line["examples_per_s"] is None:
            raise NotMeasuredError(f"first_batch: {config} failed")
        seen.append(line["first_batch_s"])
    blocks = max(config.generator_chunk for config in guesses)
    return [
        Line(
            name="first batch",
            planted=ground.info.summary,
            expected=f"it is ready within {LATEST_FIRST_BATCH_S:g} s in every first trial",
            measured=f"at the latest after {max(seen):.2f} s, with blocks of up to {blocks}",
            state="holds" if max(seen) <= LATEST_FIRST_BATCH_S else "fails",
        )
    ]


@part("protocols")
def protocols(bench: AuditBench) -> list[Line]:
    """Checks that AUTOTUNE's longer warm-up by itself makes no difference."""
    configs = {
        "tuned": PipelineConfig(batch_size=32, prefetch_buffer=4, map_parallelism=1),
        "autotune": PipelineConfig.autotune(32),
    }
    target = KNOWN_GENERATOR
    found = bench.ratio("protocols", target, configs, PROTOCOL_ROUNDS, "autotune", "tuned")
    return [
        Line(
            name="a chain that sleeps, under two protocols",
            planted="a generator of 5 ms per element, which no setting makes faster",
            expected=f"the same rate with AUTOTUNE and without, within {SAME:.0%}",
            measured=found.text("{:.3f}x"),
            state=judge(found, low=1 - SAME, high=1 + SAME, proven=True),
        )
    ]

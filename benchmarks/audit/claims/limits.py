"""Checks that the limit is the pipeline's: a known step, a known generator, and wasted work."""

from __future__ import annotations

from benchmarks.audit import judging
from benchmarks.audit.access import limit_of
from benchmarks.audit.ground import AuditBench, MeasureLimit
from benchmarks.audit.judging import Line, judge
from benchmarks.audit.parts import part
from benchmarks.bench import paired
from prefetch_tuning.objectives.measurement import LimitTerms
from prefetch_tuning.pipelines.config import PipelineConfig

KNOWN_STEP = "benchmarks.audit.claims.known:KnownStep"
KNOWN_GENERATOR = "benchmarks.audit.claims.known:KnownGenerator"
WASTEFUL_MAP = "benchmarks.audit.claims.known:WastefulMap"
# The planted values, written out because importing them from claims/known.py imports TensorFlow.
BATCH_SIZE = 32
STEP_S, ELEMENT_S, WASTED_S = 0.030, 0.005, 0.0002

REPEATS, ROUNDS = 5, 7
# A sleep ends a little late, and so does the code around it, but it never ends early.
LATE_SHARE = 0.15
MOST_FRACTION = 0.5


@part("known_step")
def known_step(bench: AuditBench) -> list[Line]:
    """Checks the rate of a step on ready batches, whose time is known."""
    return known_step_lines(bench.limits("known_step"))


def known_step_lines(measure_limit: MeasureLimit) -> list[Line]:
    """Compares the rate of a known step with its time.

    Args:
        measure_limit: measures the limit of a target at a batch size; called several times.
    """
    truth = BATCH_SIZE / STEP_S
    found = judging.median([t.step_examples_per_s for t in _terms(measure_limit, KNOWN_STEP)])
    return [_known("known step", f"a step of {1e3 * STEP_S:g} ms per batch", truth, found)]


@part("known_generator")
def known_generator(bench: AuditBench) -> list[Line]:
    """Checks the rate of a bare generator, whose time is known."""
    return known_generator_lines(bench.limits("known_generator"))


def known_generator_lines(measure_limit: MeasureLimit) -> list[Line]:
    """Compares the rate and the limit of a known generator with its time."""
    planted = f"a generator of {1e3 * ELEMENT_S:g} ms per element that can't be split"
    terms = _terms(measure_limit, KNOWN_GENERATOR)
    alone = judging.median([t.generator_examples_per_s or 0.0 for t in terms])
    limit = judging.median([limit_of(t) for t in terms])
    return [
        _known("known generator", planted, 1.0 / ELEMENT_S, alone),
        _known("known generator, limit", planted, 1.0 / ELEMENT_S, limit),
    ]


@part("wasteful_map")
def wasteful_map(bench: AuditBench) -> list[Line]:
    """Checks that the work a configuration wastes doesn't lower the limit that judges it."""
    plain = PipelineConfig(batch_size=BATCH_SIZE, prefetch_buffer=4, map_parallelism=2)
    measure_limit = bench.limits("wasteful_map")
    limits = wasteful_map_lines(measure_limit)  # first, as the rounds say nothing without a limit
    rounds = bench.rounds("wasteful_map", WASTEFUL_MAP, {"plain": plain}, ROUNDS)
    (rates,) = paired(rounds, "plain")
    # A new `limits` starts counting again, so these calls are in the journal and measure nothing.
    limit = judging.median(
        [limit_of(t) for t in _terms(bench.limits("wasteful_map"), WASTEFUL_MAP)]
    )
    return [*limits, wasted_fraction_line(rates, limit.value)]


def wasteful_map_lines(measure_limit: MeasureLimit) -> list[Line]:
    """Checks that the limit counts the CPU time of the cheaper way to map an example."""
    found = judging.median([1e6 * t.map_cpu_s for t in _terms(measure_limit, WASTEFUL_MAP)])
    half = 1e6 * WASTED_S / 2
    return [
        Line(
            name="wasteful map, cost",
            planted=_wasted(),
            expected=f"the limit counts at most {half:g} µs per example",
            measured=found.text("{:.1f} µs"),
            state=judge(found, high=half),
        )
    ]


def wasted_fraction_line(rates: list[float], limit: float) -> Line:
    """Checks that the wasteful chain is far from the limit, instead of at its own limit.

    Args:
        rates: examples/s of the chain with the map per element, one per round.
        limit: the pipeline's limit, in examples/s.
    """
    expected = f"the map per element reaches at most {MOST_FRACTION} of the limit"
    if not rates:
        measured, state = "no round was complete", "fails"
    else:
        found = judging.median([rate / limit for rate in rates])
        measured, state = found.text("{:.3f}"), judge(found, high=MOST_FRACTION)
    return Line(
        name="wasteful map, fraction",
        planted=_wasted(),
        expected=expected,
        measured=measured,
        state=state,
    )


def _terms(measure_limit: MeasureLimit, target: str) -> list[LimitTerms]:
    return [measure_limit(target, BATCH_SIZE) for _ in range(REPEATS)]


def _known(name: str, planted: str, truth: float, found: judging.Estimate) -> Line:
    return Line(
        name=name,
        planted=planted,
        expected=f"{truth:,.0f} examples/s, at most {LATE_SHARE:.0%} less",
        measured=found.text("{:,.0f}"),
        # The resolution of a clock may make it up to one percent faster.
        state=judge(found, low=(1.0 - LATE_SHARE) * truth, high=1.01 * truth),
    )


def _wasted() -> str:
    return f"a map that burns {1e6 * WASTED_S:g} µs of CPU per example, which its batch map saves"

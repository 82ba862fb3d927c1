"""Fakes with known times and answers: a clock, feeds, measurements, costs, a runner, a tracker."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from prefetch_tuning.experiments.storage.runs.reader import LoggedRun
from prefetch_tuning.experiments.storage.runs.tracking import Tracker
from prefetch_tuning.objectives.arrivals import Arrivals
from prefetch_tuning.objectives.loop.steady_state import Taken
from prefetch_tuning.objectives.measurement import (
    Digest,
    Interval,
    LimitTerms,
    Measurement,
    Stopped,
    TrialFailure,
    Window,
)
from prefetch_tuning.objectives.pipeline_info import PipelineInfo
from prefetch_tuning.objectives.process.runner import TrialRunner
from prefetch_tuning.objectives.spec import Device, TrialSpec
from prefetch_tuning.objectives.stage_costs import StageCost, StageCosts
from prefetch_tuning.pipelines.config import STRUCTURE


class FakeClock:
    """Seconds since it was made; the time moves only when `now` is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeFeed:
    """A producer and a consumer with known times, one after the other.

    `wait_s(n, now)` is the wait for batch n (from 0) when it is asked for at `now`. `steps` is the
    number of steps that one `advance` runs.
    """

    asynchronous = False

    def __init__(
        self,
        clock: FakeClock,
        wait_s: Callable[[int, float], float],
        step_s: float = 0.0,
        steps: int = 1,
    ) -> None:
        self.clock = clock
        self.steps = steps
        self.wait_s = wait_s
        self.step_s = step_s
        self.batches = 0
        self.synchronised = 0
        self.choice: Callable[[float], object] = lambda now: None

    def advance(self) -> Taken:
        waited_s = 0.0
        for _ in range(self.steps):
            wait_s = self.wait_s(self.batches, self.clock.now)
            waited_s += wait_s
            self.clock.now += wait_s
            self.batches += 1
            self.clock.now += self.step_s
        return Taken(waited_s, 32 * self.steps, self.steps)

    def synchronise(self) -> None:
        self.synchronised += 1

    def choices(self) -> object:
        return self.choice(self.clock.now)


class FakeDevice:
    """A device that runs steps of `step_s` one after the other, behind a host that dispatches them.

    A generator needs `batch_s` for each batch. It makes the next one as soon as one is taken, so
    there is a buffer of one batch. From `slower_at` on, a step takes `slower_s`.
    """

    asynchronous = True

    def __init__(
        self,
        clock: FakeClock,
        batch_s: float,
        step_s: float,
        slower_at: float = math.inf,
        slower_s: float = 0.0,
    ) -> None:
        self.clock = clock
        self.batch_s = batch_s
        self.step_s = step_s
        self.slower_at = slower_at
        self.slower_s = slower_s
        self._made_at = clock.now + batch_s
        self._done_at = clock.now

    def advance(self) -> Taken:
        wait_s = max(self._made_at - self.clock.now, 0.0)
        self.clock.now += wait_s
        self._made_at = self.clock.now + self.batch_s
        begin = max(self._done_at, self.clock.now)
        self._done_at = begin + (self.slower_s if begin >= self.slower_at else self.step_s)
        return Taken(wait_s, 32)

    def synchronise(self) -> None:
        self.clock.now = max(self.clock.now, self._done_at)

    def choices(self) -> object:
        return None


def measurement(
    rate: float = 1_000.0, *, stopped: Stopped = "precise", peak_mib: float = 50.0
) -> Measurement:
    """A measurement of `rate` examples/s."""
    return Measurement(
        examples_per_s=rate,
        ci=Interval(low=0.95 * rate, high=1.05 * rate),
        steps_per_s=rate / 32,
        host_wait_fraction=0.5,
        step_p50_ms=32_000.0 / rate,
        step_p95_ms=40_000.0 / rate,
        cpu_seconds_per_1k_examples=0.5,
        host_peak_mib=peak_mib,
        device_peak_mib=None,
        buffer_mib=1.0,
        windows=[Window(examples=int(rate), seconds=1.0, wait_s=0.5)] * 3,
        startup_s=0.5,
        stopped=stopped,
        settled=True,
        device="cpu",
        generator_restarts=0,
        skipped_elements=0,
        loss=1.0,
        digest=Digest(elements="a" * 64, batches="b" * 64),
        autotune=[],
    )


INFO = PipelineInfo(
    target="tests.planted.pipelines:Mapped",
    name="mapped",
    summary="Doubles the features in a map.",
    batch_sizes=[4, 8],
    has_transform=True,
    element="(float32[4], float32)",
    element_spec="(tf.TensorSpec((4,), tf.float32), tf.TensorSpec((), tf.float32))",
    padded=False,
    element_bytes=20,
    device="cpu",
    source_digest="c" * 64,
    axes=["map_parallelism"],
    not_offered=dict.fromkeys(STRUCTURE, "a fake takes none"),
)


def cost(wall_us: float, cpu_us: float | None = None) -> StageCost:
    """A stage's cost per example, from µs; without `cpu_us`, it computes all of its time."""
    return StageCost(wall_s=1e-6 * wall_us, cpu_s=1e-6 * (wall_us if cpu_us is None else cpu_us))


# Handing elements over takes most of the time, and the map gains from calls in flight.
COSTS = StageCosts(
    generator=cost(10.0),
    from_generator=cost(200.0),
    map=cost(100.0),
    batch=cost(2.0),
    step=cost(50.0),
    batch_size=8,
    step_s={4: 300e-6, 8: 400e-6},
    map_speedup=2.0,
    map_calls=8,
    map_is_python=False,
    loops=[],
)


LIMIT_TERMS = LimitTerms(
    step_examples_per_s=4_000.0,
    step_cores=1.2,
    generator_examples_per_s=2_000.0,
    generator_cpu_s=5e-4,
    map_cpu_s=1e-4,
    step_cpu_s=2e-4,
    measured_s=2.0,
)


class FakeRunner(TrialRunner):
    """Answers each trial from a list without starting a process, and keeps the specs."""

    def __init__(self, answers: list[Measurement | TrialFailure | BaseException]) -> None:
        super().__init__()
        self.answers = answers
        self.specs: list[TrialSpec] = []

    def measure(self, spec: TrialSpec) -> Measurement | TrialFailure:
        self.specs.append(spec)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def record_arrivals(
        self, pipeline: str, seed: int, most_s: float, most_pauses: int
    ) -> Arrivals | TrialFailure:
        return Arrivals(every=1, times_s=[0.1], pauses=[], seconds=0.1)

    def measure_limit(
        self,
        pipeline: str,
        batch_size: int,
        seed: int,
        device: Device,
        *,
        vectorized: bool,
        cached: bool = False,
    ) -> LimitTerms | TrialFailure:
        return LIMIT_TERMS

    def read_data(
        self, spec: TrialSpec, most_s: float, stages: int | None = None
    ) -> list[str] | TrialFailure:
        return ["a"] * spec.digest_batches


class FakeTracker(Tracker):
    """Keeps (name, state) pairs of what would be logged."""

    def __init__(self) -> None:
        self.logged: list[tuple[str, str]] = []
        self.more: list[Mapping[str, float]] = []
        self.throttled: dict[str, list[str]] = {}

    def start_study(self, experiment: str, name: str, tags: Mapping[str, str]) -> str:
        return "parent"

    def resume_study(self, run_id: str) -> str | None:
        return run_id

    def children(self, parent_id: str) -> list[LoggedRun]:
        return []

    def log_trial(
        self,
        parent_id: str,
        name: str,
        spec: TrialSpec,
        outcome: Measurement | TrialFailure,
        state: str,
        tags: Mapping[str, str],
        began: float,
        more: Mapping[str, float] | None = None,
    ) -> str:
        self.logged.append((name, state))
        self.more.append(more or {})
        return f"run-{len(self.logged)}"

    def mark_uncounted(self, run_id: str, events: Sequence[str] = ()) -> None:
        self.throttled[run_id] = list(events)

    def log_limit(
        self,
        parent_id: str,
        name: str,
        batch_size: int,
        terms: LimitTerms,
        tags: Mapping[str, str],
        began: float,
    ) -> str:
        self.logged.append((name, "complete"))
        return f"run-{len(self.logged)}"

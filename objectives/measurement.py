"""What a trial's process reports: a measurement, or a failure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

from prefetch_tuning.objectives.gpu_readings import GpuReadings
from prefetch_tuning.pipelines.printable import printable

# usage: the pipeline or a setting is wrong, and every trial would fail the same way.
FailureKind = Literal[
    "usage",
    "generator",
    "transform",
    "model",
    "nan_loss",
    "out_of_memory",  # of the host
    "device_oom",
    "timeout",
    "killed",
    "crash",
]
Stopped = Literal["precise", "time", "pruned"]


class Interval(BaseModel):
    """A 95% confidence interval, in the unit of its value."""

    model_config = ConfigDict(frozen=True)

    low: float
    high: float

    def times(self, factor: float) -> Interval:
        """The interval of a value that is `factor` times as large."""
        return Interval(low=factor * self.low, high=factor * self.high)


class Window(BaseModel):
    """One counted window: `examples` consumed in `seconds`, including `wait_s` waiting for data."""

    model_config = ConfigDict(frozen=True)

    examples: int
    seconds: float
    wait_s: float

    @property
    def rate(self) -> float:
        """Examples per second."""
        return self.examples / self.seconds


class AutotuneNode(BaseModel):
    """What AUTOTUNE chose for one tunable parameter, and the bytes that its node buffered."""

    model_config = ConfigDict(frozen=True)

    node: str
    parameter: str
    value: float
    buffered_bytes: int


class Digest(BaseModel):
    """SHA-256 of the first elements and batches, so a rerun can tell whether the data changed.

    Attributes:
        elements: digest of the first few elements of the generator.
        batches: digest of the first two batches; empty if they may come in another order.
        each_batch: one shortened digest for each of the spec's first `digest_batches` batches;
            empty if they may come in another order.
    """

    model_config = ConfigDict(frozen=True)

    elements: str
    batches: str
    each_batch: list[str] = []

    def agrees_with(self, other: Digest) -> bool:
        """Whether elements and batches are equal; a logged run keeps only these two digests."""
        unordered = "" in (self.batches, other.batches)
        return self.elements == other.elements and (unordered or self.batches == other.batches)


class Ceilings(BaseModel):
    """The rate of a trial's chain without the step, measured in the trial's process.

    Attributes:
        producer_only: examples per second of the same chain when nothing is done with its batches.
        measured_s: seconds that this measurement took.
    """

    model_config = ConfigDict(frozen=True)

    producer_only: float
    measured_s: float


class LimitTerms(BaseModel):
    """The terms of a pipeline's limit at one batch size; they don't depend on any configuration.

    Attributes:
        step_examples_per_s: rate of the step on ready batches, with no other iterator alive.
        step_cores: cores that the step alone keeps busy.
        generator_examples_per_s: rate of the bare generator in one process, or of a PyDataset's
            `__getitem__`. None for a function that builds its own dataset, because none of it can
            run alone.
        generator_cpu_s, handed_cpu_s, map_cpu_s, step_cpu_s: the fewest CPU seconds that an example
            needs in the bare generator, in the cheapest way of handing it to tf.data and batching
            it, in the cheapest way of mapping, and in the step.
        measured_s: seconds that measuring took.
        gpu: what NVML said meanwhile; None on a CPU, or if NVML said nothing.
        node, node_speed: as in `Measurement`.
    """

    model_config = ConfigDict(frozen=True)

    step_examples_per_s: float
    step_cores: float
    generator_examples_per_s: float | None
    generator_cpu_s: float
    handed_cpu_s: float = 0.0  # earlier versions didn't measure it
    map_cpu_s: float
    step_cpu_s: float
    measured_s: float
    gpu: GpuReadings | None = None  # set by the parent process
    node: str | None = None
    node_speed: float = 1.0

    def on_node(self, node: str, speed: float) -> LimitTerms:
        """The terms as if the node were as fast as the study's first one."""
        own = self.generator_examples_per_s
        return self.model_copy(
            update={
                "step_examples_per_s": self.step_examples_per_s / speed,
                "generator_examples_per_s": None if own is None else own / speed,
                "generator_cpu_s": self.generator_cpu_s * speed,
                "handed_cpu_s": self.handed_cpu_s * speed,
                "map_cpu_s": self.map_cpu_s * speed,
                "step_cpu_s": self.step_cpu_s * speed,
                "node": node,
                "node_speed": speed,
            }
        )

    @property
    def cpu_s_per_example(self) -> float:
        """The fewest CPU seconds that an example needs in total."""
        return self.generator_cpu_s + self.handed_cpu_s + self.map_cpu_s + self.step_cpu_s


class Measurement(BaseModel):
    """What one trial measured. Units are in the names; None means that it can't be measured.

    Attributes:
        stopped: why it ended: the interval was tight, the time was used up, or it was pruned.
        settled: False if the rate still drifted when the measurement ended.
        startup_s: seconds from the start of the measured iterator to the first counted window,
            including the batches that were taken for their digests.
        host_wait_fraction: share of the time in which the host, which starts the steps, waited for
            a batch. A GPU may still have had steps to run meanwhile.
        step_p50_ms: median time of a whole training step, including its wait for data. On a GPU,
            one step in fifty is timed, and the host waits for the device before and after it.
        host_peak_mib: what the input pipeline added to the resident memory of the process tree, at
            most, after the step was traced. The part of the buffers that was empty at the end
            counts as full.
        memory_resets: False if this system can't reset the peak, so it includes model and tracing.
        buffer_mib: what the chain's full buffers hold. None if the sizes that AUTOTUNE chose can't
            be read, for example under a `tf.distribute` strategy.
        host_speed_index: the host's own speed during this trial; the reference machine has 1.0.
        cpu_utilisation: share of the cores that the trial kept busy.
        first_batch_s: seconds from the start of the measured iterator to its first batch.
        first_pass_s: seconds of the pass that filled a cache; None without one. If it is known how
            many passes a training makes, rates and CPU seconds are means over all of them.
        ceilings: None if the spec didn't ask for them.
        gpu: what NVML said meanwhile; None on a CPU, or if NVML said nothing.
        node: name of the cluster's node that measured; None without a cluster.
        node_speed: how fast the node was, relative to the study's first one; rates and times are
            those that the first one would have had.
    """

    model_config = ConfigDict(frozen=True)

    examples_per_s: float
    ci: Interval
    steps_per_s: float
    host_wait_fraction: float
    step_p50_ms: float
    step_p95_ms: float
    cpu_seconds_per_1k_examples: float
    cpu_utilisation: float = 0.0
    first_batch_s: float = 0.0
    first_pass_s: float | None = None
    host_peak_mib: float
    memory_resets: bool = True
    device_peak_mib: float | None
    buffer_mib: float | None
    host_speed_index: float = 1.0  # set by the parent, which times the host around the trial
    windows: list[Window]
    startup_s: float
    stopped: Stopped
    settled: bool
    device: str
    generator_restarts: int
    skipped_elements: int
    loss: float
    digest: Digest
    autotune: list[AutotuneNode]
    ceilings: Ceilings | None = None
    gpu: GpuReadings | None = None  # set by the parent, which can ask NVML without using CUDA
    output: str = ""  # its last output; kept only if elements were skipped
    node: str | None = None
    node_speed: float = 1.0

    def on_node(self, node: str, speed: float) -> Measurement:
        """The measurement as if the node were as fast as the study's first one."""
        windows = [
            window.model_copy(
                update={"seconds": window.seconds * speed, "wait_s": window.wait_s * speed}
            )
            for window in self.windows
        ]
        made = self.ceilings and self.ceilings.model_copy(
            update={"producer_only": self.ceilings.producer_only / speed}
        )
        return self.model_copy(
            update={
                "examples_per_s": self.examples_per_s / speed,
                "ci": self.ci.times(1.0 / speed),
                "steps_per_s": self.steps_per_s / speed,
                "step_p50_ms": self.step_p50_ms * speed,
                "step_p95_ms": self.step_p95_ms * speed,
                "cpu_seconds_per_1k_examples": self.cpu_seconds_per_1k_examples * speed,
                "windows": windows,
                "ceilings": made,
                "node": node,
                "node_speed": speed,
            }
        )

    @property
    def measured_s(self) -> float:
        """Seconds of measuring: a pass that fills a cache, start-up, windows and ceilings."""
        steps_s = self.startup_s + sum(window.seconds for window in self.windows)
        ceilings_s = self.ceilings.measured_s if self.ceilings else 0.0
        return (self.first_pass_s or 0.0) + steps_s + ceilings_s


class TrialFailure(BaseModel):
    """A trial without a measurement: the kind of failure, one line of detail, the last output.

    Attributes:
        detail: what happened, quoting the exception or the signal.
        output: the last lines that the process wrote to stdout and stderr.
    """

    model_config = ConfigDict(frozen=True)

    kind: FailureKind
    detail: Annotated[str, AfterValidator(printable)]
    output: str = ""

"""What a trial's process reports: a measurement, or what went wrong."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from prefetch_tuning.objectives.gpu_readings import GpuReadings

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
    """A 95 % confidence interval, in the unit of the value it belongs to."""

    model_config = ConfigDict(frozen=True)

    low: float
    high: float


class Window(BaseModel):
    """One counted window: `examples` consumed in `seconds`, of which `wait_s` waited for data."""

    model_config = ConfigDict(frozen=True)

    examples: int
    seconds: float
    wait_s: float

    @property
    def rate(self) -> float:
        """Examples per second."""
        return self.examples / self.seconds


class AutotuneNode(BaseModel):
    """What AUTOTUNE chose for one tunable parameter, and the bytes that the node held."""

    model_config = ConfigDict(frozen=True)

    node: str
    parameter: str
    value: float
    buffered_bytes: int


class Digest(BaseModel):
    """SHA-256 of the first elements and batches, so that a rerun can tell whether data changed.

    Attributes:
        elements: of the first few elements of the generator.
        batches: of the first two batches.
        each_batch: of each of the spec's first `digest_batches` batches, in order, shortened.
    """

    model_config = ConfigDict(frozen=True)

    elements: str
    batches: str
    each_batch: list[str] = []

    def agrees_with(self, other: Digest) -> bool:
        """Whether elements and batches are the same, which is what a logged run keeps of them."""
        return (self.elements, self.batches) == (other.elements, other.batches)


class Ceilings(BaseModel):
    """What the chain of a trial reaches without the step, measured in the trial's process.

    Attributes:
        producer_only: examples/s of the same chain with nothing done to its batches.
        measured_s: seconds that measuring it took.
    """

    model_config = ConfigDict(frozen=True)

    producer_only: float
    measured_s: float


class LimitTerms(BaseModel):
    """What a pipeline's limit at one batch size is made of; no configuration has a part in it.

    Attributes:
        step_examples_per_s: the step on batches that lie ready, with no other iterator alive.
        step_cores: that the step keeps busy by itself.
        generator_examples_per_s: the bare generator in one process, of a PyDataset its
            `__getitem__`; None for a function that builds its own dataset, which has nothing to
            run alone.
        generator_cpu_s, map_cpu_s, step_cpu_s: least CPU seconds that an example needs in each:
            the bare generator, the cheapest way of mapping, and the step.
        measured_s: seconds that measuring took.
        gpu: what NVML said meanwhile; None on a CPU, or where it says nothing.
    """

    model_config = ConfigDict(frozen=True)

    step_examples_per_s: float
    step_cores: float
    generator_examples_per_s: float | None
    generator_cpu_s: float
    map_cpu_s: float
    step_cpu_s: float
    measured_s: float
    gpu: GpuReadings | None = None  # set by the parent

    @property
    def cpu_s_per_example(self) -> float:
        """Least CPU seconds that an example needs in all."""
        return self.generator_cpu_s + self.map_cpu_s + self.step_cpu_s


class Measurement(BaseModel):
    """What one trial measured. Units are in the names; `None` means it could not be measured.

    Attributes:
        stopped: why it ended: the interval was tight, the time was spent, or it was pruned.
        settled: False where the rate still drifted when the time was spent.
        startup_s: time of the measured iterator before the first counted window, with the batches
            that were taken for their digests.
        step_p50_ms: median time of a whole training step, its wait for data included.
        host_peak_mib: peak resident memory of the process tree over the process's start.
        buffer_mib: what the chain's full buffers hold; None where AUTOTUNE's choice of their sizes
            can't be read, as under a `tf.distribute` strategy.
        host_speed_index: the host's own speed beside this trial; 1.0 is the reference machine.
        cpu_utilisation: share of the cores that the trial kept busy.
        first_batch_s: from the start of the measured iterator until its first batch was there.
        ceilings: None where the spec did not ask for them.
        gpu: what NVML said meanwhile; None on a CPU, or where it says nothing.
    """

    model_config = ConfigDict(frozen=True)

    examples_per_s: float
    ci: Interval
    steps_per_s: float
    wait_fraction: float
    step_p50_ms: float
    step_p95_ms: float
    cpu_seconds_per_1k_examples: float
    cpu_utilisation: float = 0.0
    first_batch_s: float = 0.0
    host_peak_mib: float
    device_peak_mib: float | None
    buffer_mib: float | None
    host_speed_index: float = 1.0  # set by the parent, which times the host while no trial runs
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
    gpu: GpuReadings | None = None  # set by the parent, which may ask NVML without using CUDA
    output: str = ""  # its last output, kept if elements were skipped

    @property
    def measured_s(self) -> float:
        """Seconds of measuring in all: training steps, start-up included, and the ceilings."""
        steps_s = self.startup_s + sum(window.seconds for window in self.windows)
        return steps_s + (self.ceilings.measured_s if self.ceilings else 0.0)


class TrialFailure(BaseModel):
    """A trial that gave no measurement: the kind, one line of detail, and its last output.

    Attributes:
        detail: what happened, quoting the exception or the signal.
        output: the last lines that the process wrote to stdout and stderr.
    """

    model_config = ConfigDict(frozen=True)

    kind: FailureKind
    detail: str
    output: str = ""


class PipelineInfo(BaseModel):
    """What a fresh process found out about a pipeline before anything is measured or written.

    Attributes:
        target: `module:attribute`.
        batch_sizes: in examples, ascending.
        has_transform: False takes `map_parallelism` out of the search.
        element: what the generator yields, in words.
        element_spec: the same as Python source that needs `tf` only, for the report's snippet.
        padded: an unknown dimension makes its batches padded ones.
        element_bytes: of one element as the map leaves it; None where the size varies.
        device: what training steps run on, in words, for the device that was asked for.
        source_digest: SHA-256 of the source of the pipeline's module.
        stand_in: what took the place of a model's training step, in words; None for a real model.
        kind: "generator", or "batches" for a chain of a person's own, which yields batches where
            a generator yields elements.
        flat: its elements are plain tuples of tensors.
        axes: settings beside batch size and prefetch that it can be measured with.
        not_offered: settings that would not work or not keep its data, and why.
        own: settings that it was made with, which the AUTOTUNE baseline keeps.
    """

    model_config = ConfigDict(frozen=True)

    target: str
    name: str
    summary: str
    batch_sizes: list[int]
    has_transform: bool
    element: str
    element_spec: str
    padded: bool
    element_bytes: int | None
    device: str
    source_digest: str
    stand_in: str | None = None
    kind: Literal["generator", "batches"] = "generator"
    flat: bool = True
    axes: list[str] = []
    not_offered: dict[str, str] = {}
    own: dict[str, bool | int] = {}

    @property
    def has_stages(self) -> bool:
        """Whether its stages can be measured: not those of a function that builds its dataset."""
        return self.kind == "generator" or "workers" in self.axes

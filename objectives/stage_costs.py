"""The measured cost of each stage of a pipeline alone, as it is stored."""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from prefetch_tuning.pipelines.step_time import StepTime

# A stage that uses the processor for less than this share of its time mostly waits.
WAITS_SHARE = 0.5


# Calls in flight with which a waiting map is measured. The search offers at least this many for it.
WAITING_CALLS = 64


class StageCost(BaseModel):
    """Seconds per example of one stage: `wall_s` by the clock, `cpu_s` of all its threads."""

    model_config = ConfigDict(frozen=True)

    wall_s: float
    cpu_s: float

    @property
    def cpu_share(self) -> float:
        """Share of the stage's time in which it computes; above 1 with several threads."""
        return self.cpu_s / max(self.wall_s, 1e-12)

    @property
    def waits(self) -> bool:
        """Whether the stage spends most of its time waiting for something other than the CPU."""
        return self.cpu_share < WAITS_SHARE


class LoopCost(BaseModel):
    """Seconds per example of the whole training loop in one setting, with all stages overlapped."""

    model_config = ConfigDict(frozen=True)

    batch_size: int
    prefetch_buffer: int
    map_parallelism: int
    generator_chunk: int = 1
    vectorized_map: bool = False
    thread_pool_size: int | Literal["unbounded"] = 0
    wall_s: float

    @classmethod
    def settings(cls) -> list[str]:
        """The names of the settings that the loop was measured with."""
        return [name for name in cls.model_fields if name != "wall_s"]


class ShuffleCost(BaseModel):
    """What a shuffle buffer costs: it is filled before the first element leaves it.

    Attributes:
        buffer_size: elements that it holds.
        fill_s: seconds until it is full, at the beginning of each iterator.
        mib: MiB of its elements.
    """

    model_config = ConfigDict(frozen=True)

    buffer_size: int
    fill_s: float
    mib: float


class OtherNodes(BaseModel):
    """The nodes of a cluster beside this host, which can run shards of the generator.

    Attributes:
        own_cores: cores of this host; as many processes run here without the cluster.
        here: cores of this host that the cluster may use.
        cores: of each other node, the largest first.
        sending_s: seconds per example to send a block of examples from such a node to this host.
    """

    model_config = ConfigDict(frozen=True)

    own_cores: float
    here: int
    cores: list[int]
    sending_s: float


class StageCosts(BaseModel):
    """The cost of each stage of a pipeline alone, per example, with nothing overlapped.

    Attributes:
        generator: the bare Python generator; for a PyDataset, its `__getitem__`.
        from_generator: what handing its elements to tf.data adds.
        map: the sequential map; None if the pipeline has none. For a declared chain, all of its
            transformations together.
        batch: combining examples into batches.
        device_copy: copying a batch of `batch_size` from host memory to the device; None on a
            CPU. The step waits for it unless batches are copied ahead (`device_prefetch`).
        step: the training step on a batch of `batch_size` that is ready; on a GPU, in its memory.
        batch_size: the largest searched one; `generator`, `from_generator` and `map` don't
            depend on it.
        step_s: seconds of a whole step, by batch size.
        map_speedup: how many times faster the map runs with `map_calls` calls in flight on
            tf.data's own threads.
        map_is_python: the map calls back into Python, so its calls share the GIL.
        waiting_speedup: how many times faster a waiting map runs with `waiting_calls` calls in
            flight and a thread for each. They are 1 and 0 for a map that doesn't wait.
        waiting_cpu_s: CPU seconds of the map per example in that setting. With one call at a time
            it needs more, for waking up.
        single_thread_map: the map with one thread inside each of its ops; None if that wasn't
            measured, because the map waits or is Python.
        loops: the whole loop in a few settings, for the costs that single stages don't show:
            delivering a batch to the step, and threads that share a GIL and the cores.
        chunk: elements per block in the measurement of `chunked`.
        chunked: cost per example of handing over blocks and regrouping them into batches; None if
            the elements can't be stacked.
        batch_map: the map on whole batches; None if it doesn't accept them.
        measured_s: seconds that measuring all of it took.
        py_dataset: the costs are those of a PyDataset, which makes and hands over whole batches.
        shuffles: what each shuffle buffer of a declared chain costs.
        epochs: how many passes over its data a script's training makes; None if unknown.
        emulated: the time of an emulated step, which is known at every batch size; None for a real
            one.
        elsewhere: other nodes that can run the generator; None without a cluster for it.
    """

    model_config = ConfigDict(frozen=True)

    generator: StageCost
    from_generator: StageCost
    map: StageCost | None
    batch: StageCost
    step: StageCost
    batch_size: int
    step_s: dict[int, float]
    map_speedup: float
    map_calls: int
    map_is_python: bool = False
    waiting_speedup: float = 1.0
    waiting_calls: int = 0
    waiting_cpu_s: float | None = None
    single_thread_map: StageCost | None = None
    loops: list[LoopCost]
    chunk: int = 1
    chunked: StageCost | None = None
    batch_map: StageCost | None = None
    device_copy: StageCost | None = None
    measured_s: float = 0.0
    shuffles: list[ShuffleCost] = []
    epochs: int | None = None
    emulated: StepTime | None = None
    elsewhere: OtherNodes | None = None
    # Version 0.1 stored it as `sequence`.
    py_dataset: bool = Field(default=False, validation_alias=AliasChoices("py_dataset", "sequence"))

    @property
    def other_cores(self) -> int:
        """Cores of other nodes that can run the generator."""
        return sum(self.elsewhere.cores) if self.elsewhere else 0

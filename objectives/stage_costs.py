"""What each stage of a pipeline costs by itself, as it is measured and kept."""

from __future__ import annotations

from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

# A stage that uses the processor for less of its time than this mostly waits for something.
WAITS_SHARE = 0.5


# Calls in flight at which a map that waits is measured, and as many as a search offers there.
WAITING_CALLS = 64


class StageCost(BaseModel):
    """Seconds per example of one stage: `wall_s` by the clock, `cpu_s` of all its threads."""

    model_config = ConfigDict(frozen=True)

    wall_s: float
    cpu_s: float

    @property
    def cpu_share(self) -> float:
        """Share of its time in which it computes; above 1 with several threads."""
        return self.cpu_s / max(self.wall_s, 1e-12)

    @property
    def waits(self) -> bool:
        """Whether it spends most of its time waiting for something else than the processor."""
        return self.cpu_share < WAITS_SHARE


class LoopCost(BaseModel):
    """Seconds per example of the whole training loop in one setting, everything overlapped."""

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
        """The names of the settings that the loop ran with."""
        return [name for name in cls.model_fields if name != "wall_s"]


class StageCosts(BaseModel):
    """What each stage of a pipeline costs by itself, one example at a time, nothing overlapped.

    Attributes:
        generator: the bare Python generator; of a PyDataset its `__getitem__`.
        from_generator: what handing its elements to tf.data adds.
        map: the sequential map; None where the pipeline has none.
        batch: putting examples together to batches.
        device_copy: the copy of a batch from host memory to the device, at `batch_size`; None on a
            CPU. Unless batches are copied ahead (`device_prefetch`) the step waits for it.
        step: the training step on a batch that is there already, on a GPU in its memory, at
            `batch_size`.
        batch_size: the largest searched one; `generator`, `from_generator` and `map` do not
            depend on it.
        step_s: seconds of a whole step by batch size.
        map_speedup: how many times faster the map runs with `map_calls` calls in flight on
            tf.data's own threads.
        map_is_python: the map calls back into Python, so that its calls share the GIL.
        waiting_speedup: how many times faster a map that waits runs with `waiting_calls` calls in
            flight and a thread for each; 1 and 0 for a map that doesn't wait.
        waiting_cpu_s: CPU seconds of an example's map there; one call at a time needs more,
            for waking up.
        single_thread_map: the map with one thread inside each of its ops; None where that was not
            measured, because the map waits or is Python.
        loops: the whole loop in a few settings, for what the stages by themselves do not show: the
            price of a batch's way to the step, and of threads that share a GIL and the cores.
        chunk: elements of the blocks that `chunked` was measured with.
        chunked: what handing over blocks and regrouping them to batches costs, an
            example; None where elements cannot be put together.
        batch_map: the map on whole batches; None where it does not take them.
        measured_s: seconds that measuring all of it took.
        py_dataset: they are a PyDataset's, which makes and hands over whole batches.
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
    # Version 0.1 kept it as `sequence`.
    py_dataset: bool = Field(default=False, validation_alias=AliasChoices("py_dataset", "sequence"))

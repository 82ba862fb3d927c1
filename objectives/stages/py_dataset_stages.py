"""The cost of each stage of a PyDataset alone: `__getitem__`, handing over, copy, step.

Its batches are made whole, so there is no map and no batching, and nothing smaller than a batch
can be measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

import tensorflow as tf

from prefetch_tuning.objectives.checks.inspection import first_batch
from prefetch_tuning.objectives.loop import steady_state
from prefetch_tuning.objectives.loop.ceilings import Alone
from prefetch_tuning.objectives.loop.emulated import feed_of, known_step, step_time_of
from prefetch_tuning.objectives.loop.steady_state import Feed, Taken
from prefetch_tuning.objectives.machine.process_tree import ProcessTree
from prefetch_tuning.objectives.stage_costs import LoopCost, StageCost, StageCosts
from prefetch_tuning.objectives.stages.chains import cost_of, minus
from prefetch_tuning.objectives.stages.device_copy import accelerator, copying, on_device
from prefetch_tuning.objectives.stages.generator_stages import LOOP_PREFETCH, RULE, SLOW_BATCH_S
from prefetch_tuning.pipelines.chain.build import build_dataset
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.source import BatchesPipeline, PipelineError


class BareBatches:
    """A feed for `steady_state` that takes batches and does nothing with them.

    It counts the examples of each batch, because an epoch's last batch may be short.
    """

    asynchronous = False

    def __init__(self, batches: Iterator[Any]) -> None:
        self._batches = batches
        next(batches)  # the first batch opens and loads what the dataset needs

    def advance(self) -> Taken:
        return Taken(0.0, int(tf.nest.flatten(next(self._batches))[0].shape[0]))

    def synchronise(self) -> None:
        pass

    def choices(self) -> object:
        return None


class PyDatasetStages:
    """Measures the stages of one PyDataset in this process, with a single worker."""

    def __init__(self, pipeline: BatchesPipeline, seed: int) -> None:
        """Builds and traces the model's step.

        Raises:
            PipelineError: it isn't a PyDataset: only its whole chain can make its batches.
        """
        if pipeline.bare_batches(seed) is None:
            raise PipelineError("it builds its own chain, so its stages can't be measured alone")
        self._pipeline = pipeline
        self._seed = seed
        self._batch_size = pipeline.batch_sizes[0]
        self._tree = ProcessTree()
        self._measured_s = 0.0
        self._batch = first_batch(pipeline, self._batch_size, seed)
        self._model = pipeline.build_model()
        self._feed = feed_of(self._model, self._chain(prefetch=0))
        self._feed.trace(self._batch, stepping=True)
        self._device = accelerator(pipeline.element_spec)

    def measure(self) -> StageCosts:
        """Measures every stage: a few seconds in all, or about ten batches if those are slow."""
        step = self._step()
        bare = self._bare()
        slow = bare.wall_s * self._batch_size > SLOW_BATCH_S
        if not slow:
            # Only the first reading of a file waits for the disk, as in `StageChains.generator`.
            bare = min(bare, self._bare(), key=lambda cost: cost.wall_s)
        chain = self._chain(prefetch=0)
        fed = self._cost(lambda: BareBatches(iter(chain)))
        return StageCosts(
            generator=bare,
            from_generator=minus(fed, bare),
            map=None,
            batch=StageCost(wall_s=0.0, cpu_s=0.0),
            step=step,
            batch_size=self._batch_size,
            step_s={self._batch_size: self._batch_size * step.wall_s},
            map_speedup=1.0,
            map_calls=1,
            loops=[] if slow else [self._loop()],
            device_copy=self._device_copy(),
            measured_s=self._measured_s,
            emulated=step_time_of(self._model),
            py_dataset=True,
        )

    def _bare(self) -> StageCost:
        return self._cost(self._bare_batches)

    def _bare_batches(self) -> BareBatches:
        batches = self._pipeline.bare_batches(self._seed)
        assert batches is not None
        return BareBatches(batches)

    def _step(self) -> StageCost:
        known = known_step(self._model, self._batch_size)
        if known is not None:
            return known
        feed, batch = self._feed, self._batch
        feed.ignore_loss()
        if self._device is not None:
            batch = on_device(batch, self._device)
            feed.step(feed.placed(batch))  # prepares the step for inputs on the GPU
        given = repeat(feed.placed(batch))
        ready = Alone(self._batch_size, given.__next__, feed.step, feed.synchronise)
        return self._cost(lambda: ready)

    def _device_copy(self) -> StageCost | None:
        if self._device is None:
            return None
        copies = copying(self._batch, self._batch_size, self._device)
        return self._cost(lambda: copies)

    def _loop(self) -> LoopCost:
        chain = self._chain(prefetch=LOOP_PREFETCH)

        def looping() -> Feed:
            self._feed.start(chain)
            return self._feed

        cost = self._cost(looping)
        return LoopCost(
            batch_size=self._batch_size,
            prefetch_buffer=LOOP_PREFETCH,
            map_parallelism=1,
            wall_s=cost.wall_s,
        )

    def _chain(self, prefetch: int) -> tf.data.Dataset:
        """The batches as Keras reads them with one worker, which means in this process alone."""
        config = PipelineConfig.no_prefetch(self._batch_size)
        config = config.model_copy(update={"prefetch_buffer": prefetch})
        return build_dataset(self._pipeline, config, seed=self._seed)

    def _cost(self, start: Callable[[], Feed]) -> StageCost:
        """Seconds per example of what `start` begins, which counts as measuring, too."""
        begin = time.perf_counter()
        state = steady_state.measure(start(), RULE, time.perf_counter, self._tree.cpu_s)
        self._measured_s += time.perf_counter() - begin
        return cost_of(state)

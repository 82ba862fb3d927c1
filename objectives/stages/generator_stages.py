"""The cost of each stage alone: generator, handing over, map, batching, copy, step.

Each stage is a separate chain without look-ahead, run until its rate is known. What a stage adds
is the difference between the chain with it and the chain without it.
"""

from __future__ import annotations

from itertools import repeat
from typing import Any

from prefetch_tuning.objectives.checks.elements import first_elements
from prefetch_tuning.objectives.loop.ceilings import Alone
from prefetch_tuning.objectives.loop.emulated import feed_of, known_step, step_time_of
from prefetch_tuning.objectives.loop.training import StepError, TrainingFeed
from prefetch_tuning.objectives.machine.device import lacked_device_memory
from prefetch_tuning.objectives.spec import StopRule
from prefetch_tuning.objectives.stage_costs import WAITING_CALLS, LoopCost, StageCost, StageCosts
from prefetch_tuning.objectives.stages.chains import StageChains, fitting, minus, scaled
from prefetch_tuning.objectives.stages.declared_chains import (
    DeclaredChains,
    sample_of,
)
from prefetch_tuning.objectives.stages.device_copy import accelerator, copying, on_device
from prefetch_tuning.pipelines.chain.build import build_dataset, sample_batch
from prefetch_tuning.pipelines.chain.declared import ChainPipeline
from prefetch_tuning.pipelines.chain.structure import (
    calls_python,
    chain_calls_python,
    reasons_against,
)
from prefetch_tuning.pipelines.config import UNBOUNDED, PipelineConfig
from prefetch_tuning.pipelines.source import GeneratorPipeline, has_transform

RULE = StopRule(window_s=0.08, startup_s=0.08, min_windows=4, max_s=0.32)
# Elements in the batches that the step is timed on.
SAMPLE_ELEMENTS = 4
# Calls of the map in flight on tf.data's own threads: more than a small machine has cores.
MAP_CALLS = 8
# Settings of the loops: some look-ahead, and as many calls as a small machine has cores.
LOOP_PREFETCH, LOOP_MAP_CALLS = 4, 2
SLOW_BATCH_S = 0.3
# Elements per block: enough to make the cost of handing over a block small per element.
CHUNK = 256


class Stages:
    """Measures the stages of one pipeline in this process.

    Those of a declared chain are the same, with all of its transformations in the map's place.
    """

    def __init__(self, pipeline: GeneratorPipeline | ChainPipeline, seed: int) -> None:
        self._pipeline = pipeline
        self._seed = seed
        self._batch_size = max(pipeline.batch_sizes)
        self._largest = self._batch_size  # the largest size whose step fits on the device
        self._feed = self._traceable()
        self._chains: StageChains
        if isinstance(pipeline, ChainPipeline):
            self._chains = DeclaredChains(pipeline, seed, self._batch_size, RULE)
            self._against = pipeline.not_offered
        else:
            self._chains = StageChains(pipeline, seed, self._batch_size, RULE)
            self._first = first_elements(pipeline, seed, SAMPLE_ELEMENTS)
            self._against = reasons_against(pipeline, self._first)
        self._device = accelerator(self._batch_spec)

    def measure(self) -> StageCosts:
        """Measures every stage; takes a few seconds in all."""
        chains = self._chains
        generator = chains.generator()
        batch = chains.batched()
        fed = chains.fed()
        handing = minus(fed, batch, generator)
        taken = chains.elements_per_example
        if generator.waits:
            # Beside one that waits, handing over includes waking up, which doubled the cost from
            # one day to the next. Many processes that wait keep the cores awake.
            handing = minus(chains.handed_over(), batch)
        mapping = self._mapping(batch) if self._transforms else {}
        chunk, chunked = self._chunked()
        # A slow generator gets smaller blocks, so that a block is there in time.
        loop_chunk = None if chunked is None else max(fitting(generator.wall_s, CHUNK), 2)
        step_s, step = self._steps()
        # If a whole batch is that slow, the stages say enough, and a loop would take a minute.
        slow = max(fed.wall_s, step.wall_s) * self._batch_size > SLOW_BATCH_S
        waits = bool(mapping.get("waiting_calls"))
        return StageCosts(
            generator=scaled(generator, taken),
            from_generator=scaled(handing, taken),
            batch=batch,
            step=step,
            batch_size=self._largest,
            step_s=step_s,
            loops=[] if slow else self._loops(loop_chunk, waits=waits),
            chunk=chunk,
            chunked=None if chunked is None else scaled(chunked, taken),
            batch_map=self._batch_map(batch),
            device_copy=self._device_copy(),
            measured_s=chains.measured_s,
            shuffles=chains.shuffles(taken * (generator.wall_s + handing.wall_s)),
            epochs=self._pipeline.epochs if isinstance(self._pipeline, ChainPipeline) else None,
            emulated=step_time_of(self._model),
            **{"map": None, "map_speedup": 1.0, "map_calls": MAP_CALLS, **mapping},
        )

    def _mapping(self, batch: StageCost) -> dict[str, Any]:
        """The map's fields of `StageCosts`."""
        chains, python = self._chains, self._calls_python()
        # Python maps are measured twice, alternately, because their speed-up decides whether the
        # GIL holds them. The faster reading is the one that nothing else on the host disturbed.
        times = 2 if python else 1
        pairs = [(chains.mapped(), chains.mapped(map_parallelism=MAP_CALLS)) for _ in range(times)]
        with_map, parallel = (
            min(row, key=lambda cost: cost.wall_s) for row in zip(*pairs, strict=True)
        )
        alone = minus(with_map, batch)
        # Compared with the whole chain, because the parallel map's own bookkeeping also counts.
        speedup = with_map.wall_s / parallel.wall_s
        if python and not alone.waits:
            # While the loop waits for the GIL, the calls continue, hundreds of elements ahead. For
            # a map that the GIL holds to a speed-up of 1.0, the rate of taken elements read as 0.7
            # to 3.2. The number of cores that the calls keep busy tells how many run at once.
            speedup = parallel.cpu_share / with_map.cpu_share
        found: dict[str, Any] = {
            "map": alone,
            "map_is_python": python,
            "map_speedup": speedup,
        }
        if alone.waits:
            each = chains.mapped(map_parallelism=WAITING_CALLS, thread_pool_size=UNBOUNDED)
            found["waiting_calls"] = WAITING_CALLS
            found["waiting_speedup"] = with_map.wall_s / each.wall_s
            found["waiting_cpu_s"] = minus(each, batch).cpu_s
        elif not python:
            found["single_thread_map"] = minus(chains.mapped(max_intra_op_parallelism=1), batch)
        return found

    def _chunked(self) -> tuple[int, StageCost | None]:
        """Elements per block, and the cost of handing over such blocks, regrouped into batches."""
        if "generator_chunk" in self._against:
            return 1, None
        chunk = self._chains.fitting_block(CHUNK)
        return chunk, self._chains.in_blocks(chunk)

    def _batch_map(self, batch: StageCost) -> StageCost | None:
        if "vectorized_map" in self._against:
            return None
        return minus(self._chains.mapped_in_batches(), batch)

    def _steps(self) -> tuple[dict[int, float], StageCost]:
        """Seconds of a step by batch size, and the cost per example at the largest size.

        Leaves out sizes that the GPU doesn't have enough memory for; the smallest must fit.
        """
        step_s: dict[int, float] = {}
        self._feed.ignore_loss()
        for size in sorted(set(self._pipeline.batch_sizes)):
            try:
                cost = self._step_of(size)
            except StepError as error:
                if not step_s or not lacked_device_memory(error):
                    raise
                break
            step_s[size] = size * cost.wall_s
            fitting_cost, self._largest = cost, size
        return step_s, fitting_cost

    def _step_of(self, size: int) -> StageCost:
        """Cost per example of the step on a batch of this size that is ready.

        Raises:
            StepError: the step failed.
        """
        known = known_step(self._model, size)
        if known is not None:
            return known
        batch = self._sample(size)
        self._feed.trace(batch, stepping=True)
        if self._device is not None:
            batch = on_device(batch, self._device)
            self._feed.step(self._feed.placed(batch))  # prepares the step for inputs on the GPU
        given = repeat(self._feed.placed(batch))
        ready = Alone(size, given.__next__, self._feed.step, self._feed.synchronise)
        return self._chains.cost(ready)

    def _device_copy(self) -> StageCost | None:
        """Cost per example of the copy to the device, in the largest batch that fits."""
        if self._device is None:
            return None
        batch = self._sample(self._largest)
        return self._chains.cost(copying(batch, self._largest, self._device))

    def _loops(self, chunk: int | None, *, waits: bool) -> list[LoopCost]:
        """The whole loop at the smallest and the largest batch, and there with what may help.

        Args:
            chunk: elements per block; None if the generator's elements can't be put into blocks.
            waits: whether the map waits, so that threads may help.
        """
        sizes = [size for size in sorted(set(self._pipeline.batch_sizes)) if size <= self._largest]
        settings: list[dict[str, Any]] = [{"batch_size": size} for size in {sizes[0], sizes[-1]}]
        if self._has_map:
            settings.append({"batch_size": sizes[-1], "map_parallelism": LOOP_MAP_CALLS})
        if waits:
            threads = {"map_parallelism": WAITING_CALLS, "thread_pool_size": UNBOUNDED}
            settings.append({"batch_size": sizes[-1], **threads})
        if chunk is not None:
            vectorized = "vectorized_map" not in self._against
            blocks = {"generator_chunk": chunk, "vectorized_map": vectorized}
            settings.append({"batch_size": sizes[-1], **blocks})
        return [self._loop(chosen) for chosen in settings]

    def _loop(self, chosen: dict[str, Any]) -> LoopCost:
        basic = {"prefetch_buffer": LOOP_PREFETCH, "map_parallelism": 1}
        config = PipelineConfig.model_validate({**basic, **chosen})
        dataset = build_dataset(self._pipeline, config, seed=self._seed)
        with self._chains.measuring():
            self._feed.start(dataset)
        settings = {name: getattr(config, name) for name in LoopCost.settings()}
        return LoopCost(**settings, wall_s=self._chains.cost(self._feed).wall_s)

    @property
    def _transforms(self) -> bool:
        """Whether anything happens to an element before it becomes part of a batch, or after."""
        if isinstance(self._pipeline, ChainPipeline):
            return self._pipeline.transforms
        return has_transform(self._pipeline)

    @property
    def _has_map(self) -> bool:
        if isinstance(self._pipeline, ChainPipeline):
            return "map_parallelism" in self._pipeline.axes
        return has_transform(self._pipeline)

    def _calls_python(self) -> bool:
        if isinstance(self._pipeline, ChainPipeline):
            return chain_calls_python(self._pipeline)
        return calls_python(self._pipeline)

    def _sample(self, batch_size: int) -> Any:
        """A batch to trace and time a step on."""
        if isinstance(self._pipeline, ChainPipeline):
            return sample_of(self._pipeline, batch_size, self._seed)
        return sample_batch(self._pipeline, self._first, batch_size)

    def _traceable(self) -> TrainingFeed:
        """The model's step, which needs only one trace for batches of any size."""
        config = PipelineConfig.no_prefetch(self._batch_size)
        dataset = build_dataset(self._pipeline, config)
        self._batch_spec = dataset.element_spec
        self._model = self._pipeline.build_model()
        return feed_of(self._model, dataset)

"""A generator with declared transformations: built as declared, with the settings put in place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain as chained
from typing import Any

import keras
import tensorflow as tf

from prefetch_tuning.pipelines.chain.build import elements_of, is_padded, mapped
from prefetch_tuning.pipelines.chain.chunking import why_not_chunked
from prefetch_tuning.pipelines.chain.monitor import SourceMonitor
from prefetch_tuning.pipelines.chain.transformations import (
    BATCHES,
    Chain,
    Transformation,
    has,
    number_of_batches,
)
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.source import BatchesPipeline, GeneratorPipeline, is_shardable

NO_MAP = "there is no map"
# The structural settings that a declared chain can follow.
STRUCTURAL = (
    "generator_chunk",
    "generator_workers",
    "thread_pool_size",
    "max_intra_op_parallelism",
    "cache",
    "reorder",
)


class ChainPipeline(BatchesPipeline):
    """A generator and the transformations of its elements, up to the batches of a step.

    An iterator over its dataset ends with the generator, unless the chain repeats it. The next
    epoch begins with a new iterator, as in `model.fit`.

    Attributes:
        source: the generator; of the pipeline, only this and its `element_spec` are used here.
        chain: the transformations, without the last prefetch.
        not_offered: the structural settings that the chain can't take, each with the reason.
        sources: the watched generators of the datasets that were made, the latest last.
    """

    def __init__(
        self,
        source: GeneratorPipeline,
        chain: Sequence[Transformation],
        build_model: Callable[[], Any],
        *,
        batch_sizes: Sequence[int],
    ) -> None:
        self.name, self.__doc__ = source.name, type(source).__doc__
        self.source, self.chain = source, tuple(chain)
        self.batch_sizes = batch_sizes
        self.build_model_of = build_model
        self.functions = source.functions or [type(source)]
        self.stand_in = source.stand_in
        self.needs_a_pass = has(self.chain, "cache")
        self.sources: list[SourceMonitor] = []
        self.not_offered = self._reasons_against()
        self.axes = self._axes()

    @classmethod
    def of(cls, pipeline: GeneratorPipeline) -> ChainPipeline:
        """The pipeline with the chain that it declares."""
        declared: Sequence[Transformation] = pipeline.chain or Chain()
        chain = list(declared)
        if number_of_batches(chain) == 0:
            unbatched = cls(pipeline, chain, pipeline.build_model, batch_sizes=(1,))
            padded = is_padded(unbatched.element_spec)
            chain.append(Transformation("padded_batch" if padded else "batch"))
        # Its processes need no chain, whose functions may not be picklable.
        source = copy.copy(pipeline)
        object.__setattr__(source, "chain", None)
        return cls(source, chain, pipeline.build_model, batch_sizes=pipeline.batch_sizes)

    @cached_property
    def element_spec(self) -> Any:
        config = PipelineConfig.no_prefetch(min(self.batch_sizes))
        return self.make_batches(config, 0).element_spec

    def make_batches(self, config: PipelineConfig, seed: int) -> tf.data.Dataset:
        """One epoch of batches with these settings; endless only if the chain is."""
        dataset = self.beginning(config, seed, len(self.chain))
        return dataset.prefetch(config.buffer_size) if config.prefetch_buffer != 0 else dataset

    def beginning(self, config: PipelineConfig, seed: int, count: int) -> tf.data.Dataset:
        """The first `count` transformations of the chain."""
        dataset = self.generated(config, seed)
        if config.cache:
            # First, so that a later shuffle or random map still gives something else in each epoch.
            dataset = dataset.cache()
        for transformation in self.chain[:count]:
            dataset = self.transformed(dataset, transformation, config, seed)
        return dataset

    def generated(self, config: PipelineConfig, seed: int) -> tf.data.Dataset:
        """The generator's elements, watched."""
        source = SourceMonitor(self.source, seed, config)
        self.sources.append(source)
        return elements_of(self.source, config, source)

    def transformed(
        self,
        dataset: tf.data.Dataset,
        transformation: Transformation,
        config: PipelineConfig,
        seed: int,
    ) -> tf.data.Dataset:
        """The dataset with one more transformation, which follows the settings where it can."""
        name, given = transformation.name, transformation.arguments
        if name == "map":
            function = given["map_func"]
            return mapped(dataset, function, config, deterministic=given.get("deterministic"))
        if name in BATCHES and "batch_size" in self.axes:
            calls = _calls(given, config)
            return transformation.on(dataset, batch_size=config.batch_size, **calls)
        if name == "shuffle" and given.get("seed") is None and not transformation.place:
            return transformation.on(dataset, seed=seed)
        return transformation.on(dataset)

    def maps(self) -> Iterator[tuple[int, Callable[..., Any], Any]]:
        """Each map: its place in the chain from 0, its function, and the spec of what it takes."""
        config = PipelineConfig.no_prefetch(min(self.batch_sizes))
        spec = self.source.element_spec
        dataset = tf.data.Dataset.from_generator(lambda: iter(()), output_signature=spec)
        for number, each in enumerate(self.chain):
            if each.name == "map":
                yield number, each.arguments["map_func"], dataset.element_spec
            dataset = self.transformed(dataset, each, config, 0)

    def bare_batches(self, seed: int) -> Iterator[Any] | None:
        del seed  # its elements aren't batches, so they are measured as those of a generator
        return None

    def build_model(self) -> keras.Model:
        return self.build_model_of()

    @property
    def transforms(self) -> bool:
        """Whether it does anything but make batches."""
        return any(each.name not in BATCHES for each in self.chain)

    def _axes(self) -> list[str]:
        axes = ["batch_size"] if number_of_batches(self.chain) == 1 else []
        axes += ["map_parallelism"] if has(self.chain, "map") else []
        return axes + [name for name in STRUCTURAL if name not in self.not_offered]

    def _reasons_against(self) -> dict[str, str]:
        chunk = why_not_chunked(self.source.element_spec)
        mapless = None if has(self.chain, "map") else NO_MAP
        against = {
            "generator_chunk": chunk,
            "generator_workers": chunk,  # processes hand over their elements in blocks
            "vectorized_map": "the chain is declared, and its order is kept",
            "thread_pool_size": mapless,
            "max_intra_op_parallelism": mapless,
            "reorder": mapless,
            "device_prefetch": "the chain is declared, and ends with its batches",
        }
        if not is_shardable(self.source):
            against["generator_workers"] = "generate has no parameters shard_index and shard_count"
        return {name: reason for name, reason in against.items() if reason is not None}


def _calls(given: Mapping[str, Any], config: PipelineConfig) -> dict[str, Any]:
    """The parallel calls of `batch`: what AUTOTUNE would choose is none without AUTOTUNE."""
    if given.get("num_parallel_calls") is None or config.is_autotune:
        return {}
    return {"num_parallel_calls": None}


def epochs(dataset: tf.data.Dataset) -> Iterator[Any]:
    """Batches of one epoch after another, each from a new iterator, as in `model.fit`."""
    while True:
        batches = iter(dataset)
        first = next(batches, None)
        if first is None:
            return
        yield from chained((first,), batches)

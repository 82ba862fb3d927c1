"""Starts the generator for tf.data, in chunks and in processes if configured, and watches it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from prefetch_tuning.pipelines.chain.chunking import blocks, unstack
from prefetch_tuning.pipelines.chain.processes import GeneratorProcesses, StartMethod
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.cores import usable_cores
from prefetch_tuning.pipelines.source import GeneratorPipeline, PipelineError

if TYPE_CHECKING:
    from prefetch_tuning.pipelines.chain.cluster_shards import ClusterShards


class SourceMonitor:
    """The callable that `Dataset.from_generator` calls for each run through the generator.

    It yields elements, or blocks of them if `generator_chunk` is above 1 (see `chunking`).

    Attributes:
        starts: how often the generator was started; more than once means it was finite.
        ends: how often it ended.
        error: the exception that the generator raised; TensorFlow would only quote it as text.
    """

    def __init__(
        self,
        pipeline: GeneratorPipeline,
        seed: int,
        config: PipelineConfig | None = None,
        start_method: StartMethod = "forkserver",
        cluster: str | None = None,
    ) -> None:
        """Starts the generator's processes, if configured; they wait for the first run.

        With "fork" they are ready at once, but it is safe only before TensorFlow has run anything.
        With the address of a Ray cluster, those that this host has no cores for run on its nodes.
        """
        self._pipeline = pipeline
        self._seed = seed
        self._chunk = config.generator_chunk if config else 1
        self._processes: GeneratorProcesses | ClusterShards | None = None
        if config is not None and config.generator_workers:
            if cluster is None or config.generator_workers <= usable_cores():
                self._processes = GeneratorProcesses(pipeline, seed, config, start_method)
            else:
                self._processes = _on_cluster(pipeline, seed, config, cluster)
        self.starts = self.ends = 0
        self.error: Exception | None = None

    def __call__(self) -> Iterator[Any]:
        """One run through the generator. `yield from` adds no Python work per element."""
        self.starts += 1
        try:
            yield from self._run()
            self.ends += 1
        except Exception as error:
            self.error = error
            raise

    def endless(self) -> Iterator[Any]:
        """One run after another, like `repeat`, without Python work per element.

        Raises:
            PipelineError: a run yields nothing.
        """
        return chain.from_iterable(self._runs())

    @property
    def skipped_elements(self) -> int:
        """Faulty elements skipped so far, here or in the processes."""
        if self._processes is not None:
            return self._processes.skipped_elements
        return self._pipeline.skipped_elements

    @property
    def other_pids(self) -> list[int]:
        """Processes of this host that run the generator and aren't this one's descendants."""
        return getattr(self._processes, "pids", [])

    def _runs(self) -> Iterator[Iterator[Any]]:
        while True:
            run = self()
            try:
                first = next(run)
            except StopIteration:
                raise PipelineError(
                    f"{self._pipeline.name} ended without yielding an element"
                ) from None
            yield chain((first,), run)

    def _run(self) -> Iterator[Any]:
        spec = self._pipeline.element_spec
        if self._processes is None:
            elements = self._pipeline.generate(self._seed)
            if self._chunk == 1:
                return elements
            return (tuple(block) for block in blocks(elements, spec, self._chunk))
        merged = self._processes.run()
        if self._chunk == 1:
            return (element for block in merged for element in unstack(block, spec))
        return (tuple(block) for block in merged)


def _on_cluster(
    pipeline: GeneratorPipeline, seed: int, config: PipelineConfig, address: str
) -> ClusterShards:
    try:
        # Ray is an extra.
        from prefetch_tuning.pipelines.chain.cluster_shards import ClusterShards  # noqa: PLC0415
    except ImportError:
        raise PipelineError(
            "generator_workers on a cluster need Ray: pip install 'prefetch-tuning[cluster]'"
        ) from None
    return ClusterShards(pipeline, seed, config, address)

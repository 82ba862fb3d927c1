"""Runs a generator on the nodes of a Ray cluster, one shard in each actor, merged as locally.

The stream is that of `processes.GeneratorProcesses`: the same elements in the same order, on any
number of nodes.
"""

from __future__ import annotations

import itertools
import os
import pickle
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray import cloudpickle
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from prefetch_tuning.pipelines.chain.blocks import block_size
from prefetch_tuning.pipelines.chain.chunking import Block, blocks, interleave, rows
from prefetch_tuning.pipelines.cluster import Places, connect, threads_as_the_user_has_them
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.source import GeneratorPipeline, PipelineError

# Blocks that each shard may have ready beyond the one that is read. Ray stops the generator then.
READY_BLOCKS = 2
# One call reads the shard, one ends a run that nobody reads any more, one begins the next run.
CALLS = 3
# Seconds for all shards to start; each imports TensorFlow.
START_S = 120.0
# After so many lost nodes without a single new block, the cause isn't the nodes.
LOSSES = 3


class Shard:
    """The actor of one shard."""

    def __init__(self, pipeline: bytes, seed: int, index: int, count: int, size: int) -> None:
        threads_as_the_user_has_them()
        self._pipeline: GeneratorPipeline = pickle.loads(pipeline)  # noqa: S301 - from this program
        self._seed, self._index, self._count, self._size = seed, index, count, size
        self._run = 0
        self._running = threading.Lock()
        self._pipeline.prepare()

    def ready(self) -> int:
        """The process's id, when the actor has started."""
        return os.getpid()

    def end(self, run: int) -> None:
        """Ends a run, which nobody reads any more; the next one may have begun already."""
        if self._run == run:
            self._run = 0

    def blocks(self, run: int, done: int) -> Iterator[tuple[Block, int]]:
        """One run through the shard, from its element number `done` on.

        Yields each block with the number of faulty elements that the shard skipped so far.
        """
        self._run = run
        shard: Any = self._pipeline.generate  # checked before: it takes shard_index and shard_count
        with self._running:  # an earlier run may still be making its latest block
            elements = shard(self._seed, shard_index=self._index, shard_count=self._count)
            left = itertools.islice(elements, done, None)
            for block in blocks(left, self._pipeline.element_spec, self._size):
                if self._run != run:
                    return
                yield block, self._pipeline.skipped_elements


@dataclass
class Reader:
    """Reads one shard, wherever it runs.

    Attributes:
        node: the id of its node.
        actor, stream: of the current run.
        done: elements of the current run that were read.
        losses: nodes that were lost since the latest block.
    """

    index: int
    node: str
    actor: Any
    stream: Any = None
    done: int = 0
    losses: int = 0


class ClusterShards:
    """Shards of one generator, each in an actor on a node of a cluster.

    The first shards run on this host as long as it has free cores, the others on other nodes. A
    shard whose node is lost goes on elsewhere with the next element.

    Attributes:
        skipped_elements: faulty elements that the shards skipped, as of their latest blocks.
        pids: the processes of the shards that began on this host.
    """

    def __init__(
        self, pipeline: GeneratorPipeline, seed: int, config: PipelineConfig, address: str
    ) -> None:
        """Places all shards before the first is read.

        Of more shards than there are free cores, some would wait for those that are read, which
        wait for them.

        Raises:
            PipelineError: the cluster has too few free cores, or can't be reached.
        """
        connect(address)
        self._spec, self._size = pipeline.element_spec, block_size(config)
        count = config.generator_workers
        # By value if a script defines the class itself, which other processes can't import.
        self._given = (cloudpickle.dumps(pipeline), seed)
        self._count, self._run = count, 0
        self._places = Places()
        nodes = self._places.take(count)
        self._skipped = [0] * count
        self._readers = [Reader(i, node, self._start(i, node)) for i, node in enumerate(nodes)]
        started = [self._started(reader) for reader in self._readers]
        own = ray.get_runtime_context().get_node_id()
        self.pids = [
            pid for reader, pid in zip(self._readers, started, strict=True) if reader.node == own
        ]

    @property
    def skipped_elements(self) -> int:
        return sum(self._skipped)

    @property
    def nodes(self) -> list[str]:
        """The node of each shard, by Ray's id."""
        return [reader.node for reader in self._readers]

    def run(self) -> Iterator[Block]:
        """Yields the blocks of one run through all shards; abandons an earlier unfinished run.

        Raises:
            Exception: the exception that a shard raised.
            PipelineError: a node was lost, and no other has a free core.
        """
        self._run += 1
        for reader in self._readers:
            if reader.stream is not None:
                reader.actor.end.remote(self._run - 1)
            reader.done = 0
            self._read(reader)
        running = list(self._readers)
        while running:
            received = [(reader, self._next(reader)) for reader in running]
            running = [reader for reader, block in received if block is not None]
            parts = [block for _, block in received if block is not None]
            if parts:
                yield interleave(parts, self._spec)

    def close(self) -> None:
        """Ends the actors."""
        for reader in self._readers:
            ray.kill(reader.actor)

    def _start(self, index: int, node: str) -> Any:
        pipeline, seed = self._given
        return (
            ray.remote(Shard)
            .options(
                num_cpus=1,
                max_restarts=0,
                max_concurrency=CALLS,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            )
            .remote(pipeline, seed, index, self._count, self._size)
        )

    def _started(self, reader: Reader) -> int:
        """Waits until a shard's actor has started; returns its process.

        Raises:
            PipelineError: it didn't.
        """
        ref = reader.actor.ready.remote()
        ready, _ = ray.wait([ref], timeout=START_S)
        if not ready:
            raise PipelineError(
                f"generator shard {reader.index} didn't start within {START_S:.0f} s; the cluster "
                "is in use: wait, or take fewer generator_workers"
            )
        try:
            pid: int = ray.get(ref)
        except RayError as error:
            reason = str(error).strip().split("\n")[-1]
            raise PipelineError(
                f"generator shard {reader.index} can't start on its node: {reason}"
            ) from None
        return pid

    def _read(self, reader: Reader) -> None:
        reader.stream = reader.actor.blocks.options(
            num_returns="streaming", _generator_backpressure_num_objects=READY_BLOCKS
        ).remote(self._run, reader.done)

    def _next(self, reader: Reader) -> Block | None:
        """The next block of a shard, from another node if its own is lost; None at its end."""
        while True:
            try:
                block, self._skipped[reader.index] = ray.get(next(reader.stream))
            except StopIteration:
                reader.stream = None
                return None
            except RayTaskError as error:
                raise error.cause from None
            except RayError:  # the actor is lost, or a block with its node
                self._move(reader)
                continue
            reader.losses = 0
            reader.done += rows(block, self._spec)
            return block  # type: ignore[no-any-return]  # Ray's answers are untyped

    def _move(self, reader: Reader) -> None:
        """Starts a shard anew on another node, from the element after the last that was read."""
        reader.losses += 1
        if reader.losses > LOSSES:
            raise PipelineError(
                f"generator shard {reader.index} ended on {LOSSES + 1} nodes in a row, at element "
                f"{reader.done}; run it alone to see why: prefetch-tune check"
            )
        self._places.lost(reader.node)
        (reader.node,) = self._places.take(1)
        reader.actor = self._start(reader.index, reader.node)
        self._started(reader)
        self._read(reader)

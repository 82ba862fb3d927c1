"""Runs a generator in several processes, one shard in each, and merges them in a fixed order.

It uses the standard library's multiprocessing, because no other library fits. grain's multiprocess
prefetch starts each worker as a new interpreter, which imports TensorFlow again (docs/axes.md).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import queue
import threading
import traceback
from collections.abc import Iterator
from multiprocessing import util
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import SemLock
from typing import Any, Literal, cast

import tensorflow as tf

from prefetch_tuning.pipelines.chain.blocks import block_size
from prefetch_tuning.pipelines.chain.chunking import Block, blocks, interleave
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.source import GeneratorPipeline

StartMethod = Literal["fork", "forkserver"]

# Blocks that each process may have ready: one in transit and one more.
READY_BLOCKS = 2
# Seconds to wait for a block before checking that its process is still alive.
ALIVE_S = 1.0


class GeneratorProcesses:
    """Shards of one generator, each in a separate process.

    The merged stream has the first element of every shard, then the second of every shard, and so
    on. Its order depends only on the number of processes, not on which of them is faster.

    Attributes:
        skipped_elements: faulty elements that the shards skipped, as of their latest blocks.
    """

    def __init__(
        self, pipeline: GeneratorPipeline, seed: int, config: PipelineConfig, method: StartMethod
    ) -> None:
        count = config.generator_workers
        size = block_size(config)
        pipeline.prepare()  # once here instead of once per process
        context: Any = multiprocessing.get_context(method)  # the type stubs lack Process
        if method == "forkserver":
            # One import of TensorFlow for all processes, even if the server, which searches other
            # folders, doesn't find the pipeline's own module.
            context.set_forkserver_preload(["tensorflow", "keras", type(pipeline).__module__])
        self._spec = pipeline.element_spec
        self._orders = [context.SimpleQueue() for _ in range(count)]
        self._blocks = [context.Queue(READY_BLOCKS) for _ in range(count)]
        self._processes: list[BaseProcess] = []
        self._skipped = [0] * count
        self._run = 0
        for index, (orders, made) in enumerate(zip(self._orders, self._blocks, strict=True)):
            process = context.Process(
                target=_work,
                args=(pipeline, seed, index, count, size, orders, made),
                daemon=True,
            )
            process.start()
            self._processes.append(process)

    @property
    def skipped_elements(self) -> int:
        return sum(self._skipped)

    def run(self) -> Iterator[Block]:
        """Yields the blocks of one run through all shards; abandons an earlier unfinished run.

        Raises:
            Exception: the exception that a shard raised.
            RuntimeError: a shard's process ended.
        """
        self._run += 1
        for orders in self._orders:
            orders.put(self._run)
        running = list(range(len(self._processes)))
        while running:
            received = {index: self._next(index) for index in running}
            running = [index for index in running if received[index] is not None]
            parts = [block for block in received.values() if block is not None]
            if parts:
                yield interleave(parts, self._spec)

    def _next(self, index: int) -> Block | None:
        """The next block of a shard; None at its end."""
        while True:
            try:
                run, block, self._skipped[index], error = self._blocks[index].get(timeout=ALIVE_S)
            except queue.Empty:
                process = self._processes[index]
                if process.is_alive():
                    continue
                raise RuntimeError(
                    f"generator process {index} ended with exit code {process.exitcode}"
                ) from None
            if run != self._run:
                continue
            if error is not None:
                raise pickle.loads(error)  # noqa: S301 -- from a process that this one started
            return block  # type: ignore[no-any-return]  # queues are untyped


def remove_names() -> None:
    """Removes the names of semaphores and sockets, which processes that have started don't need.

    The standard library does that when the interpreter shuts down, which a trial doesn't.
    """
    library: Any = util  # private names, which the type stubs lack
    removes = (cast("Any", SemLock)._cleanup, library._remove_temp_dir)
    for finalizer in list(library._finalizer_registry.values()):
        if finalizer._callback in removes:
            finalizer()


def _work(
    pipeline: GeneratorPipeline,
    seed: int,
    index: int,
    count: int,
    size: int,
    orders: Any,
    made: Any,
) -> None:
    """The loop of one process: runs through its shard once per order."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(RuntimeError):  # TensorFlow runs already, so it stays as it is
        # The GPU and its memory belong to the training.
        tf.config.set_visible_devices([], "GPU")
    shard: Any = pipeline.generate  # checked before: it takes shard_index and shard_count
    while True:
        run = orders.get()
        try:
            elements = shard(seed, shard_index=index, shard_count=count)
            for block in blocks(elements, pipeline.element_spec, size):
                made.put((run, block, pipeline.skipped_elements, None))
                if not orders.empty():
                    break  # nobody reads this run any more
            else:
                made.put((run, None, pipeline.skipped_elements, None))
        except Exception as error:
            traceback.print_exc()
            made.put((run, None, pipeline.skipped_elements, _pickled(error)))


def _end_with_parent() -> None:
    # A parent that is killed cannot end its daemon processes itself.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _pickled(error: Exception) -> bytes:
    try:
        text = pickle.dumps(error)
        pickle.loads(text)  # noqa: S301 -- some exceptions can be pickled but not unpickled
        return text
    except Exception:
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))

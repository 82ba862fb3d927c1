"""Other loaders of the same generator: Keras's PyDataset and grain.

`model.fit` turns each of them into a tf.data dataset with `from_generator`. What is measured is
that dataset, with the map that an expert would add.
"""

from __future__ import annotations

import functools
import itertools
import queue
from collections.abc import Iterator
from typing import Any

import grain
import keras
import tensorflow as tf

# A private import, on purpose: `model.fit` wraps a PyDataset in this.
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

from benchmarks.side_by_side.rivals.collate import batch_spec, collate, endless
from benchmarks.side_by_side.rivals.experts import mapped
from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.source import GeneratorPipeline, is_shardable

# Batches that grain prepares for each of its workers, and Keras's default for all of its workers.
AHEAD, KERAS_QUEUE = 4, 10


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras comes without types
    """Batches of a generator for Keras's workers, which are threads.

    Each worker takes a shard of the generator that no other uses at the moment, so those that wait
    don't wait for each other.
    """

    num_batches = None  # endless

    def __init__(self, pipeline: GeneratorPipeline, size: int, workers: int) -> None:
        super().__init__(workers=workers, max_queue_size=max(KERAS_QUEUE, workers))
        self._spec, self._size = pipeline.element_spec, size
        self._free: queue.SimpleQueue[Iterator[Any]] = queue.SimpleQueue()
        shards = workers if is_shardable(pipeline) else 1
        for index in range(shards):
            self._free.put(endless(pipeline, index, shards))

    def __getitem__(self, _: int) -> Any:
        """The next batch of any shard."""
        shard = self._free.get()
        elements = list(itertools.islice(shard, self._size))
        self._free.put(shard)
        return collate(self._spec, elements)


def keras_threads(pipeline: GeneratorPipeline, size: int, workers: int) -> tf.data.Dataset:
    """A PyDataset whose batches are made by threads."""
    adapter = PyDatasetAdapter(Batches(pipeline, size, workers))

    def read() -> Iterator[Any]:
        adapter.on_epoch_begin()
        return iter(adapter._get_iterator())

    dataset = tf.data.Dataset.from_generator(read, output_signature=batch_spec(pipeline))
    return mapped(pipeline, dataset, size)


class Elements(grain.IterDataset):  # type: ignore[misc]  # grain's own types are incomplete
    """A built-in pipeline's elements, which grain's workers split into shards."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self._target = target
        self._index, self._count = 0, 1

    def set_slice(self, sl: slice, sequential_slice: bool = False) -> None:
        """The shard of one worker; grain calls this in the worker's process."""
        del sequential_slice
        self._index, self._count = sl.start or 0, sl.step or 1

    def __iter__(self) -> grain.DatasetIterator:
        return Shard(self._target, self._index, self._count)


class Shard(grain.DatasetIterator):  # type: ignore[misc]
    """The elements of one shard. Its position can't be saved, because a generator can't seek."""

    def __init__(self, target: str, index: int, count: int) -> None:
        super().__init__()
        self._elements = endless(_generator(target), index, count)

    def __next__(self) -> Any:
        return next(self._elements)

    def get_state(self) -> dict[str, int]:
        """Grain asks for it with each batch."""
        return {}

    def set_state(self, state: dict[str, int]) -> None:
        """There is only the beginning."""


def grain_processes(pipeline: GeneratorPipeline, size: int, workers: int) -> tf.data.Dataset:
    """Grain's `mp_prefetch`: each worker makes whole batches in a process of its own."""
    ahead = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=AHEAD)
    read = _grain_batches(pipeline, size).mp_prefetch(ahead)
    return mapped(pipeline, _as_dataset(pipeline, read), size)


def grain_thread(pipeline: GeneratorPipeline, size: int, ahead: int) -> tf.data.Dataset:
    """Grain in this process, with batches ahead in a thread."""
    batches = _grain_batches(pipeline, size)
    read = grain.experimental.ThreadPrefetchIterDataset(batches, prefetch_buffer_size=ahead)
    return mapped(pipeline, _as_dataset(pipeline, read), size)


def _grain_batches(pipeline: GeneratorPipeline, size: int) -> grain.IterDataset:
    target = f"{type(pipeline).__module__}:{type(pipeline).__qualname__}"
    return Elements(target).batch(size, batch_fn=functools.partial(collate, pipeline.element_spec))


def _as_dataset(pipeline: GeneratorPipeline, batches: grain.IterDataset) -> tf.data.Dataset:
    """What Keras makes of it, without the batches that Keras reads first to learn their spec.

    Each such reading would start all workers once more.
    """
    return tf.data.Dataset.from_generator(
        lambda: iter(batches), output_signature=batch_spec(pipeline)
    )


def _generator(target: str) -> GeneratorPipeline:
    found = catalog.load(target)
    assert isinstance(found, GeneratorPipeline), target
    return found

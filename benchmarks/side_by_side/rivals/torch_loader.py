"""PyTorch's DataLoader over the same generator, for an environment that has PyTorch."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from benchmarks.side_by_side.rivals.collate import batch_spec, collate, endless
from benchmarks.side_by_side.rivals.experts import mapped
from prefetch_tuning.pipelines.source import GeneratorPipeline, is_shardable

# Batches that the loader prepares for each of its workers.
AHEAD = 4


def torch_processes(pipeline: GeneratorPipeline, size: int, workers: int) -> tf.data.Dataset:
    """A DataLoader whose workers make whole batches; 0 workers for this process."""
    torch: Any = importlib.import_module("torch")
    data: Any = importlib.import_module("torch.utils.data")

    class Elements(data.IterableDataset):  # type: ignore[misc]
        def __iter__(self) -> Iterator[Any]:
            own = data.get_worker_info()
            if own is None or not is_shardable(pipeline):
                return endless(pipeline)
            return endless(pipeline, own.id, own.num_workers)

    def tensors(elements: Sequence[Any]) -> Any:
        # Tensors reach this process in shared memory; arrays would be pickled.
        return tf.nest.map_structure(torch.from_numpy, collate(pipeline.element_spec, elements))

    options = {"prefetch_factor": AHEAD, "persistent_workers": True} if workers else {}
    loader = data.DataLoader(
        Elements(), batch_size=size, num_workers=workers, collate_fn=tensors, **options
    )

    def read() -> Iterator[Any]:
        for batch in loader:
            yield tf.nest.map_structure(lambda tensor: tensor.numpy(), batch)

    dataset = tf.data.Dataset.from_generator(read, output_signature=batch_spec(pipeline))
    return mapped(pipeline, dataset, size)

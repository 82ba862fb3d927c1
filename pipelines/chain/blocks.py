"""Computes how many elements a generator hands over at once, and how many batches to check."""

from __future__ import annotations

from prefetch_tuning.pipelines.config import PipelineConfig

# Elements per block from a process if tf.data takes them one by one. One message between processes
# costs as much as many elements.
UNCHUNKED_BLOCK = 8
# A process that repeats another's data, or its own last block, is detected within two blocks.
BLOCKS_TO_CHECK = 2
LEAST_TO_CHECK = 2


def block_size(config: PipelineConfig) -> int:
    """Elements per block; with processes, a chunk merges one such block from each of them."""
    workers = config.generator_workers
    if workers == 0:
        return config.generator_chunk
    if config.generator_chunk == 1:
        return UNCHUNKED_BLOCK
    return max(config.generator_chunk // workers, 1)


def batches_to_check(config: PipelineConfig) -> int:
    """How many batches hold two blocks of the generator, or of each process with a shard."""
    elements = BLOCKS_TO_CHECK * block_size(config) * max(config.generator_workers, 1)
    return max(-(-elements // config.batch_size), LEAST_TO_CHECK)

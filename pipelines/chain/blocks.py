"""How many elements a generator hands over at once, and how many batches two such blocks fill."""

from __future__ import annotations

from prefetch_tuning.pipelines.config import PipelineConfig

# Elements of a block where tf.data takes them one by one: a message costs as much as many of them.
UNCHUNKED_BLOCK = 8
# A process that repeats another's data, or its own last block, shows it within two of them.
BLOCKS_TO_CHECK = 2
LEAST_TO_CHECK = 2


def block_size(config: PipelineConfig) -> int:
    """Elements of one block; with processes, of one of theirs, which merged make a chunk."""
    workers = config.generator_workers
    if workers == 0:
        return config.generator_chunk
    if config.generator_chunk == 1:
        return UNCHUNKED_BLOCK
    return max(config.generator_chunk // workers, 1)


def batches_to_check(config: PipelineConfig) -> int:
    """Batches that hold two blocks of the generator, or of every process that runs a shard."""
    elements = BLOCKS_TO_CHECK * block_size(config) * max(config.generator_workers, 1)
    return max(-(-elements // config.batch_size), LEAST_TO_CHECK)

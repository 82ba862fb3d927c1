"""What the buffers of a running chain contain."""

from __future__ import annotations

import math
from typing import Any

from prefetch_tuning.objectives.digest import nbytes
from prefetch_tuning.objectives.machine.process_tree import MIB
from prefetch_tuning.objectives.measurement import AutotuneNode
from prefetch_tuning.pipelines.config import PipelineConfig


def batches_held(config: PipelineConfig, nodes: list[AutotuneNode]) -> float:
    """Batches in the chain's full buffers: finished ones, plus what calls of the map hold.

    That is an element each, a fraction of a batch, or a whole batch if the map runs on batches.
    A pinned chain's buffers have the configured sizes. For AUTOTUNE, its chosen sizes are used.
    """
    if config.is_autotune:
        chosen = {node.parameter: node.value for node in nodes}
        prefetch, parallel = chosen.get("buffer_size", 0.0), chosen.get("parallelism", 1.0)
    else:
        prefetch, parallel = float(config.prefetch_buffer), float(config.map_parallelism)
    if parallel <= 1:
        return prefetch
    return prefetch + (parallel if config.vectorized_map else parallel / config.batch_size)


def ready_batches(config: PipelineConfig, nodes: list[AutotuneNode]) -> int:
    """How many whole batches may be ready."""
    return math.ceil(batches_held(config, nodes))


def buffer_mib(config: PipelineConfig, batch: Any, nodes: list[AutotuneNode]) -> float:
    """MiB in the chain's full buffers, for batches like `batch`."""
    return batches_held(config, nodes) * nbytes(batch) / MIB

"""Seconds until the first element comes out of worker processes: grain's, forked, fork server.

Needs grain beside the project: .venv/bin/python -m pip install grain
Run from the checkout: .venv/bin/python benchmarks/grain_start.py [WORKERS]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import grain  # type: ignore[import-not-found]  # no dependency of the project
import numpy as np

from pipelines.config import PipelineConfig
from pipelines.monitor import SourceMonitor
from pipelines.processes import StartMethod
from pipelines.simple import SimplePipeline


class Source:
    """The pipeline's elements by their number, as grain wants them; its module needs TensorFlow."""

    pipeline = SimplePipeline

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> np.ndarray:
        return np.array([index, 2 * index])


def with_grain(workers: int) -> None:
    """Grain's multiprocess prefetch."""
    options = grain.multiprocessing.MultiprocessingOptions(num_workers=workers)
    dataset = grain.MapDataset.source(Source()).to_iter_dataset().mp_prefetch(options)
    next(iter(dataset))


def with_processes(workers: int, method: StartMethod) -> None:
    """This project's, forked or from a fork server."""
    config = PipelineConfig(
        batch_size=32, prefetch_buffer=1, map_parallelism=1, generator_workers=workers
    )
    next(iter(SourceMonitor(SimplePipeline(), 0, config, start_method=method)()))


def seconds(start: Callable[[], None]) -> float:
    """Wall time of one start."""
    begin = time.perf_counter()
    start()
    return time.perf_counter() - begin


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    print(f"{count} workers, seconds until the first element")
    print(f"fork        {seconds(lambda: with_processes(count, 'fork')):6.2f}")
    print(f"forkserver  {seconds(lambda: with_processes(count, 'forkserver')):6.2f}")
    print(f"grain       {seconds(lambda: with_grain(count)):6.2f}")

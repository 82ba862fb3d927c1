"""How much a slow call of a map holds back those behind it, and what helps.

.venv/bin/python -m benchmarks.studies.overtaking
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

CALLS, BATCH, BATCHES, POOL = 8, 32, 60, 64
SLOW_EVERY, SLOW_S, QUICK_S = 8, 0.04, 0.001


def numbers() -> Iterator[int]:
    """0, 1, 2, ... without end."""
    yield from itertools.count()


def wait(number: Any) -> Any:
    """The map: a few calls take much longer than the others."""
    time.sleep(SLOW_S if number % SLOW_EVERY == 0 else QUICK_S)
    return number


def rate(*, ordered: bool, one_stage: bool) -> float:
    """Elements per second of a chain with its own pool."""
    dataset = tf.data.Dataset.from_generator(numbers, output_signature=tf.TensorSpec((), tf.int64))
    dataset = dataset.map(
        lambda number: tf.numpy_function(wait, [number], tf.int64), num_parallel_calls=CALLS
    )
    options = tf.data.Options()
    options.autotune.enabled = False
    options.deterministic = ordered
    options.threading.private_threadpool_size = POOL
    options.experimental_optimization.map_and_batch_fusion = one_stage
    batches = iter(dataset.batch(BATCH).prefetch(4).with_options(options))
    for _ in range(5):
        next(batches)
    begin = time.perf_counter()
    for _ in range(BATCHES):
        next(batches)
    return BATCH * BATCHES / (time.perf_counter() - begin)


def main() -> None:
    """Prints the rate of each combination."""
    print("| map and batch | order | elements/s |")
    print("|---|---|---:|")
    for one_stage, ordered in itertools.product((True, False), repeat=2):
        stages = "one stage" if one_stage else "two stages"
        order = "kept" if ordered else "any"
        found = rate(ordered=ordered, one_stage=one_stage)
        print(f"| {stages} | {order} | {found:,.0f} |")


if __name__ == "__main__":
    main()

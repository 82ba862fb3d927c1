"""One trial as a user writes it: build the chain, train 30 steps, print examples per second.

naive_trial.py TARGET '{"batch_size": 64, "prefetch": 4, "calls": 2}'
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import tensorflow as tf

from prefetch_tuning.pipelines import catalog
from prefetch_tuning.pipelines.source import has_transform

WARM_UP, STEPS = 5, 30


def measured(target: str, batch_size: int, prefetch: int, calls: int) -> dict[str, float]:
    """Examples per second over 30 steps of `fit`'s own step, after five that don't count.

    The seconds of all steps but the first, which is traced, are `stepping_s`.
    """
    pipeline: Any = catalog.load(target)
    dataset = tf.data.Dataset.from_generator(
        lambda: pipeline.generate(0), output_signature=pipeline.element_spec
    )
    if has_transform(pipeline):
        dataset = dataset.map(pipeline.transform, num_parallel_calls=calls)
    batches = iter(dataset.repeat().batch(batch_size).prefetch(prefetch))
    model = pipeline.build_model()
    model.train_on_batch(*_parts(next(batches)))
    first = time.perf_counter()
    for _ in range(WARM_UP - 1):
        model.train_on_batch(*_parts(next(batches)))
    begin = time.perf_counter()
    for _ in range(STEPS):
        model.train_on_batch(*_parts(next(batches)))
    end = time.perf_counter()
    return {"examples_per_s": STEPS * batch_size / (end - begin), "stepping_s": end - first}


def _parts(batch: Any) -> tuple[Any, ...]:
    return batch if isinstance(batch, tuple) else (batch,)


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], **json.loads(sys.argv[2]))))

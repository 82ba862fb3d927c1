"""Times the heavy step by itself, waiting for each one, and prints one line of JSON."""

from __future__ import annotations

import json
import statistics
import time

import tensorflow as tf

from benchmarks.audit.planted import FEATURES
from benchmarks.gpu_check.planted import heavy_model
from prefetch_tuning.objectives.loop.distribution import Distribution
from prefetch_tuning.objectives.loop.step import compile_step

STEPS, BATCH = 30, 8


def main() -> None:
    """Prints the median seconds of a step that is waited for, and of dispatching one."""
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    spec = (
        tf.TensorSpec((None, FEATURES), tf.float32),
        tf.TensorSpec((None,), tf.float32),
    )
    model = heavy_model()
    step = compile_step(model, spec, Distribution(model))
    batch = (tf.zeros((BATCH, FEATURES)), tf.zeros((BATCH,)))
    waited, dispatched = [], []
    for _ in range(STEPS):
        begin = time.perf_counter()
        loss = step(batch)["loss"]
        dispatched.append(time.perf_counter() - begin)
        float(loss)
        waited.append(time.perf_counter() - begin)
    found = {
        "step_s": statistics.median(waited[5:]),
        "dispatch_s": statistics.median(dispatched[5:]),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()

"""Trains two epochs with `model.fit` and prints the examples/s of the second, for `in_fit.py`.

fit_once.py PIPELINE CONFIG_JSON STEPS
"""

from __future__ import annotations

import os
import sys
import time

from keras.callbacks import LambdaCallback

from prefetch_tuning.pipelines.catalog import load
from prefetch_tuning.pipelines.chain.build import build_dataset
from prefetch_tuning.pipelines.config import PipelineConfig


def main(target: str, document: str, steps: int) -> None:
    """Times the second epoch, when everything is traced and all buffers are in a steady state."""
    pipeline, config = load(target), PipelineConfig.model_validate_json(document)
    times: list[float] = []

    def note(*_: object) -> None:
        times.append(time.perf_counter())

    pipeline.build_model().fit(
        build_dataset(pipeline, config),
        steps_per_epoch=steps,
        epochs=2,
        verbose=0,
        callbacks=[LambdaCallback(on_epoch_begin=note, on_epoch_end=note)],
    )
    print(steps * config.batch_size / (times[3] - times[2]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    os._exit(0)  # an iterator over an endless generator can hang the interpreter's exit

"""Training scripts as texts, run in this process up to their `fit`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from prefetch_tuning.pipelines.chain.declared import epochs
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.script.fit import Changes, FitCall
from prefetch_tuning.pipelines.script.pipeline import pipeline_of
from prefetch_tuning.pipelines.script.session import run_script
from prefetch_tuning.pipelines.source import BatchesPipeline
from prefetch_tuning.pipelines.target import Target

FILE = "train.py"
BEGIN = """
import keras
import numpy as np
import tensorflow as tf

SPEC = (tf.TensorSpec(3, tf.float32), tf.TensorSpec((), tf.float32))


def rows(count=40):
    for number in range(count):
        yield np.full(3, number, np.float32), np.float32(number % 5)


def make_model():
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model

"""


class Reached(Exception):
    """Ends a script inside of its `fit`."""


def at_fit(
    folder: Path, text: str, look: Callable[[FitCall], Any], *args: str, fit: int = 1, seed: int = 0
) -> Any:
    """What `look` returns inside of the script's `fit`; the script ends there."""
    (folder / FILE).write_text(BEGIN + text)
    found: list[Any] = []

    def reached(call: FitCall) -> Changes:
        found.append(look(call))
        raise Reached

    keras.utils.set_random_seed(seed)
    try:
        run_script(Target(main=FILE, args=args, fit=fit), reached)
    except Reached:
        return found[0]
    raise AssertionError("the script caught what ends it")


def pipeline_in(call: FitCall) -> BatchesPipeline:
    """The pipeline of this call."""
    return pipeline_of(Path(FILE), call)


def some_batches(pipeline: BatchesPipeline, config: PipelineConfig, count: int) -> list[Any]:
    """The first batches, as nested arrays."""
    found = []
    for batch in epochs(pipeline.make_batches(config, 0)):
        found.append(keras.tree.map_structure(lambda leaf: leaf.numpy(), batch))
        if len(found) == count:
            break
    return found

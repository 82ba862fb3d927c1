"""Pipelines whose limit or data is known by construction, so they need no grid."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.audit.planted import FEATURES, Cheap, burn, in_python, row


class CopiedShards(Cheap):
    """A generator that ignores shard_index and shard_count, so each process makes every element.

    It waits 2 to 5 ms per element, so processes look like a gain until the data is compared.
    """

    name = "copied_shards"
    LEAST_S, MOST_S = 0.002, 0.005

    def generate(
        self,
        seed: int,
        shard_index: int = 0,  # noqa: ARG002 - ignoring them is what is planted
        shard_count: int = 1,  # noqa: ARG002
    ) -> Iterator[Any]:
        rng = np.random.default_rng(seed)
        for number in itertools.count(seed):
            time.sleep(rng.uniform(self.LEAST_S, self.MOST_S))
            yield row(number)


class WastefulMap(Cheap):
    """A map that burns 200 µs of CPU per example; its batch map gives the same without that."""

    name = "wasteful_map"
    BUSY_S = 0.0002

    @tf.autograph.experimental.do_not_convert
    def transform(self, *element: Any) -> Any:
        def work(features: Any) -> Any:
            burn(self.BUSY_S)
            return features

        features, label = element
        return 2.0 * in_python(work, features), label

    @tf.autograph.experimental.do_not_convert
    def transform_batch(self, *batch: Any) -> Any:
        """Gives the same bits for float32 of shape (batch, 4), without the work."""
        features, label = batch
        return 2.0 * features, label


class SleepingModel(keras.Model):  # type: ignore[misc]  # Keras comes without types
    """One dense layer whose training step also waits, inside its graph."""

    def __init__(self, wait_s: float) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self._wait_s = wait_s

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)

    def train_step(self, data: Any) -> Any:
        def wait() -> Any:
            time.sleep(self._wait_s)
            return np.float32(0.0)

        # Stateful, so it runs in its place in the graph although nothing uses what it returns.
        tf.numpy_function(wait, [], tf.float32, stateful=True)
        return super().train_step(data)


class KnownStep(Cheap):
    """A step of 30 ms per batch, as on an accelerator that leaves the cores alone.

    Its dense layer and waking up add up to 2.5 ms on a slow host. The step is long enough for that
    to stay within what the audit allows.
    """

    name = "known_step"
    STEP_S = 0.030

    def build_model(self) -> keras.Model:
        model = SleepingModel(self.STEP_S)
        model.build((None, FEATURES))
        model.compile(optimizer="sgd", loss="mse", jit_compile=False)
        return model


class KnownGenerator(Cheap):
    """A generator of 5 ms per element that can't be split: 200 examples/s at most.

    Waking up adds up to 0.4 ms on a slow host. The wait is long enough for that to stay within what
    the audit allows.
    """

    name = "known_generator"
    WAIT_S = 0.005

    def generate(self, seed: int) -> Iterator[Any]:
        for element in super().generate(seed):
            time.sleep(self.WAIT_S)
            yield element

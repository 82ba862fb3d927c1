"""Pipelines whose bottleneck is known because it is planted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.planted.pipelines import Planted


class SleepingGenerator(Planted):
    """Sleeps 3 ms per element, with the processor idle."""

    name = "sleeping_generator"
    batch_sizes = (8,)

    def generate(self, seed: int) -> Iterator[Any]:
        for element in super().generate(seed):
            time.sleep(0.003)
            yield element


class BusyGenerator(Planted):
    """Computes for 0.5 ms per element in Python."""

    name = "busy_generator"
    batch_sizes = (32,)

    def generate(self, seed: int) -> Iterator[Any]:
        for element in super().generate(seed):
            total = 0
            for number in range(20_000):
                total += number
            yield element


class BareElements(Planted):
    """Yields one ready element for ever: the only cost is handing elements to tf.data."""

    name = "bare_elements"
    batch_sizes = (64,)

    def generate(self, seed: int) -> Iterator[Any]:
        element = np.ones(4, np.float32), 1.0
        while True:
            yield element


class BlockingMap(Planted):
    """A map that waits 4 ms, as for a file or a server."""

    name = "blocking_map"
    batch_sizes = (8,)

    def transform(self, *element: Any) -> Any:
        def wait(features: Any) -> Any:
            time.sleep(0.004)
            return features

        features, label = element
        waited = tf.numpy_function(wait, [features], tf.float32)
        return tf.ensure_shape(waited, (4,)), label


class BusyMap(Planted):
    """A map that computes for 1 ms in TensorFlow ops."""

    name = "busy_map"
    batch_sizes = (32,)

    def transform(self, *element: Any) -> Any:
        features, label = element
        # Small products one after another: TensorFlow spreads a large one over all cores.
        matrix = tf.fill((48, 48), features[0])
        for _ in range(60):
            matrix = tf.sin(tf.linalg.matmul(matrix, matrix))
        return features + 0.0 * matrix[0, :4], label


class PythonMap(Planted):
    """A map that computes for 0.5 ms in Python."""

    name = "python_map"
    batch_sizes = (32,)

    # AutoGraph would convert the loop to one that takes ten times as long.
    @tf.autograph.experimental.do_not_convert
    def transform(self, *element: Any) -> Any:
        def work(features: Any) -> Any:
            total = 0
            for number in range(26_000):
                total += number
            return features

        features, label = element
        worked = tf.numpy_function(work, [features], tf.float32)
        return tf.ensure_shape(worked, (4,)), label


class Wasteful(Planted):
    """A map that computes for 0.5 ms in Python, and a map for batches that computes nothing."""

    name = "wasteful"
    batch_sizes = (32,)

    def transform(self, *element: Any) -> Any:
        return PythonMap.transform(self, *element)  # it uses nothing of `self`

    def transform_batch(self, *batch: Any) -> Any:
        return batch


class HeavyModel(Planted):
    """A step of about 20 ms behind a generator that costs nothing."""

    name = "heavy_model"
    batch_sizes: Any = (8, 16)

    def build_model(self) -> Any:
        layers = [keras.layers.Dense(1_536, activation="relu") for _ in range(4)]
        model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(1)])
        model.compile(optimizer=keras.optimizers.SGD(1e-4), loss="mse", jit_compile=False)
        return model


class SlowHeavy(HeavyModel):
    """Sleeps 5 ms per element. The step takes longer than one element, so the buffer fills."""

    name = "slow_heavy"
    batch_sizes = (1,)

    def generate(self, seed: int) -> Iterator[Any]:
        for element in super().generate(seed):
            time.sleep(0.005)
            yield element

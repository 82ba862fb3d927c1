"""The smallest possible pipeline: pairs of numbers, so only overhead is left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from prefetch_tuning.pipelines.source import GeneratorPipeline

# The pairs repeat after this many. That keeps the features in [0, 1] without a second pass.
LENGTH = 1_000_000


class SimplePipeline(GeneratorPipeline):
    """Pairs (i, 2i), scaled to [0, 1], into a one-layer regression."""

    name = "simple"
    element_spec = (tf.TensorSpec((), tf.int64), tf.TensorSpec((), tf.int64))
    batch_sizes = (32, 64, 128, 256)

    def generate(
        self, seed: int, shard_index: int = 0, shard_count: int = 1
    ) -> Iterator[tuple[int, int]]:
        """Yields (i, 2i) for a million i, starting at a point that the seed chooses."""
        for i in range(shard_index, LENGTH, shard_count):
            number = (i + seed) % LENGTH
            yield number, 2 * number

    @tf.autograph.experimental.do_not_convert  # has no Python control flow, so this starts sooner
    def transform(self, *element: Any) -> Any:
        """Scales both integer scalars by 1 / LENGTH, to float32 of shape (1,) and ().

        It also accepts batches.
        """
        number, double = element
        scale = 1.0 / LENGTH
        features = tf.cast(number, tf.float32)[..., tf.newaxis]
        return features * scale, tf.cast(double, tf.float32) * scale

    def build_model(self) -> keras.Model:
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        # Without XLA, because a step of microseconds gains nothing and a trial starts sooner.
        model.compile(optimizer="sgd", loss="mse", jit_compile=False)
        return model

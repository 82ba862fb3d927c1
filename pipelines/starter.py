"""A pipeline to start from: change the parts marked CHANGE, then tune it again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from prefetch_tuning.pipelines.source import GeneratorPipeline

FEATURES, CLASSES = 16, 4


class Starter(GeneratorPipeline):
    """Random rows and their class, into a small MLP."""

    # The pipeline's name in studies, in MLflow and in reports.
    name = "starter"
    # CHANGE: one (features, label) element, unbatched; a dimension of None is padded in the batch.
    element_spec = (tf.TensorSpec((FEATURES,), tf.float32), tf.TensorSpec((), tf.int32))
    # CHANGE: the batch sizes that you would train with; the search finds the best one.
    batch_sizes = (32, 64, 128)

    def generate(self, seed: int) -> Iterator[Any]:
        """CHANGE: yield your own elements, plain Python or NumPy, finite or endless.

        The same seed must give the same elements, so a rerun can tell whether the data changed.
        """
        rng = np.random.default_rng(seed)
        while True:
            yield rng.random(FEATURES, dtype=np.float32), int(rng.integers(CLASSES))

    def transform(self, *element: Any) -> Any:
        """CHANGE: the map, in TensorFlow ops; remove this method if you have no map.

        Randomness must come from the element (tf.image.stateless_...), not from the order in which
        threads reach it. Otherwise the data would depend on how many calls are in flight.
        """
        features, label = element
        return features * 2.0 - 1.0, label

    def build_model(self) -> keras.Model:
        """CHANGE: your compiled model; its own train_step is used if it has one."""
        model = keras.Sequential(
            [
                keras.Input((FEATURES,)),
                keras.layers.Dense(64, activation="relu"),
                keras.layers.Dense(CLASSES),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer="adam", loss=loss)
        return model

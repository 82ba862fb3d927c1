"""Datasets that users build themselves: functions of a configuration, and PyDatasets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from prefetch_tuning.pipelines.config import PipelineConfig

SPEC = (tf.TensorSpec((4,), tf.float32), tf.TensorSpec((), tf.float32))


def rows(length: int) -> Iterator[tuple[np.ndarray, float]]:
    for index in range(length):
        yield np.full(4, index, np.float32), float(index)


def make_dataset(config: PipelineConfig) -> tf.data.Dataset:
    """Ten rows in a chain that the user built, so an epoch ends in a short batch."""
    dataset = tf.data.Dataset.from_generator(lambda: rows(10), output_signature=SPEC)
    dataset = dataset.map(lambda x, y: (x * 2, y), num_parallel_calls=config.num_parallel_calls)
    return dataset.batch(config.batch_size).prefetch(config.buffer_size)


def deaf(config: PipelineConfig) -> tf.data.Dataset:
    """Planted fault: takes a configuration but ignores it, and always gives batches of 8."""
    return tf.data.Dataset.from_generator(lambda: rows(64), output_signature=SPEC).batch(8)


def no_dataset(config: PipelineConfig) -> list[int]:
    return [config.batch_size]


def make_model() -> keras.Model:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse", jit_compile=False)
    return model


class Waiting(keras.utils.PyDataset):  # type: ignore[misc]  # Keras comes without types
    """Waits 20 ms for each batch, as a read does. The last batch of an epoch is half a batch."""

    WAIT_S = 0.02
    BATCHES = 30

    def __len__(self) -> int:
        return self.BATCHES

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        time.sleep(self.WAIT_S)
        size = 8 if index < self.BATCHES - 1 else 4
        return np.full((size, 4), index, np.float32), np.full(size, index, np.float32)


class WaitingLong(Waiting):
    """Has epochs that outlast a trial: between epochs, Keras stops its workers for 0.1 s."""

    BATCHES = 1_000


class NeedsArguments(keras.utils.PyDataset):  # type: ignore[misc]
    def __init__(self, path: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.path = path

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return np.zeros((8, 4), np.float32), np.zeros(8, np.float32)


made = NeedsArguments("here", workers=3, max_queue_size=4)

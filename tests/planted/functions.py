"""Plain functions, as a user has them before knowing this project."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def rows(seed: int = 0) -> Iterator[Any]:
    """Rows of four numbers and their sum."""
    rng = np.random.default_rng(seed)
    while True:
        row = rng.random(4, dtype=np.float32)
        yield row, float(row.sum())


def sentences() -> Iterator[Any]:
    """Dicts with a varying number of words, and a label."""
    for length in range(1, 100):
        yield {"words": np.arange(length), "kind": "text"}, length % 2


def double(row: Any, label: Any) -> Any:
    return 2.0 * row, label


def make_model() -> Any:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse", jit_compile=False)
    return model


def mixed() -> Iterator[Any]:
    yield np.zeros(3), 1
    yield np.zeros((3, 3)), 1


def restless() -> Iterator[Any]:
    yield 1, 2
    yield 1, 2, 3


def objects() -> Iterator[Any]:
    yield object(), 1


def nothing() -> Iterator[Any]:
    return iter(())


def demanding(path: str) -> Iterator[Any]:
    yield path, 1


SPEC = (tf.TensorSpec((4,), tf.float32), tf.TensorSpec((), tf.float32))

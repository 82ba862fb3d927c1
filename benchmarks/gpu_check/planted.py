"""Pipelines for the checks on a GPU: a tiny step, a heavy one, and one that doesn't always fit."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.audit.planted import Cheap, row
from benchmarks.gpu_check.sizes import FITTING, TOO_LARGE

# The side of the square matrices that the heavy step multiplies, and the number of products. They
# take about 25 ms on a GPU of 2023 in TF32, which TensorFlow uses for float32.
SIDE, PRODUCTS = 8_192, 8
# The MiB of float32 that each example of `Hungry` takes on the device.
MIB_EACH = 256
SLOW_S = 0.006
FLOATS_PER_MIB = 2**18


def slow_rows(seed: int = 0) -> Iterator[Any]:
    """Yields an element every 6 ms."""
    for number in itertools.count(seed):
        time.sleep(SLOW_S)
        yield row(number)


def quick_rows(seed: int = 0) -> Iterator[Any]:
    """Yields elements without waiting."""
    return map(row, itertools.count(seed))


class Multiplying(keras.Model):  # type: ignore[misc]  # Keras comes without types
    """A model whose training step multiplies large matrices, starting from a value of the batch."""

    def __init__(self, side: int, products: int) -> None:
        super().__init__()
        self._products = products
        self._matrix = self.add_weight(
            shape=(side, side),
            initializer=keras.initializers.RandomNormal(stddev=side**-0.5),
            trainable=False,
        )

    def train_step(self, data: Any) -> dict[str, Any]:
        """Multiplies the matrices and returns a loss that depends on every product.

        So no product can be optimised away. The first product depends on the batch, so no kernel
        runs before the batch is on the device.
        """
        features, _ = data
        product = self._matrix + 1e-9 * tf.reduce_mean(features)
        for _ in range(self._products):
            product = tf.matmul(product, self._matrix)
        return {"loss": 1e-9 * tf.reduce_mean(product)}


def heavy_model() -> keras.Model:
    """A model whose step keeps the device busy and the host idle."""
    model = Multiplying(SIDE, PRODUCTS)
    model.compile(optimizer="sgd", loss="mse", jit_compile=False)
    return model


class Filling(keras.Model):  # type: ignore[misc]  # Keras comes without types
    """A model whose training step holds 256 MiB per example on the device."""

    def train_step(self, data: Any) -> dict[str, Any]:
        features, _ = data
        shape = [tf.shape(features)[0], MIB_EACH * FLOATS_PER_MIB]
        # Filled from the data: otherwise it would be folded to a constant before the step runs.
        held = tf.fill(shape, tf.reduce_mean(features))
        return {"loss": tf.reduce_max(held)}


class Tiny(Cheap):
    """A dense layer of four weights, in small batches."""

    name = "tiny"
    batch_sizes = (8,)


class Hungry(Cheap):
    """A step that fits at the two small batch sizes; at the other two it fits on no GPU."""

    name = "hungry"
    batch_sizes = (*FITTING, *TOO_LARGE)

    def build_model(self) -> keras.Model:
        model = Filling()
        model.compile(optimizer="sgd", loss="mse", jit_compile=False)
        return model


class Images(Cheap):
    """Batches that take a while to copy to the device: 1 MiB per example, float32."""

    name = "images"
    batch_sizes = (64,)
    element_spec = (tf.TensorSpec((512, 512), tf.float32), tf.TensorSpec((), tf.float32))

    def generate(self, seed: int) -> Iterator[Any]:
        image = np.full((512, 512), seed, np.float32)
        return itertools.repeat((image, np.float32(0)))

    def build_model(self) -> keras.Model:
        return heavy_model()

"""Pipelines that have one symptom each, beside those of the audit."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.audit.planted import Cheap, burn, row

SIDE = 64
WAIT_S = 0.01
FLOOR = 0.5
# A second of sound, and the windows of its spectrogram.
SAMPLES, WINDOW, HOP = 16_000, 512, 128


class BusyGenerator(Cheap):
    """A generator of half a millisecond of pure Python per element, which can be split."""

    name = "busy_generator"
    BUSY_S = 0.0005

    def generate(self, seed: int, shard_index: int = 0, shard_count: int = 1) -> Iterator[Any]:
        for number in itertools.count(seed + shard_index, shard_count):
            burn(self.BUSY_S)
            yield row(number)


class Images(Cheap):
    """Images of 64x64 floats and the mean of each, for one dense layer."""

    element_spec: Any = (tf.TensorSpec((SIDE, SIDE), tf.float32), tf.TensorSpec((), tf.float32))

    def generate(self, seed: int) -> Iterator[Any]:
        image = np.random.default_rng(seed).random((SIDE, SIDE), dtype=np.float32)
        while True:
            yield image, float(image[0, 0])

    def build_model(self) -> keras.Model:
        layers = [keras.Input((SIDE, SIDE)), keras.layers.Flatten(), keras.layers.Dense(1)]
        model = keras.Sequential(layers)
        # With a larger learning rate the loss of so many features diverges.
        model.compile(optimizer=keras.optimizers.SGD(1e-6), loss="mse", jit_compile=False)
        return model


def images(seed: int = 0) -> Iterator[Any]:
    """Yields images of 64x64x3 floats, 48 KiB each, and a label."""
    image = np.random.default_rng(seed).random((SIDE, SIDE, 3), dtype=np.float32)
    while True:
        yield image, 0


class LoopMap(Images):
    """A map that clips each pixel of an image in a Python loop."""

    name = "loop_map"

    @tf.autograph.experimental.do_not_convert
    def transform(self, *element: Any) -> Any:
        image, label = element
        made = tf.numpy_function(clipped, [image], tf.float32)
        return tf.ensure_shape(made, (SIDE, SIDE)), label


class TensorFlowMap(Images):
    """The same map in TensorFlow ops."""

    name = "tensorflow_map"

    @tf.autograph.experimental.do_not_convert
    def transform(self, *element: Any) -> Any:
        image, label = element
        return tf.maximum(image, FLOOR), label


def clipped(image: np.ndarray) -> np.ndarray:
    """Float32 of the same shape, with every pixel at least `FLOOR`."""
    return np.array([[max(value, FLOOR) for value in line] for line in image.tolist()], np.float32)


class Spectrograms(Cheap):
    """A second of sound per element, and a map that makes its spectrogram in TensorFlow ops."""

    name = "spectrograms"
    element_spec: Any = (tf.TensorSpec((SAMPLES,), tf.float32), tf.TensorSpec((), tf.float32))
    frames, bins = 1 + (SAMPLES - WINDOW) // HOP, WINDOW // 2 + 1

    def generate(self, seed: int) -> Iterator[Any]:
        sound = np.random.default_rng(seed).random(SAMPLES, dtype=np.float32)
        while True:
            yield sound, float(sound[0])

    @tf.autograph.experimental.do_not_convert
    def transform(self, *element: Any) -> Any:
        sound, label = element
        return tf.abs(tf.signal.stft(sound, WINDOW, HOP)), label

    def build_model(self) -> keras.Model:
        pooled = keras.layers.GlobalAveragePooling1D()
        layers = [keras.Input((self.frames, self.bins)), pooled, keras.layers.Dense(1)]
        model = keras.Sequential(layers)
        model.compile(optimizer=keras.optimizers.SGD(1e-6), loss="mse", jit_compile=False)
        return model


class ConvertedMap(Cheap):
    """A Python loop in a function that `transform` defines, which AutoGraph converts."""

    name = "converted_map"
    TIMES = 2_000

    def transform(self, *element: Any) -> Any:
        times = self.TIMES

        def work(features: Any) -> Any:
            total = 0
            for number in range(times):
                total += number
            return features + np.float32(total % 2)

        features, label = element
        made = tf.numpy_function(work, [features], tf.float32)
        return tf.ensure_shape(made, features.shape), label


class UnconvertedMap(ConvertedMap):
    """The same map, with AutoGraph switched off."""

    name = "unconverted_map"
    transform = tf.autograph.experimental.do_not_convert(ConvertedMap.transform)


class WaitingItems(keras.utils.PyDataset):  # type: ignore[misc]  # Keras comes without types
    """A PyDataset that waits 10 ms per batch, as a read does."""

    name = "waiting_items"

    def __len__(self) -> int:
        return 1_000

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Features of shape (32, 4) and labels of shape (32,), both float32."""
        time.sleep(WAIT_S)
        rows = np.full((32, 4), index / 1_000.0, np.float32)
        return rows, rows[:, 0]


def build_model() -> keras.Model:
    """One dense layer for rows of four floats."""
    return Cheap().build_model()

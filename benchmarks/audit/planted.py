"""Pipelines with a planted bottleneck, to compare a search's answer with a grid's.

Targets are `benchmarks.audit.planted:BlockingMap` and so on, from the root of a checkout. A truth
has the digest of this file, so the grids must be run again after a change here.
"""

from __future__ import annotations

import http.client
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import keras
import numpy as np
import tensorflow as tf

from prefetch_tuning.pipelines.builtin.remote import READ_TIMEOUT_S, RemotePipeline
from prefetch_tuning.pipelines.builtin.support.object_server import OBJECTS, SIDE
from prefetch_tuning.pipelines.source import GeneratorPipeline

FEATURES = 4
BATCH_SIZE = 32


class Cheap(GeneratorPipeline):
    """Rows of four numbers and their sum for one dense layer, all at next to no cost."""

    name = "cheap"
    element_spec: Any = (tf.TensorSpec((FEATURES,), tf.float32), tf.TensorSpec((), tf.float32))
    batch_sizes: Sequence[int] = (BATCH_SIZE,)

    def generate(self, seed: int) -> Iterator[Any]:
        for number in itertools.count(seed):
            yield row(number)

    def build_model(self) -> keras.Model:
        model = keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(1)])
        # Without XLA: a step of microseconds gains nothing from it and a trial starts sooner.
        model.compile(optimizer="sgd", loss="mse", jit_compile=False)
        return model


class BlockingMap(Cheap):
    """A map that waits 4 ms per element in Python, as a read does."""

    name = "blocking_map"
    WAIT_S = 0.004

    @tf.autograph.experimental.do_not_convert
    def transform(self, *element: Any) -> Any:
        def wait(features: Any) -> Any:
            time.sleep(self.WAIT_S)
            return features

        features, label = element
        return in_python(wait, features), label


class SocketMap(Cheap):
    """A map that reads each image over a real socket, from a server that waits 5 ms per read."""

    name = "socket_map"
    element_spec = (tf.TensorSpec((), tf.int64), tf.TensorSpec((), tf.float32))

    def __init__(self) -> None:
        self._store = RemotePipeline()
        # Not one per thread: TensorFlow's threads lose what is thread-local after each call.
        self._idle: list[http.client.HTTPConnection] = []

    def generate(self, seed: int) -> Iterator[Any]:
        for number in itertools.count(seed):
            yield number % OBJECTS, 0.0

    @tf.autograph.experimental.do_not_convert
    def transform(self, *element: Any) -> Any:
        """Maps an object's number to float32 of shape (32, 32, 1) in [-1, 1] and its class."""
        body = tf.numpy_function(self._get, [element[0]], tf.uint8)
        body = tf.ensure_shape(body, (1 + SIDE * SIDE,))
        pixels = tf.cast(tf.reshape(body[1:], (SIDE, SIDE, 1)), tf.float32)
        return pixels / 127.5 - 1.0, tf.cast(body[0], tf.int32)

    def build_model(self) -> keras.Model:
        return self._store.build_model()

    def _get(self, number: Any) -> Any:
        self._store.prepare()
        try:
            connection = self._idle.pop()
        except IndexError:
            server = urlsplit(self._store.url or "").netloc
            connection = http.client.HTTPConnection(server, timeout=READ_TIMEOUT_S)
        connection.request("GET", f"/objects/{number}")
        body = connection.getresponse().read()
        self._idle.append(connection)
        return np.frombuffer(body, np.uint8)


class BusyMap(Cheap):
    """A map of half a millisecond of pure Python per element, whose calls share the GIL."""

    name = "busy_map"
    BUSY_S = 0.0005

    @tf.autograph.experimental.do_not_convert
    def transform(self, *element: Any) -> Any:
        def work(features: Any) -> Any:
            burn(self.BUSY_S)
            return features

        features, label = element
        return in_python(work, features), label


class BlockingGenerator(Cheap):
    """A generator that waits 4 ms per element and can be split: shards wait for their own only."""

    name = "blocking_generator"
    WAIT_S = 0.004

    def generate(self, seed: int, shard_index: int = 0, shard_count: int = 1) -> Iterator[Any]:
        for number in itertools.count(seed + shard_index, shard_count):
            time.sleep(self.WAIT_S)
            yield row(number)


class SlowStep(Cheap):
    """A step of some tens of milliseconds on all cores, which no input pipeline makes faster."""

    name = "slow_step"

    def build_model(self) -> keras.Model:
        return mlp(FEATURES, (1_536,) * 4)


class SharedCores(Cheap):
    """Rows of 512 floats for a step that keeps every core busy and takes as long as a batch."""

    name = "shared_cores"
    WIDTH = 512
    ROWS = 1_024
    element_spec = (tf.TensorSpec((WIDTH,), tf.float32), tf.TensorSpec((), tf.float32))
    batch_sizes = (64,)

    def generate(self, seed: int) -> Iterator[Any]:
        table = np.random.default_rng(seed).random((self.ROWS, self.WIDTH), dtype=np.float32)
        for number in itertools.count():
            features = table[number % self.ROWS]
            yield features, float(features[0])

    def build_model(self) -> keras.Model:
        return mlp(self.WIDTH, (2_048, 768))


def row(number: int) -> tuple[np.ndarray, float]:
    """Float32 of shape (4,) in [0, 1) and their sum, the same for the same number."""
    value = (number % 1_000) / 1_000.0
    return np.full(FEATURES, value, np.float32), FEATURES * value


def burn(seconds: float) -> None:
    """Keeps this thread's core busy in Python for `seconds` of CPU time, however fast the host."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def in_python(function: Any, features: Any) -> Any:
    """Calls `function` from the graph with the features of one element."""
    return tf.ensure_shape(tf.numpy_function(function, [features], tf.float32), (FEATURES,))


def mlp(width: int, units: Sequence[int]) -> keras.Model:
    """Dense layers for rows of `width` floats; with this learning rate nothing diverges."""
    layers = [keras.layers.Dense(size, activation="relu") for size in units]
    model = keras.Sequential([keras.Input((width,)), *layers, keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(1e-5), loss="mse", jit_compile=False)
    return model

"""Pipelines with known faults and known speeds, imported by real trial processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from prefetch_tuning.pipelines.chain.transformations import Chain
from prefetch_tuning.pipelines.source import GeneratorPipeline


class Planted(GeneratorPipeline):
    """Feeds pairs of four numbers and their sum to one dense layer. The others vary it."""

    name = "planted"
    element_spec = (tf.TensorSpec((4,), tf.float32), tf.TensorSpec((), tf.float32))
    batch_sizes: Any = (4, 8)

    def generate(self, seed: int) -> Iterator[Any]:
        rng = np.random.default_rng(seed)
        while True:
            features = rng.random(4, dtype=np.float32)
            yield features, float(features.sum())

    def build_model(self) -> Any:
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile(optimizer="sgd", loss="mse", jit_compile=False)
        return model


class Wide(Planted):
    """Elements of 1 MiB, whose sums are the labels of one dense layer."""

    name = "wide"
    WIDTH = 2**18
    element_spec = (tf.TensorSpec((WIDTH,), tf.float32), tf.TensorSpec((), tf.float32))
    batch_sizes = (4,)

    def generate(self, seed: int) -> Iterator[Any]:
        for index in count(seed):
            yield np.full(self.WIDTH, index % 100 / 1e6, np.float32), 0.0

    def build_model(self) -> Any:
        model = keras.Sequential([keras.Input((self.WIDTH,)), keras.layers.Dense(1)])
        model.compile(optimizer=keras.optimizers.SGD(1e-6), loss="mse", jit_compile=False)
        return model


class Pausing(Planted):
    """Pauses for 0.4 s after every 200 elements."""

    name = "pausing"
    PAUSE_S, ELEMENTS = 0.4, 200

    def generate(self, seed: int) -> Iterator[Any]:
        for number, element in enumerate(super().generate(seed), start=1):
            yield element
            if number % self.ELEMENTS == 0:
                time.sleep(self.PAUSE_S)


class Slow(Planted):
    """Sleeps 5 ms per element: just under 200 elements/s, however much is prefetched."""

    name = "slow"
    batch_sizes = (4,)

    def generate(self, seed: int) -> Iterator[Any]:
        for element in super().generate(seed):
            time.sleep(0.005)
            yield element


class Faulty(Planted):
    """Yields 50 good elements, then calls `fail` in the generator before each further one."""

    name = "faulty"

    def generate(self, seed: int) -> Iterator[Any]:
        for index, element in enumerate(super().generate(seed)):
            if index >= 50:
                self.fail()
            yield element

    def fail(self) -> None:
        raise KeyError("lost sample 50")


class Crashing(Faulty):
    name = "crashing"

    def fail(self) -> None:
        print("about to crash", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)


class Hanging(Faulty):
    name = "hanging"

    def fail(self) -> None:
        time.sleep(3_600)


class Hungry(Faulty):
    """Takes another 50 MiB with every element after the fiftieth."""

    name = "hungry"

    def __init__(self) -> None:
        self.hoard: list[bytes] = []

    def fail(self) -> None:
        self.hoard.append(os.urandom(1024) * 1024 * 50)
        time.sleep(0.05)


class Exhausted(Faulty):
    name = "exhausted"

    def fail(self) -> None:
        raise MemoryError("no room for sample 50")


class Exploding(Planted):
    """Features of 1e30 make the squared error infinite."""

    name = "exploding"

    def generate(self, seed: int) -> Iterator[Any]:
        for features, label in super().generate(seed):
            yield features * np.float32(1e30), label


class Finite(Planted):
    """Ends after ten elements, so it starts over again and again."""

    name = "finite"

    def generate(self, seed: int) -> Iterator[Any]:
        for index in range(10):
            yield np.full(4, index, np.float32), float(index)


class Shuffled(Finite):
    """The same, shuffled anew in each epoch."""

    name = "shuffled"
    chain = Chain().shuffle(8, seed=3)


class ShardedChain(Finite):
    """Declares its chain, and can be split."""

    name = "sharded_chain"
    chain = Chain().batch().repeat()

    def generate(self, seed: int, shard_index: int = 0, shard_count: int = 1) -> Iterator[Any]:
        for index in range(shard_index, 64, shard_count):
            yield np.full(4, index / 64.0, np.float32), index / 64.0


class Empty(Planted):
    name = "empty"

    def generate(self, seed: int) -> Iterator[Any]:
        return iter(())


class Ragged(Planted):
    """Sequences of one to seven vectors: their unknown dimension leads to padded batches."""

    name = "ragged"
    element_spec = (tf.TensorSpec((None, 4), tf.float32), tf.TensorSpec((), tf.float32))

    def generate(self, seed: int) -> Iterator[Any]:
        rng = np.random.default_rng(seed)
        while True:
            yield rng.random((int(rng.integers(1, 8)), 4), dtype=np.float32), 1.0

    def build_model(self) -> Any:
        layers = [keras.Input((None, 4)), keras.layers.GlobalAveragePooling1D()]
        model = keras.Sequential([*layers, keras.layers.Dense(1)])
        model.compile(optimizer="sgd", loss="mse", jit_compile=False)
        return model


class MappedRagged(Ragged):
    """The same, with a map that keeps the lengths."""

    name = "mapped_ragged"

    def transform(self, features: Any, label: Any) -> Any:
        return features * 2.0, label


class SlowRagged(Ragged):
    """Sequences of different lengths, at 5 ms per sequence."""

    name = "slow_ragged"

    def generate(self, seed: int) -> Iterator[Any]:
        for element in super().generate(seed):
            time.sleep(0.005)
            yield element


class Lists(Planted):
    """Yields plain Python lists, which tf.data takes for tensors."""

    name = "lists"

    def generate(self, seed: int) -> Iterator[Any]:
        for features, label in super().generate(seed):
            yield features.tolist(), label


class Orphaning(Faulty):
    """Starts a child that would outlive the trial, then is killed."""

    name = "orphaning"

    def fail(self) -> None:
        if os.fork() == 0:
            time.sleep(3_600)
        os.kill(os.getpid(), signal.SIGKILL)


class Sharded(Planted):
    """Makes each element from its number, so a shard makes only its own elements."""

    name = "sharded"

    def generate(self, seed: int, shard_index: int = 0, shard_count: int = 1) -> Iterator[Any]:
        for number in count(shard_index, shard_count):
            features = np.random.default_rng((seed, number)).random(4, dtype=np.float32)
            yield features, float(number)


class CopiedShards(Sharded):
    """Planted fault: takes a shard but ignores it, so every process makes the whole stream."""

    name = "copied_shards"

    def generate(self, seed: int, shard_index: int = 0, shard_count: int = 1) -> Iterator[Any]:
        return super().generate(seed)


class Unseeded(Sharded):
    """Draws different elements in every run, even with the same seed."""

    name = "unseeded"

    def generate(self, seed: int, shard_index: int = 0, shard_count: int = 1) -> Iterator[Any]:
        return super().generate(int.from_bytes(os.urandom(4)), shard_index, shard_count)


def halved(features: Any, label: Any) -> Any:
    """A map that gives the same result whenever it runs."""
    return features / 2.0, label


def jittered(features: Any, label: Any) -> Any:
    """A map that draws from TensorFlow's stateful generator, so the order of its calls matters."""
    return features + tf.random.uniform((4,)), label


class Jittered(Sharded):
    """Declares a chain whose second map draws random numbers."""

    name = "jittered"
    chain = Chain().map(halved).map(jittered).batch()


class JitteredCopies(Jittered):
    """The same, with the planted fault of `CopiedShards`."""

    name = "jittered_copies"

    def generate(self, seed: int, shard_index: int = 0, shard_count: int = 1) -> Iterator[Any]:
        return super().generate(seed)


class Stateful(Planted):
    """Yields how often the class was instantiated in this process."""

    name = "stateful"
    made = 0

    def __init__(self) -> None:
        type(self).made += 1

    def generate(self, seed: int) -> Iterator[Any]:
        while True:
            yield np.full(4, self.made, np.float32), 1.0


class WithChild(Planted):
    """Has a child process that takes 100 MiB beside the memory that it shares with its parent."""

    name = "with_child"

    def generate(self, seed: int) -> Iterator[Any]:
        if (child := os.fork()) == 0:
            hoard = os.urandom(1024) * 1024 * 100
            time.sleep(3_600 + len(hoard))
        try:
            for element in super().generate(seed):
                time.sleep(0.002)
                yield element
        finally:
            os.kill(child, signal.SIGKILL)


class Managed(Planted):
    """Keeps its position in a manager's process, and has a map that AutoGraph rewrites."""

    name = "managed"

    def transform(self, features: Any, label: Any) -> Any:
        if label > 1.0:
            label = label / 2.0
        return features, label

    def generate(self, seed: int) -> Iterator[Any]:
        with multiprocessing.get_context("fork").Manager() as manager:
            position = manager.Value("i", 0)
            for element in super().generate(seed):
                position.value += 1
                yield element


class Leaving(Planted):
    """Raises SystemExit when made, as a module does whose author calls sys.exit."""

    name = "leaving"

    def __init__(self) -> None:
        raise SystemExit(3)


class Mapped(Planted):
    """Doubles the features in a map."""

    name = "mapped"

    def transform(self, *element: Any) -> Any:
        features, label = element
        return 2.0 * features, label


class OwnStep(Planted):
    """A model whose own `train_step` always reports a loss of 42."""

    name = "own_step"

    def build_model(self) -> Any:
        class Model(keras.Model):  # type: ignore[misc]  # keras has no types
            def __init__(self) -> None:
                super().__init__()
                self.dense = keras.layers.Dense(1)

            def call(self, inputs: Any) -> Any:
                return self.dense(inputs)

            def train_step(self, data: Any) -> Any:
                return {**super().train_step(data), "loss": tf.constant(42.0)}

        model = Model()
        model.compile(optimizer="sgd", loss="mse", jit_compile=False)
        return model


class Adversarial(Planted):
    """A model of two networks: no `call`, two losses, none named "loss"."""

    name = "adversarial"

    def build_model(self) -> Any:
        class Model(keras.Model):  # type: ignore[misc]  # keras has no types
            def __init__(self) -> None:
                super().__init__()
                self.first = keras.layers.Dense(1)
                self.second = keras.layers.Dense(1)

            def train_step(self, data: Any) -> Any:
                features, label = data
                with tf.GradientTape() as tape:
                    loss = tf.reduce_mean((self.second(self.first(features))[:, 0] - label) ** 2)
                self.optimizer.apply(
                    tape.gradient(loss, self.trainable_variables), self.trainable_variables
                )
                return {"d_loss": loss, "g_loss": loss}

        model = Model()
        model.compile(optimizer="sgd", loss="mse", jit_compile=False)
        return model


class WrongModel(Planted):
    """A model for five features, but the elements have four."""

    name = "wrong_model"

    def build_model(self) -> Any:
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])
        model.compile(optimizer="sgd", loss="mse", jit_compile=False)
        return model


class WrongShape(Planted):
    name = "wrong_shape"
    element_spec = (tf.TensorSpec((5,), tf.float32), tf.TensorSpec((), tf.float32))


class WrongStructure(Planted):
    name = "wrong_structure"
    element_spec = tf.TensorSpec((4,), tf.float32)


class WrongType(Planted):
    name = "wrong_type"

    def generate(self, seed: int) -> Iterator[Any]:
        yield "four numbers", 1.0


class BrokenMap(Planted):
    name = "broken_map"

    def transform(self, *element: Any) -> Any:
        raise RuntimeError("no such augmentation")


class Uncompiled(Planted):
    name = "uncompiled"

    def build_model(self) -> Any:
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])


class NoModel(Planted):
    name = "no_model"

    def build_model(self) -> Any:
        return None


class ZeroBatch(Planted):
    name = "zero_batch"
    batch_sizes = (0, 4)


class NoBatches(Planted):
    name = "no_batches"
    batch_sizes = ()


not_a_pipeline = object()


class FiniteShards(Sharded):
    """Shards of 30 elements in all; fails in the middle if asked to."""

    name = "finite_shards"

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails

    def generate(self, seed: int, shard_index: int = 0, shard_count: int = 1) -> Iterator[Any]:
        elements = super().generate(seed, shard_index, shard_count)
        for number in range(shard_index, 30, shard_count):
            if self.fails and number >= 15:
                raise ValueError("planted")
            yield next(elements)


class WaitingShards(Sharded):
    """Waits 20 ms per element."""

    name = "waiting_shards"

    def generate(self, seed: int, shard_index: int = 0, shard_count: int = 1) -> Iterator[Any]:
        for element in super().generate(seed, shard_index, shard_count):
            time.sleep(0.02)
            yield element


class WideShards(WaitingShards):
    """The same with 256 KiB per element."""

    name = "wide_shards"
    element_spec = (tf.TensorSpec((2**16,), tf.float32), tf.TensorSpec((), tf.float32))

    def generate(self, seed: int, shard_index: int = 0, shard_count: int = 1) -> Iterator[Any]:
        for features, label in super().generate(seed, shard_index, shard_count):
            yield np.resize(features, 2**16), label

"""Pipelines for what `model.fit` honours: weights, dict features, mixed precision, a strategy.

Importing this module gives the process two CPU devices. Only a process started for it, such as a
trial, may import it: after its device is chosen and before TensorFlow makes any device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.planted.pipelines import Mapped, Planted

DEVICES = ["CPU:0", "CPU:1"]


def two_devices() -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    configurations = [tf.config.LogicalDeviceConfiguration() for _ in DEVICES]
    tf.config.set_logical_device_configuration(cpu, configurations)


two_devices()


class Weighted(Planted):
    """Sample weights of zero: the loss is zero with them, and not without them."""

    name = "weighted"
    element_spec: Any = (*Planted.element_spec, tf.TensorSpec((), tf.float32))

    def generate(self, seed: int) -> Iterator[Any]:
        for element in super().generate(seed):
            yield *element, 0.0


class DictFeatures(Planted):
    """Features by name, each with a different shape."""

    name = "dict_features"
    element_spec: Any = (
        {"wide": tf.TensorSpec((6,), tf.float32), "one": tf.TensorSpec((1,), tf.int32)},
        tf.TensorSpec((), tf.float32),
    )

    def generate(self, seed: int) -> Iterator[Any]:
        rng = np.random.default_rng(seed)
        while True:
            wide = rng.random(6, dtype=np.float32)
            yield {"wide": wide, "one": np.asarray([3], np.int32)}, float(wide.sum())

    def build_model(self) -> Any:
        inputs = {"wide": keras.Input((6,)), "one": keras.Input((1,), dtype="int32")}
        embedded = keras.layers.Flatten()(keras.layers.Embedding(5, 2)(inputs["one"]))
        joined = keras.layers.Concatenate()([inputs["wide"], embedded])
        model = keras.Model(inputs, keras.layers.Dense(1)(joined))
        model.compile(optimizer="sgd", loss="mse", jit_compile=False)
        return model


class MixedPrecision(Planted):
    """Sets the policy in `build_model`, as a pipeline's author may do."""

    name = "mixed_precision"

    def build_model(self) -> Any:
        keras.mixed_precision.set_global_policy("mixed_float16")
        return super().build_model()


class SeveralSteps(Planted):
    """Eight steps per execution."""

    name = "several_steps"

    def build_model(self) -> Any:
        model = super().build_model()
        model.compile(optimizer="sgd", loss="mse", jit_compile=False, steps_per_execution=8)
        return model


class Mirrored(Mapped):
    """A model under a strategy of two devices, whose loss is the number of the current trace.

    Each replica is traced separately, so the mean over the first two traces is 1.5.
    """

    name = "mirrored"

    def build_model(self) -> Any:
        traced: list[int] = []

        class Model(keras.Model):  # type: ignore[misc]  # keras has no types
            def train_step(self, data: Any) -> Any:
                replica = tf.distribute.get_replica_context()
                assert replica.num_replicas_in_sync == len(DEVICES)
                number = len(traced) + 1
                traced.append(number)
                return {**super().train_step(data), "loss": tf.constant(float(number))}

        with tf.distribute.MirroredStrategy(DEVICES).scope():
            inputs = keras.Input((4,))
            model = Model(inputs, keras.layers.Dense(1)(inputs))
            model.compile(optimizer="sgd", loss="mse")
        return model

"""The training step: the Keras model's own `train_step`, so that a user's override counts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf


class NotFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite: the steps that follow would train nothing."""


def compile_step(model: keras.Model) -> Any:
    """The function that `model.fit` would run for each batch, without fit's loop around it.

    It follows Keras's own `make_train_function`: autograph left out, `jit_compile` and
    `run_eagerly` as the model was compiled.
    """
    step = tf.autograph.experimental.do_not_convert(model.train_step)
    if model.run_eagerly:
        return step
    return tf.function(step, reduce_retracing=True, jit_compile=bool(model.jit_compile))


class TrainingFeed:
    """Batches of the measured iterator and the step that consumes them, for `steady_state`.

    The iterator exists only from `start` on: a prefetch buffer that fills while the step is being
    traced would hand the measurement batches that cost it nothing.
    """

    def __init__(self, model: keras.Model, examples_per_batch: int, *, autotuned: bool) -> None:
        self.examples_per_batch = examples_per_batch
        self.first_batches: list[Any] = []
        self._model = model
        self._step = compile_step(model)
        self._autotuned = autotuned
        self._metrics: Any = None
        self._iterator: Iterator[Any] | None = None

    def trace(self, batch: Any) -> None:
        """Traces and runs the step once on a batch that is not the measured iterator's."""
        # As `fit` does: variables that came into being inside the step would have it traced thrice.
        self._model._symbolic_build(data_batch=batch)
        self._model.optimizer.build(self._model.trainable_variables)
        self._metrics = self._step(batch)
        self.synchronise()

    def start(self, dataset: tf.data.Dataset) -> None:
        """Makes the measured iterator; the first `next_batch` should follow at once."""
        self._iterator = iter(dataset)

    def next_batch(self) -> Any:
        assert self._iterator is not None, "call start() first"
        batch = next(self._iterator)
        if len(self.first_batches) < 2:
            self.first_batches.append(batch)  # kept for the digest, which is made afterwards
        return batch

    def step(self, batch: Any) -> None:
        self._metrics = self._step(batch)

    def synchronise(self) -> None:
        """Waits for the device by reading the loss, and checks it.

        Raises:
            NotFiniteLossError: the loss is NaN or infinite.
        """
        if not math.isfinite(self.loss):
            raise NotFiniteLossError(f"the loss is {self.loss}")

    @property
    def loss(self) -> float:
        """The running mean of the loss that the last step returned; 0 for a model without one."""
        metrics = self._metrics
        value = metrics.get("loss", 0.0) if isinstance(metrics, dict) else metrics
        return float(value)

    def choices(self) -> object:
        """AUTOTUNE's choices so far; None for a pinned chain."""
        if not self._autotuned:
            return None
        return [(node["node"], node["parameter"], node["value"]) for node in self.autotune_nodes()]

    def autotune_nodes(self) -> list[dict[str, Any]]:
        """Each tunable parameter of the running chain, with the fields of `AutotuneNode`.

        `state_value` is what runs; `value` is what the optimiser is trying out.
        """
        if not self._autotuned:
            return []
        model = tf.data.experimental.get_model_proto(self._iterator)
        return [
            {
                "node": node.name,
                "parameter": parameter.name,
                "value": parameter.state_value,
                "buffered_bytes": node.buffered_bytes,
            }
            for node in model.nodes.values()
            for parameter in node.parameters
            if parameter.tunable
        ]

"""How a model's batches and steps are distributed over devices, as `model.fit` does it.

A model that was made under a `tf.distribute` strategy keeps it. `fit` then distributes the dataset,
whose batches are the global ones, runs `train_step` on every replica and reduces the results.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras
import tensorflow as tf


class Distribution:
    """The strategy of one model; without one, every method passes its argument through.

    A distributed batch has a `PerReplica` value in place of each tensor, with the replicas' parts
    of the global batch in order. tf.data fetches one batch ahead for each device, as it does for
    everyone who trains like this. That buffer isn't part of the configuration.

    Attributes:
        distributed: whether the model has a strategy.
    """

    def __init__(self, model: keras.Model) -> None:
        self._strategy = model.distribute_strategy
        # A model made outside any scope has TensorFlow's default strategy, which isn't a real one.
        with self._strategy.scope():
            self.distributed = bool(tf.distribute.has_strategy())

    def scope(self) -> AbstractContextManager[Any]:
        """A scope in which new variables belong to the strategy."""
        scope: AbstractContextManager[Any] = self._strategy.scope()
        return scope

    def dataset(self, dataset: tf.data.Dataset) -> Any:
        """The dataset that gives every replica its part of each batch."""
        if not self.distributed:
            return dataset
        return self._strategy.experimental_distribute_dataset(dataset)

    def run(self, step: Any, batch: Any) -> Any:
        """Runs the step on every replica; returns its outputs, reduced to single values."""
        if not self.distributed:
            return step(batch)
        outputs = self._strategy.run(step, args=(batch,))
        return tf.nest.map_structure(self._reduced, outputs)

    def parts(self, value: Any) -> Sequence[Any]:
        """The tensor of each replica, in order; an undistributed tensor is the only one."""
        if not self.distributed:
            return (value,)
        parts: Sequence[Any] = self._strategy.experimental_local_results(value)
        return parts

    def whole(self, batch: Any) -> Any:
        """The global batch as the undistributed dataset yields it: all parts, concatenated.

        Padded parts have the same length, because a batch is padded before it is split.
        """
        if not self.distributed:
            return batch
        return tf.nest.map_structure(lambda value: _joined(self.parts(value)), batch)

    def _reduced(self, value: Any) -> Any:
        """Reduces as Keras reduces logs: the mean over replicas, which are all equal on TPUs."""
        parts = self.parts(value)
        if len(parts) == 1 or isinstance(self._strategy, tf.distribute.TPUStrategy):
            return parts[0]
        return tf.reduce_mean(parts, axis=0)


def _joined(parts: Sequence[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], tf.SparseTensor):
        return tf.sparse.concat(axis=0, sp_inputs=parts)
    return tf.concat(parts, axis=0)

"""Batches that lie ready in memory, as datasets like the measured one."""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from prefetch_tuning.objectives.loop.distribution import Distribution

# Number of repetitions for batches that tf.data must not know to be endless.
VERY_OFTEN = 2**40


class ReadyBatches:
    """Makes datasets of given batches that a step reads as it reads the measured dataset."""

    def __init__(self, measured: tf.data.Dataset, distribution: Distribution) -> None:
        self._measured, self._distribution = measured, distribution

    def delivered(self, batch: Any, device: str | None) -> Any:
        """The batch, repeated and brought to the same place as the measured ones.

        `device` is the GPU that the measured dataset copies its batches to; None for the host.
        """
        dataset = self.repeated(batch)
        if device is None:
            return self._distribution.dataset(dataset)
        # TensorFlow prepares a function again for inputs on the GPU: seconds for a large model.
        return dataset.apply(tf.data.experimental.prefetch_to_device(device, 1))

    def repeated(self, *batches: Any, cached: bool = False) -> tf.data.Dataset:
        """The batches, again and again; endless for tf.data only if the measured dataset is.

        For a distributed iterator that may end, TensorFlow traces the handling of partial batches,
        which costs time in each step. What is traced here must be what the measurement runs.
        """
        dataset = self._given(*batches)
        if cached:
            dataset = dataset.cache()
        endless = int(self._measured.cardinality()) == tf.data.INFINITE_CARDINALITY
        return dataset.repeat() if endless else dataset.repeat(VERY_OFTEN)

    def _given(self, *batches: Any) -> tf.data.Dataset:
        """A dataset of these batches with the measured one's spec, so nothing is traced for it."""
        each = [tf.data.Dataset.from_tensors(batch) for batch in batches]
        variants = [tf.data.experimental.to_variant(dataset) for dataset in each]
        spec = self._measured.element_spec
        given = [tf.data.experimental.from_variant(variant, spec) for variant in variants]
        return functools.reduce(tf.data.Dataset.concatenate, given)

"""Noisy sensor readings, a few of them broken: skipped, counted, and never silently."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipelines.source import GeneratorPipeline

logger = logging.getLogger(__name__)

READINGS = 10
NOISE = 0.1
FAULTY_SHARE = 0.01
FAULTS_LOGGED = 5


class FaultySampleError(ValueError):
    """A sample came back with readings that are not numbers."""


class NoisyPipeline(GeneratorPipeline):
    """Ten noisy numbers and their sine, standardised, into a small MLP."""

    name = "noisy"
    element_spec = (
        tf.TensorSpec((READINGS,), tf.float32),
        tf.TensorSpec((READINGS,), tf.float32),
    )
    batch_sizes = (32, 64, 128, 256)

    def __init__(self) -> None:
        self.skipped_elements = 0

    def generate(
        self, seed: int, shard_index: int = 0, shard_count: int = 1
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields (x, sin x) endlessly; faulty samples are skipped, counted, the first logged.

        A shard of several draws its own readings: to leave out the others' it would have to draw
        them, too.
        """
        rng = np.random.default_rng(seed if shard_count == 1 else (seed, shard_index))
        while True:
            try:
                readings = read_sample(rng)
            except FaultySampleError as error:
                self._skip(error)
                continue
            yield readings, np.sin(readings)

    @tf.autograph.experimental.do_not_convert  # has no Python control flow: starts sooner
    def transform(self, *element: Any) -> Any:
        """Standardises the features, whose mean and spread are known from how they are made."""
        readings, sine = element
        # Uniform on [0, 1) plus the noise: mean 1/2, variance 1/12 + NOISE^2.
        spread = (1.0 / 12.0 + NOISE**2) ** 0.5
        return (readings - 0.5) / spread, sine

    def build_model(self) -> keras.Model:
        model = keras.Sequential(
            [
                keras.Input((READINGS,)),
                keras.layers.Dense(64, activation="relu"),
                keras.layers.Dense(64, activation="relu"),
                keras.layers.Dense(READINGS),
            ]
        )
        optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
        model.compile(optimizer=optimizer, loss="mse", jit_compile=False)
        return model

    def _skip(self, error: FaultySampleError) -> None:
        self.skipped_elements += 1
        if self.skipped_elements <= FAULTS_LOGGED:
            logger.warning("skipped faulty sample %d: %s", self.skipped_elements, error)
        if self.skipped_elements == FAULTS_LOGGED:
            logger.warning("further faulty samples are counted, not logged")


def read_sample(rng: np.random.Generator) -> np.ndarray:
    """Reads ten numbers with Gaussian noise, as float32 of shape (10,).

    Raises:
        FaultySampleError: the sample is one of the faulty ones.
    """
    readings = rng.random(READINGS) + rng.normal(0.0, NOISE, READINGS)
    if rng.random() < FAULTY_SHARE:
        readings[rng.integers(READINGS)] = np.nan
    if np.isnan(readings).any():
        raise FaultySampleError(f"reading {int(np.isnan(readings).argmax())} is not a number")
    return readings.astype(np.float32)

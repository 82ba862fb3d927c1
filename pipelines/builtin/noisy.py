"""Noisy sensor readings, a few of them faulty, which are skipped and counted, never silently."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from itertools import count
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from prefetch_tuning.pipelines.source import GeneratorPipeline

logger = logging.getLogger(__name__)

READINGS = 10
NOISE = 0.1
FAULTY_SHARE = 0.01
FAULTS_LOGGED = 5
# Samples whose faults are drawn together. That takes 0.02 us per sample; a random generator for
# each sample would take 13 us.
BLOCK = 1_024
# Streams of random numbers under one seed.
DRAW_READINGS, DRAW_FAULTS = 0, 1


class FaultySampleError(ValueError):
    """A sample has a reading that is not a number."""


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
        """Yields (x, sin x) endlessly; skips and counts faulty samples, and logs the first few.

        A shard reads only its own samples. A faulty sample counts for the shard whose turn it was,
        so the shards, read alternately, are the plain stream and skip the same samples.
        """
        # Each sample has its own position in a counter-based stream. Jumping there costs 1 us of
        # the 8 us per element. Reading whole blocks would cost every shard 0.25 us per sample of
        # all the other shards. With 32 processes that is as much as its own samples cost.
        bits = np.random.Philox(key=[seed, DRAW_READINGS])
        rng, place = np.random.Generator(bits), bits.state
        good = 0
        for block in count():
            faulty = draw_faults(seed, block)  # of all samples: the good ones decide the turns
            good_before = good + np.cumsum(~faulty) - ~faulty
            own = np.flatnonzero(good_before % shard_count == shard_index)
            for sample, is_faulty in zip(own.tolist(), faulty[own].tolist(), strict=True):
                place["state"]["counter"][1] = block * BLOCK + sample
                bits.state = place
                try:
                    readings = read_sample(rng, is_faulty=is_faulty)
                except FaultySampleError as error:
                    self._skip(error)
                    continue
                yield readings, np.sin(readings)
            good += int(np.count_nonzero(~faulty))

    @tf.autograph.experimental.do_not_convert  # has no Python control flow, so this starts sooner
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


def draw_faults(seed: int, block: int) -> np.ndarray:
    """Returns which samples of a block are faulty, as bool of shape (BLOCK,)."""
    bits = np.random.Philox(key=[seed, DRAW_FAULTS], counter=[0, block, 0, 0])
    return np.random.Generator(bits).random(BLOCK) < FAULTY_SHARE


def read_sample(rng: np.random.Generator, *, is_faulty: bool) -> np.ndarray:
    """Reads ten numbers with Gaussian noise, as float32 of shape (10,).

    Raises:
        FaultySampleError: the sample is faulty.
    """
    readings = rng.random(READINGS) + rng.normal(0.0, NOISE, READINGS)
    if is_faulty:
        readings[rng.integers(READINGS)] = np.nan
    if math.isnan(readings.sum()):
        raise FaultySampleError(f"reading {int(np.isnan(readings).argmax())} is not a number")
    return readings.astype(np.float32)

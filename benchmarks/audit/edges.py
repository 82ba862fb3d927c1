"""Pipelines that are hard to measure: a late start, large buffers, slow rows, and pauses."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.audit.planted import BlockingMap, Cheap, row
from prefetch_tuning.pipelines.adapters.functions import EmulatedModel
from prefetch_tuning.pipelines.step_time import StepTime


class LateBlockingMap(BlockingMap):
    """The blocking map behind a generator that needs 3 s before its first row."""

    name = "late_blocking_map"
    LATE_S = 3.0

    def generate(self, seed: int) -> Iterator[Any]:
        time.sleep(self.LATE_S)
        yield from super().generate(seed)


class WideRows(Cheap):
    """Rows of 64 KiB in batches of 16: a batch takes 1 MiB of memory."""

    name = "wide_rows"
    WIDTH = 2**14
    element_spec = (tf.TensorSpec((WIDTH,), tf.float32), tf.TensorSpec((), tf.float32))
    batch_sizes: Sequence[int] = (16,)

    def generate(self, seed: int) -> Iterator[Any]:
        for number in itertools.count(seed):
            yield np.full(self.WIDTH, number % 100 / 1e6, np.float32), 0.0

    def build_model(self) -> keras.Model:
        model = keras.Sequential([keras.Input((self.WIDTH,)), keras.layers.Dense(1)])
        model.compile(optimizer=keras.optimizers.SGD(1e-6), loss="mse", jit_compile=False)
        return model


class SlowRows(Cheap):
    """A generator of 2 ms per row in batches of 16, so a block of 693 rows takes 1.4 s."""

    name = "slow_rows"
    ROW_S = 0.002
    batch_sizes: Sequence[int] = (16,)

    def generate(self, seed: int) -> Iterator[Any]:
        for element in super().generate(seed):
            wait(self.ROW_S)
            yield element


class Pausing(Cheap):
    """A generator that pauses for 1 s after every 5 s; the step needs 85% of its mean rate."""

    name = "pausing"
    batch_sizes: Sequence[int] = (16,)
    STEP_MS, STEP_SHARE = 20.0, 0.85
    FLOW_S, PAUSE_S = 5.0, 1.0
    # Seconds per row between two pauses.
    ROW_S = STEP_SHARE * STEP_MS / 1e3 / 16 * FLOW_S / (FLOW_S + PAUSE_S)

    def generate(self, seed: int) -> Iterator[Any]:
        rows = round(self.FLOW_S / self.ROW_S)
        for number in itertools.count(1):
            wait(self.ROW_S)
            yield row(seed + number)
            if number % rows == 0:
                time.sleep(self.PAUSE_S)

    def build_model(self) -> keras.Model:
        return EmulatedModel(StepTime(fixed_ms=self.STEP_MS))


def rows_of_20_ms(seed: int = 0) -> Iterator[Any]:
    """Rows of which 32 take 20 ms."""
    return _rows(seed, 0.020 / 32)


def rows_of_40_ms(seed: int = 0) -> Iterator[Any]:
    """Rows of which 32 take 40 ms."""
    return _rows(seed, 0.040 / 32)


def _rows(seed: int, each_s: float) -> Iterator[Any]:
    """Rows that arrive every `each_s` seconds, including what handing them over takes."""
    due = time.perf_counter()
    for number in itertools.count(seed):
        due = max(due + each_s, time.perf_counter())  # a row that was late isn't made up for
        wait(due - time.perf_counter())
        yield row(number)


def wait(seconds: float) -> None:
    """Sleeps, and spins for the last bit: a sleep of a millisecond lasts a tenth longer."""
    end = time.perf_counter() + seconds
    time.sleep(max(seconds - 0.0002, 0.0))
    while time.perf_counter() < end:
        pass

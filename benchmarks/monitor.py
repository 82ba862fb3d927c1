"""Checks `InputMonitor` against what was planted, and writes docs/monitor.md's table.

Run from the checkout, on a quiet machine, for about seven minutes:
.venv/bin/python -m benchmarks.monitor [--write]
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.markers import rewrite
from prefetch_tuning import InputMonitor
from prefetch_tuning.experiments.host.environment import host_description
from prefetch_tuning.experiments.verdict.ratio import ratio_to
from prefetch_tuning.objectives.monitor.callback import _TimedStep
from prefetch_tuning.objectives.monitor.meter import Meter
from prefetch_tuning.objectives.monitor.run_log import RunLog
from prefetch_tuning.objectives.monitor.watchdog import Watchdog

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "monitor.md"
FEATURES, BATCH = 32, 64
STEP_S, SHARE, CORRECTIONS, TRAININGS = 0.028, 0.30, 3, 5
ROUNDS = 15
# Seconds of a step that only sleeps, and steps per training.
SMALL_STEPS, NAP_S, NAP_STEPS = 1_500, 0.010, 150
CALLS = 20_000
LEAK_MIB_PER_S, LEAK_S, LOOK_S = 1.0, 75.0, 0.05


def main(given: Sequence[str] | None = None) -> int:
    """Measures everything and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--write", action="store_true", help="put the table into the document")
    options = parser.parse_args(given)
    lines = [f"`python -m benchmarks.monitor` on {host_description()}:", ""]
    lines += ["| planted or compared | measured |", "|---|---|"]
    lines += [_waits(), _own_work(), _beside_a_bare_fit(_dense, SMALL_STEPS)]
    lines += [_beside_a_bare_fit(lambda: _sleeping(NAP_S), NAP_STEPS)]
    lines += [_leak(LEAK_MIB_PER_S), _leak(0.0)]
    print("\n".join(lines))
    if options.write:
        rewrite(DOCUMENT, "monitor", lines)
    return 0


def _waits() -> str:
    """What is planted is the share by which the generator makes a bare `fit` slower.

    It is measured beside each training that the monitor reads, because hosts drift. A sleep lasts
    longer than it was told to, so its length is corrected first. Both use the median step, because
    one epoch in six or so begins with a pause of 0.8 s, with and without the monitor.
    """
    ready = tf.data.Dataset.from_tensors(next(_rows(1))).repeat(100)
    wanted_s = sleep_s = _bare_s(ready) / (1.0 - SHARE)
    for _ in range(CORRECTIONS):
        sleep_s *= wanted_s / _bare_s(_dataset(100, sleep_s))
    found, steps_s = [], []
    for _ in range(TRAININGS):
        steps_s.append(_bare_s(ready))
        planted = 1.0 - steps_s[-1] / _bare_s(_dataset(100, sleep_s))
        monitor = InputMonitor(say=_silent)
        _sleeping(STEP_S).fit(_dataset(100, sleep_s), verbose=0, callbacks=[monitor])
        found.append(f"{monitor.wait_fraction:.1%} ({planted:.1%})")
    return (
        f"| share of the time that steps of {1e3 * float(np.median(steps_s)):.1f} ms wait for a "
        f"slow generator; in parentheses, by timing `fit` without the monitor, with and without "
        f"it | {', '.join(found)} |"
    )


def _bare_s(dataset: tf.data.Dataset) -> float:
    """Median seconds per step of a `fit` without the monitor."""
    clock = _Seconds()
    _sleeping(STEP_S).fit(dataset, epochs=2, verbose=0, callbacks=[clock])
    return float(np.median(np.diff(clock.ended_at)))


def _own_work() -> str:
    """The Python code of a step, with a function in the training's place that does nothing."""
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    meter = Meter(time.monotonic)
    watchdog = Watchdog(meter, RunLog(print), 1e9, print)
    step = _TimedStep(model, meter)
    step.watchdog = watchdog
    ran = (None, tf.constant(0.0, tf.float64), tf.constant(BATCH), tf.constant(1))
    step._takes = lambda _: ran
    begin = time.perf_counter()
    batches = iter(tf.data.Dataset.range(1))
    for _ in range(CALLS):
        step.is_watched = True
        step(batches)
    each_us = 1e6 * (time.perf_counter() - begin) / CALLS
    watchdog.stop()
    return f"| its own work per step, alone, over {CALLS:,} calls | {each_us:.1f} µs |"


class _Seconds(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """The seconds of the last epoch, and of its steps' ends; the first one compiles the step."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        del epoch, logs
        self.ended_at: list[float] = []
        self._begin = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        del batch, logs
        self.ended_at.append(time.perf_counter())

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        del epoch, logs
        self.seconds = time.perf_counter() - self._begin


def _beside_a_bare_fit(make: Callable[[], Any], steps: int) -> str:
    """Interleaved trainings of a model on batches that are ready."""
    rates: dict[bool, list[float]] = {True: [], False: []}
    data = next(_rows(1))
    dataset = tf.data.Dataset.from_tensors(data).repeat(steps).prefetch(4)
    for _ in range(ROUNDS):
        order = [True, False]
        random.shuffle(order)
        for watched in order:
            model, clock = make(), _Seconds()
            monitors = [InputMonitor(say=_silent)] if watched else []
            model.fit(dataset, epochs=2, verbose=0, callbacks=[*monitors, clock])
            rates[watched].append(steps / clock.seconds)
    found = ratio_to(rates[True], rates[False])
    step_ms = 1e3 / float(np.median(rates[False]))
    return (
        f"| rate of `fit` with it over `fit` without, in {ROUNDS} interleaved rounds, steps of "
        f"{step_ms:.2g} ms | {found.ratio:.3f}x ({found.ci.low:.3f}x to {found.ci.high:.3f}x) |"
    )


def _leak(mib_per_s: float) -> str:
    """A generator that keeps memory, or none, for a little more than a minute."""
    kept: list[bytes] = []

    def leaking() -> Iterator[tuple[Any, Any]]:
        begin = time.monotonic()
        for row in _rows(10**9):
            passed_s = time.monotonic() - begin
            if passed_s > LEAK_S:
                return
            while len(kept) * LOOK_S < mib_per_s * passed_s:
                kept.append(b"x" * int(LOOK_S * 2**20))
            time.sleep(0.002)
            yield row

    said: list[tuple[float, str]] = []
    begin = time.monotonic()
    monitor = InputMonitor(say=lambda line: said.append((time.monotonic() - begin, line)))
    dataset = tf.data.Dataset.from_generator(leaking, output_signature=_dataset(1).element_spec)
    _dense().fit(dataset, verbose=0, callbacks=[monitor])
    named = [(at, line) for at, line in said if re.search(r"memory grows", line)]
    planted = f"{mib_per_s:g} MiB per second" if mib_per_s else "nothing"
    answer = f'after {named[0][0]:.0f} s: "{named[0][1]}"' if named else "nothing is said"
    return f"| a generator that keeps {planted}, for {LEAK_S:.0f} s | {answer} |"


def _rows(batches: int, sleep_s: float = 0.0) -> Iterator[tuple[Any, Any]]:
    rng = np.random.default_rng(0)
    features = rng.random((BATCH, FEATURES), dtype=np.float32)
    for _ in range(batches):
        time.sleep(sleep_s)
        yield features, features[:, :1]


def _dataset(batches: int, sleep_s: float = 0.0) -> tf.data.Dataset:
    signature = (tf.TensorSpec((None, FEATURES)), tf.TensorSpec((None, 1)))
    return tf.data.Dataset.from_generator(
        lambda: _rows(batches, sleep_s), output_signature=signature
    )


def _dense() -> Any:
    model = keras.Sequential([keras.layers.Dense(32, "relu"), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


def _sleeping(seconds: float) -> Any:
    """A model whose step takes a little more than this."""

    def nap(values: Any) -> Any:
        time.sleep(seconds)
        return values

    class Sleeping(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
        def call(self, values: Any) -> Any:
            return tf.ensure_shape(tf.numpy_function(nap, [values], tf.float32), values.shape)

    model = keras.Sequential([keras.layers.Input((FEATURES,)), Sleeping(), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def _silent(_: str) -> None:
    """Shows nothing."""


if __name__ == "__main__":
    raise SystemExit(main())

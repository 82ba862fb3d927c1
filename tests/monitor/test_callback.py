"""`InputMonitor` in real trainings: the same results, the planted waits, and no traces."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from prefetch_tuning import InputMonitor, PipelineError
from prefetch_tuning.objectives.monitor.meter import Meter
from prefetch_tuning.objectives.monitor.run_log import RunLog
from prefetch_tuning.objectives.monitor.watchdog import Watchdog

FEATURES, BATCH = 8, 16
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*ran out of data:UserWarning", "ignore:.*shuffle=True:UserWarning"
)


def rows(batches: int, sleep_s: float = 0.0) -> Iterator[tuple[Any, Any]]:
    rng = np.random.default_rng(0)
    for _ in range(batches):
        time.sleep(sleep_s)
        features = rng.random((BATCH, FEATURES), dtype=np.float32)
        yield features, features.sum(axis=1, keepdims=True)


def dataset(batches: int = 22, sleep_s: float = 0.0) -> tf.data.Dataset:
    signature = (
        tf.TensorSpec((None, FEATURES), tf.float32),
        tf.TensorSpec((None, 1), tf.float32),
    )
    return tf.data.Dataset.from_generator(
        lambda: rows(batches, sleep_s), output_signature=signature
    )


def layers() -> keras.Model:
    """Its dropout draws random numbers in every step."""
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.layers.Input((FEATURES,)),
            keras.layers.Dense(8, "relu"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(1),
        ]
    )


def model(**compiled: Any) -> keras.Model:
    found = layers()
    found.compile("adam", "mse", metrics=["mae"], **compiled)
    return found


def silent(_: str) -> None:
    """Shows nothing."""


def quiet(lines: list[str] | None = None) -> InputMonitor:
    return InputMonitor(say=(lines if lines is not None else []).append)


@pytest.mark.parametrize(
    "compiled",
    [
        {},
        {"steps_per_execution": 4},
        {"run_eagerly": True},
        {"run_eagerly": True, "steps_per_execution": 4},
        {"jit_compile": True},
    ],
)
def test_fit_gives_the_same_results_with_it_and_without(
    tmp_path: Path, compiled: dict[str, Any]
) -> None:
    """History, weights, checkpoints and early stopping, with epochs that end in the middle."""
    found = []
    for monitors in ([], [quiet()]):
        trained, path = model(**compiled), tmp_path / f"{len(monitors)}.weights.h5"
        others = [
            keras.callbacks.ModelCheckpoint(path, save_weights_only=True),
            keras.callbacks.EarlyStopping("loss", patience=0, min_delta=1.2),
        ]
        history = trained.fit(
            dataset(),
            epochs=12,
            verbose=0,
            callbacks=[*monitors, *others],
            validation_data=dataset(3),
        )
        kept = layers()
        kept.load_weights(path)
        found.append((history.history, trained.get_weights(), kept.get_weights()))

    (history, weights, saved), (own_history, own_weights, own_saved) = found
    assert own_history == history
    assert 1 < len(history["loss"]) < 12  # it was stopped early
    for one, other in zip([*weights, *saved], [*own_weights, *own_saved], strict=True):
        np.testing.assert_array_equal(one, other)


def test_epochs_are_counted_whole_except_for_the_step_that_compiles() -> None:
    lines: list[str] = []
    monitor = quiet(lines)
    model().fit(dataset(22), epochs=2, verbose=0, callbacks=[monitor])

    assert [epoch.examples for epoch in monitor.epochs] == [21 * BATCH, 22 * BATCH]
    assert [line.split(" waited ")[0] for line in lines if "waited" in line] == [
        "input: epoch 1",
        "input: epoch 2",
    ]
    assert 0.0 <= monitor.wait_fraction <= 1.0
    assert monitor.examples_per_s > 0.0


def test_the_models_own_function_comes_back() -> None:
    trained = model()
    trained.fit(dataset(2), verbose=0)
    own = trained.train_function
    trained.fit(dataset(2), verbose=0, callbacks=[quiet()])
    assert trained.train_function is own


def test_a_generator_that_fails_fails_as_ever_and_leaves_nothing_behind() -> None:
    def failing() -> Iterator[tuple[Any, Any]]:
        yield from rows(3)
        raise KeyError("lost")

    broken = tf.data.Dataset.from_generator(failing, output_signature=dataset().element_spec)
    trained = model()
    with pytest.raises(tf.errors.OpError, match="lost"):
        trained.fit(broken, verbose=0, callbacks=[quiet()])
    assert "TimedStep" not in type(trained.train_function).__name__


def test_another_callbacks_error_does_not_leave_two_of_them() -> None:
    class Failing(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            raise ValueError("no")

    trained = model()
    with pytest.raises(ValueError, match="no"):
        trained.fit(dataset(2), verbose=0, callbacks=[quiet(), Failing()])
    trained.fit(dataset(2), verbose=0, callbacks=[quiet()])
    assert "TimedStep" not in type(trained.train_function).__name__


def test_a_fit_without_it_after_an_error_is_keras_own() -> None:
    class Failing(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            raise ValueError("no")

    trained, monitor = model(), quiet()
    with pytest.raises(ValueError, match="no"):
        trained.fit(dataset(2), verbose=0, callbacks=[monitor, Failing()])
    assert [t for t in threading.enumerate() if t.name == "input-watchdog"]

    trained.fit(dataset(3), verbose=0)
    assert "TimedStep" not in type(trained.train_function).__name__
    assert not [t for t in threading.enumerate() if t.name == "input-watchdog"]
    assert list(monitor.epochs) == []


def test_a_callback_may_train_on_another_batch() -> None:
    class Another(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            features, label = next(rows(1))
            self.model.train_on_batch(features, label)

    monitor = quiet()
    model().fit(dataset(5), verbose=0, callbacks=[monitor, Another()])
    assert monitor.epochs[0].steps == 4


def test_a_model_that_is_compiled_at_the_end_keeps_its_new_function() -> None:
    class Anew(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_end(self, logs: Any = None) -> None:
            self.model.compile("sgd", "mse")

    trained = model()
    trained.fit(dataset(2), verbose=0, callbacks=[Anew(), quiet()])
    assert trained.train_function is None


def test_elements_with_a_part_that_is_none() -> None:
    def generator() -> Iterator[tuple[Any, Any, None]]:
        for features, label in rows(6):
            yield features, label, None

    bare = model().fit(generator(), verbose=0)
    watched = model().fit(generator(), verbose=0, callbacks=[quiet()])
    assert watched.history == bare.history


@pytest.mark.parametrize("batches", [4, 5])
def test_outputs_without_a_fixed_shape_end_with_the_data(batches: int) -> None:
    class PerExample(keras.Sequential):  # type: ignore[misc]
        def train_step(self, data: Any) -> Any:
            found = super().train_step(data)
            return {**found, "per_example": tf.reduce_sum(data[0], axis=1)}

    keras.utils.set_random_seed(1)
    trained = PerExample([keras.layers.Input((FEATURES,)), keras.layers.Dense(1)])
    trained.compile("sgd", "mse", steps_per_execution=2)
    monitor = quiet()
    trained.fit(dataset(batches), verbose=0, epochs=2, callbacks=[monitor])
    assert [epoch.steps for epoch in monitor.epochs] == [batches - 2, batches]


def test_a_model_with_its_own_function_is_refused() -> None:
    class Own(keras.Sequential):  # type: ignore[misc]
        def make_train_function(self, force: bool = False) -> Any:
            return super().make_train_function(force)

    trained = Own([keras.layers.Dense(1)])
    trained.compile("sgd", "mse")
    with pytest.raises(PipelineError, match="Own has its own make_train_function"):
        trained.fit(dataset(2), verbose=0, callbacks=[quiet()])


def test_a_strategys_model_is_measured_on_the_global_batch() -> None:
    strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
    with strategy.scope():
        trained = model()
    monitor = quiet()
    trained.fit(dataset(5), verbose=0, callbacks=[monitor])
    assert monitor.epochs[0].examples == 4 * BATCH


def test_an_active_run_gets_the_metrics_over_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    # `mlflow.set_tracking_uri` would set it for all tests after this one.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with mlflow.start_run() as run:
        monitor = InputMonitor(log_every_s=0.02, say=silent)
        model().fit(dataset(20, sleep_s=0.005), epochs=2, verbose=0, callbacks=[monitor])
    client = mlflow.MlflowClient()
    waits = client.get_metric_history(run.info.run_id, "input/wait_fraction")
    rates = client.get_metric_history(run.info.run_id, "throughput/examples_per_s")
    assert len(waits) == len(rates) >= 3
    assert max(metric.step for metric in waits) == 39  # all steps but the one that compiles
    assert all(0.0 <= metric.value <= 1.0 for metric in waits)


def test_a_store_that_fails_is_said_once_and_the_training_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Client:
        def log_batch(self, *_: Any, **__: Any) -> None:
            raise OSError("the disk is full\nmore")

    class Module:
        MlflowClient = Client

        class entities:
            Metric = staticmethod(lambda *values: values)

        @staticmethod
        def active_run() -> Any:
            class Run:
                class info:
                    run_id = "1"

            return Run

    monkeypatch.setitem(sys.modules, "mlflow", Module)
    lines: list[str] = []
    log = RunLog(lines.append)
    log.log({"x": 1.0}, 1)
    log.log({"x": 1.0}, 2)
    assert lines == ["input: MLflow takes no more metrics of this training: the disk is full"]


def test_without_mlflow_nothing_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    RunLog(print).log({"x": 1.0}, 1)
    assert "mlflow" not in sys.modules


def test_what_a_late_batch_waits_for_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefetch_tuning.objectives.monitor import watchdog
    from prefetch_tuning.objectives.monitor.stacks import Blocked

    found = Blocked(
        where="data.py:4 in read", frames=("data.py:4 in read: recv()",), role="generator"
    )
    monkeypatch.setattr(watchdog, "blocked", lambda: [found])
    lines: list[str] = []
    meter = Meter(time.monotonic)
    meter.begin()
    meter.end(0.0, 1)
    looks = Watchdog(meter, RunLog(lines.append), 10.0, lines.append)
    looks.stop()
    meter.begin()
    assert meter.began_at is not None
    for late_s in (1.0, 7.0, 8.0):
        looks._look_for_a_late_batch(meter.began_at + late_s)
    assert lines == [
        "input: a batch is late by 7 s; the generator is at:",
        "  data.py:4 in read: recv()",
    ]


@pytest.mark.timing
def test_planted_waits_of_30_percent_are_read() -> None:
    """A generator of 100 ms beside a step of 70 ms, so a millisecond more of either is little."""

    def nap(values: Any) -> Any:
        time.sleep(0.070)
        return values

    class Sleeping(keras.layers.Layer):  # type: ignore[misc]
        def call(self, values: Any) -> Any:
            return tf.ensure_shape(tf.numpy_function(nap, [values], tf.float32), values.shape)

    trained = keras.Sequential([keras.layers.Input((FEATURES,)), Sleeping(), keras.layers.Dense(1)])
    trained.compile("sgd", "mse")
    monitor = quiet()
    trained.fit(dataset(40, sleep_s=0.100), verbose=0, callbacks=[monitor])
    assert 0.27 <= monitor.wait_fraction <= 0.33

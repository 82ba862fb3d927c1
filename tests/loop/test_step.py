"""The step as `model.fit` runs it: several per execution, compiled, in float16, on replicas."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from prefetch_tuning.objectives.loop import training
from prefetch_tuning.objectives.loop.training import NotFiniteLossError, StepError, TrainingFeed
from prefetch_tuning.objectives.loop.warm_up import UNREADABLE
from prefetch_tuning.pipelines.chain.build import pinned_options
from tests.conftest import HANG_S, ROOT
from tests.support.own_process import SPEC, batch, batches, model


def started(trained: keras.Model, dataset: tf.data.Dataset) -> TrainingFeed:
    feed = TrainingFeed(trained, dataset)
    feed.trace(batch(8))
    feed.start()
    return feed


def weights_after(trained: keras.Model, dataset: tf.data.Dataset, calls: int) -> list[Any]:
    feed = TrainingFeed(trained, dataset)
    feed.start()
    for _ in range(calls):
        feed.advance()
    return [np.asarray(weight) for weight in trained.get_weights()]


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_an_execution_is_as_many_steps(run_eagerly: bool) -> None:
    compiled = {"jit_compile": False, "run_eagerly": run_eagerly}
    feed = started(model([], **compiled, steps_per_execution=3), batches(8, 8, 8, 8, 8, 5))

    taken = [feed.advance() for _ in range(2)]

    assert [(each.examples, each.steps) for each in taken] == [(24, 3), (21, 3)]
    assert all(each.wait_s >= 0 for each in taken)


def test_an_execution_trains_like_single_steps_and_like_fit() -> None:
    dataset = batches(8, 8, 5, 8, 8, 8)
    several, single, fitted = (
        model([], jit_compile=False, steps_per_execution=n) for n in (3, 1, 3)
    )

    found = weights_after(several, dataset, calls=2)
    expected = weights_after(single, dataset, calls=6)
    fitted.fit(dataset, steps_per_epoch=6, verbose=0, shuffle=False)

    for ours, singly, fit in zip(found, expected, fitted.get_weights(), strict=True):
        np.testing.assert_allclose(ours, singly, rtol=1e-6)
        np.testing.assert_allclose(ours, fit, rtol=1e-6)


def test_an_execution_ends_early_with_the_batches() -> None:
    feed = started(model([], jit_compile=False, steps_per_execution=3), batches(8, 8, 8, 5))

    taken = [feed.advance() for _ in range(2)]

    assert [(each.examples, each.steps) for each in taken] == [(24, 3), (5, 1)]
    again = feed.advance()
    assert (again.examples, again.steps, feed.epochs.count) == (24, 3, 2)


def test_the_next_batch_of_an_execution_is_fetched_while_a_step_runs() -> None:
    """As in Keras' own loop. Each step but the last waits until the next batch is asked for."""
    asked = [threading.Event() for _ in range(4)]
    came: list[bool] = []

    def generate() -> Iterator[Any]:
        for event in asked:
            event.set()
            yield batch(8)

    def until_asked(number: Any) -> Any:
        if number < 2:
            came.append(asked[int(number) + 1].wait(10))
        return np.int64(number + 1)

    class Waiting(keras.Model):  # type: ignore[misc]  # keras has no types
        def __init__(self) -> None:
            super().__init__()
            self.number = tf.Variable(0, dtype=tf.int64)

        def train_step(self, data: Any) -> Any:
            number = tf.numpy_function(until_asked, [self.number], tf.int64)
            self.number.assign(tf.ensure_shape(number, ()))
            return {"loss": tf.reduce_sum(data[0])}

    waiting = Waiting()
    waiting.compile(steps_per_execution=3, jit_compile=False)
    dataset = tf.data.Dataset.from_generator(generate, output_signature=SPEC)
    # Without the pinned options, tf.data adds a prefetch, which asks for batches by itself.
    feed = TrainingFeed(waiting, dataset.with_options(pinned_options()))
    feed.start()

    assert feed.advance().steps == 3
    assert came == [True, True]


def test_a_step_may_return_nothing_beside_its_loss() -> None:
    class Sparing(keras.Model):  # type: ignore[misc]  # keras has no types
        def train_step(self, data: Any) -> Any:
            return {"loss": tf.reduce_sum(data[0]), "not_yet": None}

    sparing = Sparing()
    sparing.compile(steps_per_execution=3, jit_compile=False)

    feed = started(sparing, batches(8, 8, 8))

    assert feed.advance().steps == 3
    assert feed.loss == pytest.approx(float(tf.reduce_sum(tf.range(32.0))) / 100)


def test_in_an_execution_too_the_step_and_the_pipeline_are_told_apart() -> None:
    class Picky(keras.Model):  # type: ignore[misc]  # keras has no types
        def train_step(self, data: Any) -> Any:
            tf.debugging.assert_equal(tf.shape(data[1])[0], 8)
            return {"loss": tf.reduce_sum(data[0])}

    picky = Picky()
    picky.compile(steps_per_execution=3, jit_compile=False)
    with pytest.raises(StepError, match="InvalidArgumentError"):
        started(picky, batches(8, 8, 5)).advance()

    def odd(features: tf.Tensor, label: tf.Tensor) -> Any:
        with tf.control_dependencies([tf.debugging.assert_equal(tf.shape(label)[0], 8)]):
            return tf.identity(features), label

    with pytest.raises(tf.errors.InvalidArgumentError):
        started(picky, batches(8, 8, 5).map(odd)).advance()


@pytest.fixture
def mixed_float16() -> Iterator[None]:
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_float16")
    yield
    keras.mixed_precision.set_global_policy(before)


def test_in_mixed_precision_the_loss_is_read_unscaled(mixed_float16: None) -> None:
    """The optimizer scales the loss by thousands, but the unscaled loss is read and checked."""
    mixed = model([], jit_compile=False)
    keras.mixed_precision.set_global_policy("float32")
    plain = model([], jit_compile=False)
    assert isinstance(mixed.optimizer, keras.optimizers.LossScaleOptimizer)
    feeds = [started(each, batches(8, 8, 8)) for each in (mixed, plain)]
    assert mixed.optimizer.built

    for feed in feeds:
        feed.advance()
        feed.synchronise()

    assert feeds[0].loss == pytest.approx(feeds[1].loss, rel=0.02)
    assert mixed.layers[-1].compute_dtype == "float16"


def test_a_loss_beyond_float16_is_found(mixed_float16: None) -> None:
    huge = tf.data.Dataset.from_tensors(batch(8, 1e6))
    feed = started(model([], jit_compile=False), huge)

    feed.advance()

    with pytest.raises(NotFiniteLossError, match="the loss is"):
        feed.synchronise()


def in_its_own_process(*arguments: str, **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.own_process", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", **environment},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.strip().split("\n")[-1])
    return found


@pytest.mark.slow
def test_xla_has_compiled_before_the_windows(tmp_path: Path) -> None:
    found = in_its_own_process("compiled", str(tmp_path), XLA_FLAGS=f"--xla_dump_to={tmp_path}")

    assert found.keys() == {"1", "3"}
    for each in found.values():
        assert each["traced"] == each["later"]
        assert each["compiled"] > 0
        assert each["compiled later"] == 0
        assert each["compiled for another shape"] > 0  # so compilations are counted


@pytest.fixture(scope="module")
def mirrored() -> dict[str, Any]:
    return in_its_own_process("mirrored")


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("data", ["endless", "ending"])
def test_a_mirrored_step_is_traced_before_the_windows(
    mirrored: dict[str, Any], data: str, steps: int
) -> None:
    found = mirrored[f"{data} {steps}"]

    assert found["traced"] == found["later"] == [2, 1]  # each replica is traced once, in one graph
    assert found["taken"] == [[8 * steps, steps]] * 2


@pytest.mark.slow
def test_the_graph_that_is_traced_is_the_measured_iterators(mirrored: dict[str, Any]) -> None:
    assert not mirrored["endless 1"]["looks_for_the_end"]
    assert mirrored["ending 1"]["looks_for_the_end"]


@pytest.mark.slow
@pytest.mark.parametrize("data", ["endless", "ending"])
def test_the_parts_of_a_batch_make_the_batch(mirrored: dict[str, Any], data: str) -> None:
    found = mirrored[f"{data} 1"]

    assert found["digests"] == found["plain"]
    assert found["shapes"] == [[8, 4], [8]]


@pytest.mark.slow
def test_two_replicas_train_like_one_device(mirrored: dict[str, Any]) -> None:
    assert mirrored["loss"] == pytest.approx(mirrored["plain loss"], rel=1e-5)
    assert mirrored["short"] == [8, 3]  # the examples of both replicas' parts


def test_a_last_batch_that_not_every_replica_has_a_part_of_is_stepped(
    mirrored: dict[str, Any],
) -> None:
    assert mirrored["last"] == [[8, 1], [1, 1]]


# ---- times, and batches that lie on the device


@pytest.mark.parametrize("steps", [1, 3])
def test_times_are_worked_out_by_the_processor(steps: int) -> None:
    """A time computed on a GPU could be read back only after all of its steps."""
    feed = started(model([], jit_compile=False, steps_per_execution=steps), batches(8, 8, 8, 8))
    assert feed._takes is not None
    graph = feed._takes.get_concrete_function(feed.epochs.iterator).graph
    bodies = [
        function.graph for function in graph._functions.values() if hasattr(function, "graph")
    ]
    times = [
        operation
        for each in (graph, *bodies)
        for operation in each.get_operations()
        if operation.type in ("Sub", "Maximum", "AddV2", "Timestamp")
        and any(output.dtype == tf.float64 for output in operation.outputs)
    ]

    assert {operation.type for operation in times} >= {"Sub", "Maximum", "Timestamp"}
    assert {operation.device for operation in times} == {"/device:CPU:0"}


def test_batches_that_lie_on_the_device_are_trained_on_as_they_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The CPU stands in for the GPU. Training gives the host's weights, so no batch is skipped."""
    dataset = batches(8, 8, 5, 8)
    ahead = dataset.apply(tf.data.experimental.prefetch_to_device("/CPU:0", 2))
    expected = weights_after(model([], jit_compile=False), dataset, calls=4)
    monkeypatch.setattr(training, "device_of", lambda given: "/CPU:0" if given is ahead else None)
    feed = TrainingFeed(model([], jit_compile=False), ahead, autotuned=True)
    feed.start()

    taken = [feed.advance() for _ in range(4)]

    assert [(each.examples, each.steps) for each in taken] == [(8, 1), (8, 1), (5, 1), (8, 1)]
    assert all(0 <= each.wait_s < 60 for each in taken)
    for found, weight in zip(feed._model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(found, weight, rtol=1e-6)
    assert (feed.choices(), feed.autotune_nodes()) == (UNREADABLE, [])


def test_a_step_on_device_batches_is_traced_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = batches(8, 8, 8).apply(tf.data.experimental.prefetch_to_device("/CPU:0", 2))
    monkeypatch.setattr(training, "device_of", lambda given: "/CPU:0")
    traces: list[int] = []
    feed = TrainingFeed(model(traces, jit_compile=False), dataset)
    feed.trace(batch(8))
    traced = len(traces)
    feed.start()
    feed.take_first(1)
    feed.advance()

    assert len(traces) == traced

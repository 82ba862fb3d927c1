"""The step that takes its own batch, on real chains: waiting, counting, training and errors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import keras
import pytest
import tensorflow as tf

from prefetch_tuning.objectives.loop.training import NotFiniteLossError, StepError, TrainingFeed

SPEC = (tf.TensorSpec((None, 4), tf.float32), tf.TensorSpec((None,), tf.float32))
SIZES = [8, 8, 8, 3]


def batches(delay_s: float = 0.0) -> tf.data.Dataset:
    def generate() -> Iterator[Any]:
        for size in SIZES:
            time.sleep(delay_s)
            yield tf.ones((size, 4)), tf.zeros((size,))

    return tf.data.Dataset.from_generator(generate, output_signature=SPEC)


def model(*, run_eagerly: bool = False) -> keras.Model:
    keras.utils.set_random_seed(0)
    made = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    made.compile(optimizer="sgd", loss="mse", jit_compile=False, run_eagerly=run_eagerly)
    return made


def started(dataset: tf.data.Dataset, trained: keras.Model) -> TrainingFeed:
    feed = TrainingFeed(trained, dataset)
    if not trained.run_eagerly:
        feed.trace((tf.ones((8, 4)), tf.zeros((8,))))
    feed.start()
    return feed


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_every_batch_is_counted_as_what_it_holds(run_eagerly: bool) -> None:
    feed = started(batches(), model(run_eagerly=run_eagerly))

    assert [feed.advance().examples for _ in SIZES] == SIZES


def test_the_wait_is_the_pipelines_and_not_the_steps() -> None:
    feed = started(batches(delay_s=0.1), model())

    begin = time.perf_counter()
    taken = [feed.advance() for _ in SIZES]
    seconds = time.perf_counter() - begin

    assert all(t.wait_s > 0.09 for t in taken)
    assert sum(t.wait_s for t in taken) <= seconds + 0.001


def test_it_trains_like_a_step_on_batches_taken_in_python() -> None:
    inside, outside = model(), model()
    one, other = started(batches(), inside), started(batches(), outside)
    for _ in SIZES:
        one.advance()
        other.step(other.next_batch())

    assert one.loss == other.loss
    assert one.loss < started(batches(), model()).loss
    for a, b in zip(inside.get_weights(), outside.get_weights(), strict=True):
        assert (a == b).all()


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_the_first_batches_are_read_and_told_apart(run_eagerly: bool) -> None:
    feed = started(batches(), model(run_eagerly=run_eagerly))

    digests = feed.take_first(4)

    assert digests[0] == digests[1] == digests[2] != digests[3]  # the last batch is shorter
    assert len(feed.first_batches) == 2
    assert feed.advance().examples == SIZES[0]  # the next epoch's first


@pytest.mark.parametrize(("stepping", "steps"), [(False, 1), (True, 2)])
def test_the_step_is_compiled_alone_only_if_it_is_to_run_alone(stepping: bool, steps: int) -> None:
    trained = model()
    feed = TrainingFeed(trained, batches())

    feed.trace((tf.ones((8, 4)), tf.zeros((8,))), stepping=stepping)

    assert int(trained.optimizer.iterations) == steps


def test_what_goes_wrong_in_tracing_is_the_steps() -> None:
    feed = TrainingFeed(model(), batches())

    def failing(_: Any) -> Any:
        raise tf.errors.InvalidArgumentError(None, None, "[[{{node step}}]] [[IteratorGetNext]]")

    feed._takes = failing
    with pytest.raises(StepError, match="InvalidArgumentError"):
        feed.trace((tf.ones((8, 4)), tf.zeros((8,))))


@pytest.mark.parametrize("steps", [1, 3])
def test_several_steps_on_one_batch_may_diverge(steps: int) -> None:
    trained = model()
    trained.compile(keras.optimizers.SGD(1e30), "mse", jit_compile=False, steps_per_execution=steps)
    feed = TrainingFeed(trained, batches())
    ones = (tf.ones((8, 4)), tf.fill((8,), 1e30))

    if steps == 1:
        with pytest.raises(NotFiniteLossError):
            feed.trace(ones)
    else:
        feed.trace(ones)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_step_that_makes_its_variables_late_is_traced(jit_compile: bool) -> None:
    class Late(keras.Model):  # type: ignore[misc]  # Keras has no types
        total: tf.Variable | None = None
        traces = 0

        def train_step(self, data: Any) -> Any:
            self.traces += 1
            if self.total is None:
                self.total = tf.Variable(0.0)
            self.total.assign_add(tf.reduce_sum(data[0]))
            return {"loss": self.total.read_value()}

    late = Late()
    late.compile(jit_compile=jit_compile)
    feed = started(batches(), late)
    traced, before = late.traces, feed.loss
    feed.advance()

    assert late.traces == traced
    assert feed.loss == before + 8 * 4


def test_what_the_pipeline_raises_is_not_blamed_on_the_step() -> None:
    def odd(features: tf.Tensor, label: tf.Tensor) -> Any:
        with tf.control_dependencies([tf.debugging.assert_equal(tf.shape(label)[0], 8)]):
            return tf.identity(features), label

    feed = started(batches().map(odd), model())
    for _ in SIZES[:3]:
        feed.advance()

    with pytest.raises(tf.errors.InvalidArgumentError):
        feed.advance()


def test_what_the_step_raises_is_blamed_on_it() -> None:
    class Picky(keras.Model):  # type: ignore[misc]  # Keras has no types
        def train_step(self, data: Any) -> Any:
            tf.debugging.assert_equal(tf.shape(data[1])[0], 8)
            return {"loss": tf.reduce_sum(data[0])}

    picky = Picky()
    picky.compile(jit_compile=False)
    feed = started(batches(), picky)
    for _ in SIZES[:3]:
        feed.advance()

    with pytest.raises(StepError, match="InvalidArgumentError"):
        feed.advance()


def test_a_chain_that_keeps_autotune_off_has_no_choices() -> None:
    """Keras switches AUTOTUNE off for a PyDataset with workers; reading its choices would raise."""
    options = tf.data.Options()
    options.autotune.enabled = False
    found = [
        TrainingFeed(model(), dataset, autotuned=True)
        for dataset in (batches().prefetch(tf.data.AUTOTUNE), batches().with_options(options))
    ]
    for feed in found:
        feed.trace(next(iter(batches())))
        feed.start()
        feed.advance()

    assert found[0].choices() is not None
    assert found[1].choices() is None


def test_the_next_epoch_begins_where_the_batches_end() -> None:
    feed = started(batches(), model())
    first = [feed.advance().examples for _ in SIZES]

    assert [feed.advance().examples for _ in SIZES] == first
    assert feed.epochs.count == 2


def test_an_epoch_without_a_batch_is_an_error() -> None:
    feed = started(batches().take(0), model())

    with pytest.raises(tf.errors.OutOfRangeError):
        feed.advance()

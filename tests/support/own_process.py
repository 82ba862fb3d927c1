"""Checks of the step with settings that TensorFlow reads only once, so each has its own process.

Run as `python -m tests.support.own_process mirrored`, or as `... compiled FOLDER` with
`--xla_dump_to=FOLDER` in XLA_FLAGS. Each prints a line of JSON that `test_step.py` checks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from prefetch_tuning.objectives.digest import short_digest
from prefetch_tuning.objectives.loop.training import TrainingFeed

SPEC = (tf.TensorSpec((None, 4), tf.float32), tf.TensorSpec((None,), tf.float32))
STEPS = (1, 3)


def batch(size: int, value: float = 0.5) -> Any:
    return tf.fill((size, 4), value), tf.fill((size,), value)


def batches(*sizes: int) -> tf.data.Dataset:
    """One batch per size, each with different numbers."""

    def generate() -> Iterator[Any]:
        for number, size in enumerate(sizes):
            yield tf.reshape(tf.range(size * 4.0), (size, 4)) / 100, tf.fill((size,), number / 9)

    return tf.data.Dataset.from_generator(generate, output_signature=SPEC)


def model(traces: list[int], **compiled: Any) -> keras.Model:
    """A model of one layer; `traces` grows by one whenever its step is traced."""

    class Model(keras.Model):  # type: ignore[misc]  # keras has no types
        def train_step(self, data: Any) -> Any:
            traces.append(1)
            return super().train_step(data)

    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    made = Model(inputs, keras.layers.Dense(1)(inputs))
    made.compile(optimizer="sgd", loss="mse", **compiled)
    return made


def counts(feed: TrainingFeed, traces: list[int]) -> list[int]:
    assert feed._takes is not None
    return [len(traces), feed._takes.experimental_get_tracing_count()]


def looks_for_the_end(feed: TrainingFeed) -> bool:
    """Whether the graph that takes a batch checks each time if there is one."""
    assert feed._takes is not None
    graph = feed._takes.get_concrete_function(feed.epochs.iterator).graph
    return any(operation.type == "OptionalHasValue" for operation in graph.get_operations())


def mirrored() -> dict[str, Any]:
    """The step on two CPU devices, for each number of steps per execution."""
    from tests.planted.fit import DEVICES

    strategy = tf.distribute.MirroredStrategy(DEVICES)
    found: dict[str, Any] = {}
    for steps in STEPS:
        traces: list[int] = []
        with strategy.scope():
            spread = model(traces, steps_per_execution=steps)
        data = {"endless": batches(8, 8, 8).repeat(), "ending": batches(*[8] * 8, 3)}
        for name, dataset in data.items():
            del traces[:]
            feed = TrainingFeed(spread, dataset)
            feed.trace(batch(8))
            traced = counts(feed, traces)
            feed.start()
            digests = feed.take_first(2)
            taken = [feed.advance() for _ in range(2)]
            found[f"{name} {steps}"] = {
                "traced": traced,
                "later": counts(feed, traces),
                "digests": digests,
                "plain": [short_digest(each) for each in dataset.take(2)],
                "shapes": [list(leaf.shape) for leaf in feed.first_batches[0]],
                "looks_for_the_end": looks_for_the_end(feed),
                "taken": [(each.examples, each.steps) for each in taken],
            }
    found["loss"], found["plain loss"] = (last_loss(strategy.scope()), last_loss())
    ending = TrainingFeed(spread, batches(8, 3))
    ending.start()
    found["short"] = [ending._advance_in_python().examples for _ in range(2)]
    last = TrainingFeed(spread_once(strategy), batches(8, 1))
    last.trace(batch(8))
    last.start()
    found["last"] = [(each.examples, each.steps) for each in (last.advance(), last.advance())]
    return found


def spread_once(strategy: Any) -> keras.Model:
    with strategy.scope():
        return model([])


def last_loss(scope: Any = None) -> float:
    """The loss after four steps, with or without a strategy."""
    with scope or tf.distribute.get_strategy().scope():
        trained = model([])
    feed = TrainingFeed(trained, batches(8, 8, 8, 8))
    feed.start()
    for _ in range(4):
        feed.advance()
    return feed.loss


def compiled(folder: Path) -> dict[str, Any]:
    """Counts the modules that XLA compiles: it dumps each as files whose names begin alike."""

    def modules() -> int:
        return len({path.name.split(".")[0] for path in folder.glob("module_*")})

    found: dict[str, Any] = {}
    for steps in STEPS:
        traces: list[int] = []
        before = modules()
        made = model(traces, jit_compile=True, steps_per_execution=steps)
        feed = TrainingFeed(made, batches(*[8] * 8, *[5] * steps))
        feed.trace(batch(8))
        traced, compiled_by_then = counts(feed, traces), modules() - before
        feed.start()
        feed.take_first(2)
        for _ in range(6 // steps):
            feed.advance()
        found[str(steps)] = {
            "traced": traced,
            "later": counts(feed, traces),
            "compiled": compiled_by_then,
            "compiled later": modules() - before - compiled_by_then,
        }
        feed.advance()  # batches of 5 examples instead of 8
        found[str(steps)]["compiled for another shape"] = modules() - before - compiled_by_then
    return found


if __name__ == "__main__":
    print(json.dumps(compiled(Path(sys.argv[2])) if sys.argv[1] == "compiled" else mirrored()))

"""The compiled step: the Keras model's own `train_step`, so that a user's override counts.

It takes its batch from the iterator inside the graph, as `model.fit` does. A `next` in Python would
cost about 0.2 ms more per batch, which is half of a small model's step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from prefetch_tuning.objectives.loop.distribution import Distribution


class Ran(NamedTuple):
    """The result of one call of a step on an iterator.

    `outputs` is what the last step returned, `waited_s` the total seconds that the steps waited for
    their batches, and `examples` and `steps` are the numbers of both.
    """

    outputs: Any
    waited_s: tf.Tensor
    examples: tf.Tensor
    steps: tf.Tensor


def compile_step(model: keras.Model, element_spec: Any, distribution: Distribution) -> Any:
    """The function that `model.fit` would run for each batch, without fit's loop around it.

    It follows Keras's own `make_train_function`: without autograph, run by the model's strategy,
    with the model's `jit_compile` and `run_eagerly`. It is traced once, for the dataset's spec,
    which leaves the batch and every padded dimension open. If it were traced on a batch, it would
    be traced again at the first batch of another length, in the middle of the measurement.

    XLA still compiles for every new shape. If all batches have one shape, that is done once the
    step has run on one of them. Padded batches make it compile again and again, also in `fit`: that
    is what training such a model costs, and it stays in the windows.
    """
    train_step = tf.autograph.experimental.do_not_convert(model.train_step)

    @tf.autograph.experimental.do_not_convert
    def step(batch: Any) -> Any:
        return distribution.run(train_step, _without_optionals(batch))

    if model.run_eagerly:
        return step
    signature = (element_spec,)
    return tf.function(step, input_signature=signature, jit_compile=bool(model.jit_compile))


def _without_optionals(batch: Any) -> Any:
    """Keras brings a part that is None through tf.data as an empty optional."""
    return tf.nest.map_structure(
        lambda part: None if isinstance(part, tf.experimental.Optional) else part, batch
    )


def step_on_iterator(
    step: Any, distribution: Distribution, steps: int = 1, *, like_fit: bool = False
) -> Any:
    """The step that takes its own batches from an iterator, with the time it waited for them.

    Args:
        step: the function made by `compile_step`.
        distribution: the model's distribution.
        steps: the model's `steps_per_execution`.
        like_fit: whether it ends with the iterator as Keras's own function does, and returns the
            outputs in an optional, as that does; this costs a short step a fifth of its time.

    Returns:
        A function of an iterator that runs up to `steps` steps and returns `Ran`. If the iterator
        ends before the first of them, it raises `tf.errors.OutOfRangeError`, or returns an empty
        optional and 0 steps with `like_fit` and several steps.
    """

    def run(iterator: Any, batch: Any, waited_s: tf.Tensor) -> Ran:
        ran = Ran(step(batch), waited_s, count_examples(batch, distribution), tf.constant(1))
        return ran if steps == 1 else _further(iterator, step, distribution, steps, ran)

    @tf.autograph.experimental.do_not_convert
    def take_and_step(iterator: Any) -> Ran:
        begin = _time()
        with tf.control_dependencies([begin]):
            batch = iterator.get_next()
        return run(iterator, batch, _between(begin, _time(after=batch)))

    @tf.autograph.experimental.do_not_convert
    def take_and_step_in_fit(iterator: Any) -> Ran:
        return _in_optional(take_and_step(iterator))

    @tf.autograph.experimental.do_not_convert
    def take_and_step_if_any(iterator: Any) -> Ran:
        """Runs nothing if the iterator has ended.

        `get_next` would raise an error then, but what needs no batch would have run by that time: a
        step's random numbers would have been drawn, so the next epoch would draw others.
        """
        begin = _time()
        with tf.control_dependencies([begin]):
            batch = iterator.get_next_as_optional()
        waited_s = _between(begin, _time(after=batch))
        nothing = tf.experimental.Optional.empty(_spec_of_outputs(step))
        found: Ran = tf.cond(
            batch.has_value(),
            lambda: _in_optional(run(iterator, batch.get_value(), waited_s)),
            lambda: Ran(nothing, waited_s, tf.constant(0), tf.constant(0)),
        )
        return found

    if not like_fit:
        return tf.function(take_and_step)
    return tf.function(take_and_step_in_fit if steps == 1 else take_and_step_if_any)


def _in_optional(ran: Ran) -> Ran:
    return ran._replace(outputs=tf.experimental.Optional.from_value(ran.outputs))


def _spec_of_outputs(step: Any) -> Any:
    outputs = step.get_concrete_function().structured_outputs
    return tf.nest.map_structure(tf.type_spec_from_value, outputs)


def step_on_device_iterator(step: Any) -> Any:
    """The step that takes its batch from an iterator whose batches are already on a GPU.

    A control edge from a tensor on the GPU to the CPU waits for the GPU's earlier steps and would
    slow the loop down. The size of a batch is in host memory and known once the batch is on its
    way, so waiting for the size waits for nothing else.

    Returns:
        A function of an iterator that returns the step's outputs, the wall-clock time at which its
        batch was there, and the batch's examples.
    """

    @tf.function
    @tf.autograph.experimental.do_not_convert
    def take_and_step(iterator: Any) -> tuple[Any, tf.Tensor, tf.Tensor]:
        batch = iterator.get_next()
        rows = tf.shape(_on_device(tf.nest.flatten(batch)))[0]
        with tf.device("/CPU:0"):
            rows = tf.identity(rows)
            with tf.control_dependencies([rows]):
                there_at = tf.timestamp()
        return step(batch), there_at, rows

    return take_and_step


def _on_device(leaves: list[Any]) -> Any:
    """A part of the batch that is on the GPU, since TensorFlow keeps int32 in host memory.

    For an int32 part, the op that returns its shape would first bring the batch back.
    """
    return next((leaf for leaf in leaves if leaf.dtype != tf.int32), leaves[0])


def take_on_iterator(distribution: Distribution) -> Any:
    """A function that takes a batch like a step but does nothing with it; returns its examples.

    With several steps per execution it still takes one batch.
    """

    @tf.function
    @tf.autograph.experimental.do_not_convert
    def take(iterator: Any) -> tf.Tensor:
        batch = iterator.get_next()
        with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
            return tf.identity(count_examples(batch, distribution))

    return take


def take_timed(distribution: Distribution) -> Any:
    """A function that takes a batch; returns the seconds that it waited, and its examples."""

    @tf.function
    @tf.autograph.experimental.do_not_convert
    def take(iterator: Any) -> tuple[tf.Tensor, tf.Tensor]:
        begin = _time()
        with tf.control_dependencies([begin]):
            batch = iterator.get_next()
        there_at = _time(after=batch)
        return _between(begin, there_at), count_examples(batch, distribution)

    return take


def _further(iterator: Any, step: Any, distribution: Distribution, steps: int, first: Ran) -> Ran:
    """The steps of an execution after its first one, in the loop that Keras makes.

    Nothing in that loop delays fetching the next batch until the step is done. TensorFlow does both
    at once, so an execution has one batch of look-ahead inside. A step's wait lasts from its
    predecessor's end until its batch is there.
    """
    # A loop carries only tensors, but a step may also return None.
    leaves = tf.nest.flatten(first.outputs)
    carried = [index for index, leaf in enumerate(leaves) if leaf is not None]

    def tensors(outputs: Any) -> list[Any]:
        found = tf.nest.flatten(outputs)
        return [tf.convert_to_tensor(found[index]) for index in carried]

    def next_batch(number: Any, batch: Any, ended_at: Any) -> tuple[Any, Any]:
        """The batch of step `number`, if there is such a step, and the seconds of wait for it."""
        batch = tf.cond(number < steps, iterator.get_next_as_optional, lambda: batch)
        return batch, _between(ended_at, _time(after=batch))

    def goes_on(number: Any, batch: Any, *_: Any) -> Any:
        return tf.logical_and(number < steps, batch.has_value())

    def another(number: Any, batch: Any, waited_s: Any, wait_s: Any, examples: Any, _: Any) -> Any:
        data = batch.get_value()
        outputs = tensors(step(data))
        ended_at = _end_of(outputs)
        # The loop's condition depends on this number, so on a CPU no step begins before its
        # predecessor has ended. On a GPU, TensorFlow orders them by their variables, as in `fit`.
        with tf.control_dependencies([ended_at]), tf.device("/CPU:0"):
            following = number + 1
        batch, next_wait_s = next_batch(number + 1, batch, ended_at)
        examples = examples + count_examples(data, distribution)
        with tf.device("/CPU:0"):
            waited_s += wait_s
        return following, batch, waited_s, next_wait_s, examples, outputs

    outputs = tensors(first.outputs)
    batch = iterator.get_next_as_optional()
    wait_s = _between(_end_of(outputs), _time(after=batch))
    begin = (first.steps, batch, first.waited_s, wait_s, first.examples, outputs)
    done, _, waited_s, _, examples, outputs = tf.while_loop(goes_on, another, begin)
    for index, leaf in zip(carried, outputs, strict=True):
        leaves[index] = leaf
    return Ran(tf.nest.pack_sequence_as(first.outputs, leaves), waited_s, examples, done)


def _time(after: Any = ()) -> tf.Tensor:
    """Seconds of the wall clock once all of `after` is there.

    Times stay on the CPU: reading them back from a GPU would wait for all of its steps.
    """
    there = tf.nest.flatten(after, expand_composites=True)
    with tf.control_dependencies(there), tf.device("/CPU:0"):
        return tf.timestamp()


def _between(begin: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """Seconds from one time to another; 0 if the wall clock was set back.

    The CPU computes it, because a GPU's result is read back only after all of its steps.
    """
    with tf.device("/CPU:0"):
        return tf.maximum(end - begin, 0.0)


def _end_of(outputs: Any) -> tf.Tensor:
    """When a step has ended; on a GPU nothing may wait for that, so it is when the step began.

    The wait for the next batch then includes the time of dispatching the step.
    """
    return _time() if tf.config.list_logical_devices("GPU") else _time(after=outputs)


def count_examples(batch: Any, distribution: Distribution) -> tf.Tensor:
    """Examples of a batch over all replicas; an epoch's last batch may be short."""
    parts = [_leading(part) for part in distribution.parts(tf.nest.flatten(batch)[0])]
    return parts[0] if len(parts) == 1 else tf.add_n([tf.cast(part, tf.int32) for part in parts])


def _leading(leaf: Any) -> tf.Tensor:
    if leaf.shape[0] is not None:
        return tf.constant(leaf.shape[0])
    if isinstance(leaf, tf.RaggedTensor):
        return tf.cast(leaf.nrows(), tf.int32)
    rows = leaf.dense_shape[0] if isinstance(leaf, tf.SparseTensor) else tf.shape(leaf)[0]
    return tf.cast(rows, tf.int32)

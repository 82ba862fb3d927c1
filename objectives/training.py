"""The training step: the Keras model's own `train_step`, so that a user's override counts.

It takes its batch out of the iterator inside the graph, as `model.fit` does: a `next` in Python
costs some 0.2 ms a batch more, which is half of a small model's step.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from objectives.digest import short_digest
from objectives.steady_state import Taken
from pipelines.build import pinned_options

# Of the measured iterator's first batches: their digest and their size are asked for afterwards.
KEPT_BATCHES = 2


class NotFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite: the steps that follow would train nothing."""


class StepError(RuntimeError):
    """The training step itself failed; the cause is chained."""


def compile_step(model: keras.Model, element_spec: Any) -> Any:
    """The function that `model.fit` would run for each batch, without fit's loop around it.

    It follows Keras's own `make_train_function`: autograph left out, `jit_compile` and
    `run_eagerly` as the model was compiled, and traced once for the dataset's spec, in which
    the batch and every padded dimension are open. Traced on a batch it would be traced again
    when the first batch of another length comes, in the middle of the measurement.
    """
    step = tf.autograph.experimental.do_not_convert(model.train_step)
    if model.run_eagerly:
        return step
    signature = (element_spec,)
    return tf.function(step, input_signature=signature, jit_compile=bool(model.jit_compile))


def step_on_iterator(step: Any) -> Any:
    """The step that takes its own batch out of an iterator, with the time that it waited for it.

    Returns a function of an iterator that gives (what the step returns, seconds waited, examples).
    """

    @tf.function
    @tf.autograph.experimental.do_not_convert
    def take_and_step(iterator: Any) -> tuple[Any, tf.Tensor, tf.Tensor]:
        # Times stay with the CPU: read back from a GPU, they would wait for all of its steps.
        with tf.device("/CPU:0"):
            begin = tf.timestamp()
        with tf.control_dependencies([begin]):
            batch = iterator.get_next()
        there = tf.nest.flatten(batch, expand_composites=True)
        with tf.control_dependencies(there), tf.device("/CPU:0"):
            waited_s = tf.timestamp() - begin
        return step(batch), waited_s, _leading(batch)

    return take_and_step


@tf.function
@tf.autograph.experimental.do_not_convert
def take_on_iterator(iterator: Any) -> tf.Tensor:
    """Takes a batch inside the graph, as a step does, and does nothing with it; its examples."""
    batch = iterator.get_next()
    with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
        return tf.identity(_leading(batch))


def _leading(batch: Any) -> tf.Tensor:
    """Examples of a batch: an epoch's last may be a short one."""
    first = tf.nest.flatten(batch)[0]
    return tf.constant(first.shape[0]) if first.shape[0] is not None else _rows(first)


def _rows(leaf: Any) -> tf.Tensor:
    if isinstance(leaf, tf.RaggedTensor):
        return leaf.nrows()
    return leaf.dense_shape[0] if isinstance(leaf, tf.SparseTensor) else tf.shape(leaf)[0]


class TrainingFeed:
    """Batches of the measured iterator and the step that consumes them, for `steady_state`.

    The iterator exists only from `start` on: a prefetch buffer that fills while the step is being
    traced would hand the measurement batches that cost it nothing.
    """

    def __init__(
        self,
        model: keras.Model,
        dataset: tf.data.Dataset,
        *,
        autotuned: bool = False,
    ) -> None:
        self.first_batches: list[Any] = []
        self.first_batch_s = 0.0
        self._started = 0.0
        self._checks_loss = True
        self._model = model
        self._dataset = dataset
        self._step = compile_step(model, dataset.element_spec)
        # Keras takes the batch in Python, too, where the step is to run there.
        self._takes = None if model.run_eagerly else step_on_iterator(self._step)
        # Keras switches AUTOTUNE off for a PyDataset with workers: it then has no choices to read.
        self._autotuned = autotuned and dataset.options().autotune.enabled is not False
        self._metrics: Any = None
        self._iterator: Iterator[Any] | None = None

    def trace(self, batch: Any) -> None:
        """Traces and runs the step once on a batch that is not the measured iterator's."""
        # Variables that came into being inside the step would have it traced three times. A model
        # that can only be built by its own train_step is; that is slower and nothing else.
        with contextlib.suppress(Exception):
            self._model._symbolic_build(data_batch=batch)
            self._model.optimizer.build(self._model.trainable_variables)
        self.step(batch)
        self.synchronise()
        if self._takes is not None:
            self._take(iter(self._given(batch)))

    def start(self, dataset: tf.data.Dataset | None = None) -> None:
        """Makes the measured iterator, over another dataset of the same spec where one is given.

        The first `take_first` or `advance` should follow at once.
        """
        self._started = time.perf_counter()
        self._iterator = iter(self._dataset if dataset is None else dataset)

    def take_first(self, count: int) -> list[str]:
        """Trains on the first batches, taken in Python; returns the digest of each.

        They are consumed as they come, so that nothing piles up. Only two of them are kept.
        """
        digests = []
        for number in range(count):
            batch = self.next_batch()
            if number == 0:
                self.first_batch_s = time.perf_counter() - self._started
            self.step(batch)
            digests.append(short_digest(batch))
            if len(self.first_batches) < KEPT_BATCHES:
                self.first_batches.append(batch)
        return digests

    def next_batch(self) -> Any:
        assert self._iterator is not None, "call start() first"
        return next(self._iterator)

    def take_only(self) -> None:
        """Takes the next batch as a step does, without the step."""
        if self._takes is None:
            self.next_batch()
        else:
            take_on_iterator(self._iterator)

    def ignore_loss(self) -> None:
        """Lets the loss be what it likes: the same batch over and over may well diverge."""
        self._checks_loss = False

    def repeat(self, batches: Sequence[Any]) -> None:
        """Starts over batches that lie ready in memory, round and round."""
        self.ignore_loss()
        dataset = self._given(*batches).cache().repeat()
        self.start(dataset.with_options(pinned_options()))

    def _given(self, *batches: Any) -> tf.data.Dataset:
        """A dataset of these batches, of the spec of the measured one: nothing is traced for it."""
        return tf.data.Dataset.from_generator(
            lambda: iter(batches), output_signature=self._dataset.element_spec
        )

    def advance(self) -> Taken:
        """Takes the next batch of the measured iterator and trains on it."""
        if self._takes is None:
            begin = time.perf_counter()
            batch = self.next_batch()
            waited_s = time.perf_counter() - begin
            self.step(batch)
            return Taken(waited_s, int(_leading(batch)))
        return self._take(self._iterator)

    def _take(self, iterator: Any) -> Taken:
        assert self._takes is not None
        try:
            self._metrics, waited_s, examples = self._takes(iterator)
        except Exception as error:
            if isinstance(error, tf.errors.OpError) and "IteratorGetNext" in error.message:
                raise  # what the iterator gave, not what the step made of it
            raise StepError(f"{type(error).__name__}: {error}") from error
        # By the clock of the wall, which may be set back.
        return Taken(max(float(waited_s), 0.0), int(examples))

    def step(self, batch: Any) -> None:
        try:
            self._metrics = self._step(batch)
        except Exception as error:
            raise StepError(f"{type(error).__name__}: {error}") from error

    def synchronise(self) -> None:
        """Waits for the device by reading all that the last step returned, and checks the losses.

        Raises:
            NotFiniteLossError: a loss is NaN or infinite.
        """
        for name, value in self._values().items():
            if self._checks_loss and "loss" in name and not math.isfinite(value):
                raise NotFiniteLossError(f"the {name} is {value}")

    @property
    def loss(self) -> float:
        """What the last step returned as its loss, or as its first value; 0 if it has none."""
        values = self._values()
        return values.get("loss", next(iter(values.values()), 0.0))

    def _values(self) -> dict[str, float]:
        """The scalars that the step returned, by name; a step that returns one has a loss."""
        metrics = self._metrics if isinstance(self._metrics, dict) else {"loss": self._metrics}
        leaves = {str(key): value for key, value in metrics.items() if value is not None}
        return {key: float(v) for key, v in leaves.items() if tf.size(v).numpy() == 1}

    def choices(self) -> object:
        """AUTOTUNE's choices so far; None for a pinned chain."""
        if not self._autotuned:
            return None
        return [(node["node"], node["parameter"], node["value"]) for node in self.autotune_nodes()]

    def autotune_nodes(self) -> list[dict[str, Any]]:
        """Each tunable parameter of the running chain, with the fields of `AutotuneNode`.

        `state_value` is what runs; `value` is what the optimiser is trying out.
        """
        if not self._autotuned:
            return []
        model = tf.data.experimental.get_model_proto(self._iterator)
        return [
            {
                "node": node.name,
                "parameter": parameter.name,
                "value": parameter.state_value,
                "buffered_bytes": node.buffered_bytes,
            }
            for node in model.nodes.values()
            for parameter in node.parameters
            if parameter.tunable
        ]

"""Batches of the measured iterator, and the training steps that consume them."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from prefetch_tuning.objectives.digest import short_digest
from prefetch_tuning.objectives.loop.distribution import Distribution
from prefetch_tuning.objectives.loop.epochs import Epochs
from prefetch_tuning.objectives.loop.passes import FirstPass
from prefetch_tuning.objectives.loop.ready import ReadyBatches
from prefetch_tuning.objectives.loop.steady_state import Taken
from prefetch_tuning.objectives.loop.step import (
    compile_step,
    count_examples,
    step_on_device_iterator,
    step_on_iterator,
    take_on_iterator,
)
from prefetch_tuning.objectives.loop.warm_up import UNREADABLE
from prefetch_tuning.pipelines.chain.build import pinned_options

# First batches of the measured iterator to keep, for their digest and their size.
KEPT_BATCHES = 2
# A cache is complete once it has seen its generator's end, a moment after the generator itself.
CACHE_ENDS_S = 0.2


class NotFiniteLossError(ArithmeticError):
    """The loss became NaN or infinite, so the following steps would train nothing."""


class StepError(RuntimeError):
    """The training step itself failed; the cause is chained."""


class TrainingFeed:
    """Batches of the measured iterator and the step that consumes them, for `steady_state`.

    The iterator exists only after `start`. A prefetch buffer that filled while the step was being
    traced would give the measurement batches that cost it nothing.

    Attributes:
        asynchronous: whether steps are dispatched to a GPU, which runs them behind the host.
    """

    def __init__(
        self,
        model: keras.Model,
        dataset: tf.data.Dataset,
        *,
        autotuned: bool = False,
    ) -> None:
        self.asynchronous = bool(tf.config.list_logical_devices("GPU"))
        self.first_batches: list[Any] = []
        self.first_batch_s = 0.0
        self._started = 0.0
        self._checks_loss = True
        self._model = model
        self._dataset = dataset
        self._distribution = Distribution(model)
        self._ready = ReadyBatches(dataset, self._distribution)
        self._steps = int(model.steps_per_execution)
        spec = self._distribution.dataset(dataset).element_spec
        self._step = compile_step(model, spec, self._distribution)
        self._take_only = take_on_iterator(self._distribution)
        # If the step is to run in Python, Keras takes the batch in Python as well.
        self._takes = None
        if not model.run_eagerly:
            self._takes = step_on_iterator(self._step, self._distribution, self._steps)
        self._takes_on_device = step_on_device_iterator(self._step)
        # The GPU that the iterator's batches are copied to ahead of the step; None for the host.
        self._ahead: str | None = None
        # Keras switches AUTOTUNE off for a PyDataset with workers, so it has no choices to read.
        self._autotuned = autotuned and dataset.options().autotune.enabled is not False
        self._metrics: Any = None
        self._epochs: Epochs | None = None

    def trace(self, batch: Any, *, stepping: bool = False, taking: bool = False) -> None:
        """Traces, compiles and runs the step on a batch that isn't from the measured iterator.

        Args:
            batch: nested tensors whose leading dimension is the measured batch size, because XLA
                compiles for that shape; the global batch if the model has a strategy.
            stepping: whether `step` follows, which `advance` doesn't use unless the model is run
                eagerly. XLA compiles it on its own: seconds for a large model.
            taking: whether `take_only` follows. Buffers would fill while it is traced.
        """
        # Creating the variables inside the step would have it traced three times. That happens to a
        # model that only its own train_step can build; it is slower, but has no other effect.
        with contextlib.suppress(Exception), self._distribution.scope():
            self._model._symbolic_build(data_batch=batch)
            self._model.optimizer.build(self._model.trainable_variables)
        self._ahead = device_of(self._dataset)
        if stepping or self._takes is None:
            self.step(self.placed(batch))
        if self._takes is not None:
            # The iterator has enough batches for every step of an execution.
            delivered = self._ready.delivered(batch, self._ahead)
            try:
                self._take(Epochs(lambda: iter(delivered)))
            except tf.errors.OpError as error:  # the batch was there, so it is the step's
                raise StepError(f"{type(error).__name__}: {error}") from error
            if taking:
                self._take_only(iter(delivered))
        tf.test.experimental.sync_devices()
        if self._steps == 1:  # several steps on one batch may diverge where a training doesn't
            self._check_loss()

    @property
    def distributed(self) -> bool:
        """Whether the model has a strategy, which moves the batches to the devices itself."""
        return self._distribution.distributed

    def placed(self, batch: Any) -> Any:
        """A batch in the form that `step` takes: with a strategy, spread over the replicas."""
        if not self._distribution.distributed and self._ahead is None:
            return batch
        return next(iter(self._ready.delivered(batch, self._ahead)))

    def start(self, dataset: tf.data.Dataset | None = None) -> None:
        """Makes the measured iterator, over another dataset of the same spec if one is given.

        The first `take_first` or `advance` should follow at once.
        """
        self._started = time.perf_counter()
        chosen = self._dataset if dataset is None else dataset
        self._ahead = device_of(chosen)
        given = self._distribution.dataset(chosen)
        self._epochs = Epochs(lambda: iter(given))

    def pass_once(
        self, most_s: float, ended: Callable[[], bool], count: int = 0, *, repeats: bool = False
    ) -> FirstPass:
        """Takes batches without training on them, for at most `most_s` seconds.

        It takes all of them, or if the dataset repeats its elements, those until `ended`. It has
        the digests of the first `count` batches, because a shuffle behind the cache gives others in
        the next pass.
        """
        begin = time.perf_counter()
        end, over = begin + most_s, False
        digests: list[str] = []
        examples = counted = 0
        seconds = 0.0
        for batch in self._dataset:
            if len(digests) < count:
                digests.append(short_digest(batch))
            counted += int(count_examples(batch, self._distribution))
            now = time.perf_counter()
            if repeats and not over and ended():
                over, end = True, min(end, now + CACHE_ENDS_S)
                examples, seconds = counted, now - begin
            if now > end:
                break
        else:  # this is all of it
            over, examples, seconds = True, counted, time.perf_counter() - begin
        return FirstPass(digests, examples, seconds, over and examples > 0)

    def take_first(self, count: int) -> list[str]:
        """Takes the first batches in Python, without a step; returns the digest of each.

        They are consumed as they come, so that none pile up. Only two of them are kept.
        """
        digests = []
        for number in range(count):
            batch = self.next_batch()
            if number == 0:
                self.first_batch_s = time.perf_counter() - self._started
            whole = self._distribution.whole(batch)
            digests.append(short_digest(whole))
            if len(self.first_batches) < KEPT_BATCHES:
                self.first_batches.append(whole)
        return digests

    @property
    def epochs(self) -> Epochs:
        """The measured iterator."""
        assert self._epochs is not None, "call start() first"
        return self._epochs

    def next_batch(self) -> Any:
        return self.epochs.take(next)[0]

    def take_only(self) -> int:
        """Takes the next batch like a step, without running the step; returns its examples."""
        if self._takes is None:
            return int(count_examples(self.next_batch(), self._distribution))
        return int(self.epochs.take(self._take_only)[0])

    def ignore_loss(self) -> None:
        """Stops checking the loss: it may well diverge on the same batch over and over."""
        self._checks_loss = False

    def repeat(self, batches: Sequence[Any]) -> None:
        """Starts over batches that are ready in memory, repeated endlessly."""
        self.ignore_loss()
        self.start(self._ready.repeated(*batches, cached=True).with_options(pinned_options()))

    def advance(self) -> Taken:
        """Trains on the next batch of the measured iterator, or the next `steps_per_execution`."""
        if self._takes is not None and (self._ahead is None or self._steps == 1):
            return self._take(self.epochs)
        one = self._advance_in_python if self._takes is None else self._take_on_device
        taken = [one() for _ in range(self._steps)]
        examples = sum(each.examples for each in taken)
        return Taken(sum(each.wait_s for each in taken), examples, self._steps)

    def _advance_in_python(self) -> Taken:
        begin = time.perf_counter()
        batch = self.next_batch()
        waited_s = time.perf_counter() - begin
        self.step(batch)
        return Taken(waited_s, int(count_examples(batch, self._distribution)))

    def _take_on_device(self) -> Taken:
        """Trains on the next batch of an iterator whose batches are on the GPU."""
        return self._take(self.epochs)

    def _take(self, epochs: Epochs) -> Taken:
        assert self._takes is not None
        asked_at = time.time()
        try:
            if self._ahead is None:
                ran, began_s = epochs.take(self._takes)
                self._metrics, waited_s, examples, steps = ran
                waited_s = float(waited_s) + began_s
            else:
                ran, _ = epochs.take(self._takes_on_device)
                self._metrics, there_at, examples = ran
                waited_s, steps = float(there_at) - asked_at, 1
        except Exception as error:
            if isinstance(error, tf.errors.OpError) and "IteratorGetNext" in error.message:
                raise  # the iterator failed, not the step
            raise StepError(f"{type(error).__name__}: {error}") from error
        # Wall-clock time, which may be set back.
        return Taken(max(waited_s, 0.0), int(examples), int(steps))

    def step(self, batch: Any) -> None:
        try:
            self._metrics = self._step(batch)
        except Exception as error:
            raise StepError(f"{type(error).__name__}: {error}") from error

    def synchronise(self) -> None:
        """Waits for the device, then checks the losses that the last step returned.

        Raises:
            NotFiniteLossError: a loss is NaN or infinite.
        """
        # Reading the step's outputs wouldn't be enough: they may not come from the device at all.
        tf.test.experimental.sync_devices()
        self._check_loss()

    def _check_loss(self) -> None:
        for name, value in self._values().items():
            if self._checks_loss and "loss" in name and not math.isfinite(value):
                raise NotFiniteLossError(f"the {name} is {value}")

    @property
    def loss(self) -> float:
        """The loss that the last step returned, or else its first value; 0 if it has none."""
        values = self._values()
        return values.get("loss", next(iter(values.values()), 0.0))

    def _values(self) -> dict[str, float]:
        """The scalars that the step returned, by name; a single value is the loss."""
        metrics = self._metrics if isinstance(self._metrics, dict) else {"loss": self._metrics}
        leaves = {str(key): value for key, value in metrics.items() if value is not None}
        return {key: float(v) for key, v in leaves.items() if tf.size(v).numpy() == 1}

    def choices(self) -> object:
        """AUTOTUNE's choices so far; None for a pinned chain, `UNREADABLE` if they are hidden."""
        if not self._autotuned:
            return None
        if self._hides_choices:
            return UNREADABLE
        return [(node["node"], node["parameter"], node["value"]) for node in self.autotune_nodes()]

    def autotune_nodes(self) -> list[dict[str, Any]]:
        """Each tunable parameter of the running chain, with the fields of `AutotuneNode`.

        `state_value` is what runs; `value` is what the optimiser is trying out. Returns an empty
        list if the choices are hidden.
        """
        if not self._autotuned or self._hides_choices:
            return []
        model = tf.data.experimental.get_model_proto(self.epochs.iterator)
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

    @property
    def _hides_choices(self) -> bool:
        """Whether AUTOTUNE's choices are hidden: by a distributed iterator, or by one on a GPU.

        TensorFlow's op that reads them exists only for the CPU.
        """
        return self._distribution.distributed or self._ahead is not None


def device_of(dataset: Any) -> str | None:
    """The GPU that a dataset copies its batches to ahead of the step; None for the host."""
    device = str(getattr(dataset, "_variant_tensor", tf.constant(0)).device)
    return device if "GPU" in device.upper() else None

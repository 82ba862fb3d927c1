"""`InputMonitor`: a Keras callback that measures how long the steps of `fit` wait for data."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from prefetch_tuning.objectives.loop.distribution import Distribution
from prefetch_tuning.objectives.loop.step import compile_step, count_examples, step_on_iterator
from prefetch_tuning.objectives.monitor.epochs import Epochs
from prefetch_tuning.objectives.monitor.meter import Meter, Tally
from prefetch_tuning.objectives.monitor.run_log import RunLog
from prefetch_tuning.objectives.monitor.watchdog import Watchdog
from prefetch_tuning.pipelines.source import PipelineError

_ITERATORS = (tf.data.Iterator, tf.distribute.DistributedIterator)


class InputMonitor(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Says how much of a training's time its steps wait for data, and names what stalls them.

    Keras takes a batch inside the compiled function that runs the step, where nothing can time it.
    So during `fit` the callback replaces that function with one that does the same, with the
    model's own `train_step`, and also reads the clock before and after it takes a batch.

    It prints one line per epoch. If an MLflow run is active when `fit` begins, it logs
    `input/wait_fraction` and `throughput/examples_per_s` to it. If a GPU runs the steps, one
    execution in 50 is timed, with the GPU idle before and after it.

    Attributes:
        wait_fraction: share of the time in which the step waited for data, over the whole `fit`.
        examples_per_s: rate of the whole `fit`.
        epochs: what each epoch measured.
    """

    def __init__(self, *, log_every_s: float = 10.0, say: Callable[[str], None] = print) -> None:
        """Makes a callback for one model at a time.

        Args:
            log_every_s: seconds between two values in MLflow.
            say: takes each line to show.
        """
        super().__init__()
        self._log_every_s, self._say = log_every_s, say
        self._step: _TimedStep | None = None
        self._measured = Epochs(say)

    @property
    def wait_fraction(self) -> float:
        return self._measured.wait_fraction

    @property
    def examples_per_s(self) -> float:
        return self._measured.examples_per_s

    @property
    def epochs(self) -> Sequence[Tally]:
        return self._measured.epochs

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Puts the timed function in place of the model's own.

        Raises:
            PipelineError: Keras doesn't run on TensorFlow, or the model makes its own function.
        """
        self.on_train_end(logs)  # another callback's error may have ended an earlier `fit`
        _check(self.model)
        self._measured = Epochs(self._say)
        meter = Meter(time.monotonic, _synchronise() if _has_gpu() else None)
        self._step = _TimedStep(self.model, meter)
        self._step.watchdog = Watchdog(meter, RunLog(self._say), self._log_every_s, self._say)
        self.model.train_function = self._step

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        del batch, logs
        if self._step is not None:
            self._step.is_watched = True

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        del epoch, logs
        if self._step is not None:
            self._step.meter.begin_epoch()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        del epoch, logs
        if self._step is None:
            return
        self._measured.ended(self._step.meter)
        if self._step.watchdog is not None:
            self._step.watchdog.end_period()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        del logs
        if self._step is not None:
            self._step.put_back()
            self._step = None


class _TimedStep:
    """Does what `model.train_function` does, and times it.

    Attributes:
        is_watched: whether the callback was told that a step begins. If not, a `fit` without it
            runs, after one that ended with an error which no callback was told of.
    """

    def __init__(self, model: Any, meter: Meter) -> None:
        self.meter = meter
        self.watchdog: Watchdog | None = None
        self.is_watched = False
        if isinstance(model.train_function, _TimedStep):
            model.train_function.put_back()  # another callback's error ended an earlier `fit`
        self._replaced: Any = model.train_function
        self._model = model
        self._distribution = Distribution(model)
        self._takes: Any = None

    def __call__(self, iterator: Any) -> Any:
        """Trains on the next batch or the next `steps_per_execution`; returns the step's logs."""
        if not isinstance(iterator, _ITERATORS):
            return self._replaced(iterator)  # `train_on_batch` gives it a generator
        if not self.is_watched:
            self.put_back()
            return self._replaced(iterator)
        self.is_watched = False
        is_first = self._takes is None
        try:
            if is_first:
                self._takes = self._compiled(iterator)
            self.meter.begin()
            outputs, waited_s, examples, steps = self._takes(iterator)
            if not int(steps):
                raise StopIteration  # Keras ends the epoch
            found = self.meter.end(float(waited_s), int(examples), int(steps), counts=not is_first)
        except (tf.errors.OutOfRangeError, StopIteration):
            self.meter.began_at = None
            raise  # the epoch's end
        except BaseException:
            # Keras calls no callback then, and the model would keep this function.
            self.put_back()
            raise
        if self.watchdog is not None:
            self.watchdog.add(found)
        return outputs

    def put_back(self) -> None:
        """Gives the model its own function back, and ends the watchdog."""
        if self.watchdog is not None:
            self.watchdog.stop()
            self.watchdog = None
        if self._model.train_function is self:  # the model may have been compiled anew
            self._model.train_function = self._replaced

    def _compiled(self, iterator: Any) -> Callable[[Any], Any]:
        step = compile_step(self._model, iterator.element_spec, self._distribution)
        steps = int(self._model.steps_per_execution)
        if not self._model.run_eagerly:
            return _out_of_optional(
                step_on_iterator(step, self._distribution, steps, like_fit=True)
            )

        def in_python(iterator: Any) -> tuple[Any, float, int, int]:
            waited_s, examples, outputs, done = 0.0, 0, None, 0
            while done < steps:
                begin = time.monotonic()
                batch = next(iterator, None)
                if batch is None:
                    break
                waited_s += time.monotonic() - begin
                examples += int(count_examples(batch, self._distribution))
                outputs = step(batch)
                done += 1
            return outputs, waited_s, examples, done

        return in_python


def _out_of_optional(takes: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Takes a step's outputs out of their optional in Python, at the same cost as Keras does."""

    def take(iterator: Any) -> Any:
        outputs, waited_s, examples, steps = takes(iterator)
        if not outputs.has_value():
            raise StopIteration  # Keras ends the epoch
        return outputs.get_value(), waited_s, examples, steps

    return take


def _check(model: Any) -> None:
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise PipelineError(
            f"InputMonitor measures fit on TensorFlow, but Keras runs on {backend}; in a loop of "
            "your own, use watch(dataset)"
        )
    if type(model).make_train_function is not keras.Model.make_train_function:
        raise PipelineError(
            f"{type(model).__name__} has its own make_train_function, which InputMonitor would "
            "replace; in a loop of your own, use watch(dataset)"
        )


def _has_gpu() -> bool:
    return bool(tf.config.list_logical_devices("GPU"))


def _synchronise() -> Callable[[], None]:
    synchronise: Callable[[], None] = tf.test.experimental.sync_devices
    return synchronise

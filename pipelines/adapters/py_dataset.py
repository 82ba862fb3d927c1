"""Turns a `keras.utils.PyDataset` into a pipeline that runs as in `model.fit`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

import keras
import tensorflow as tf

# A private import, on purpose: `model.fit` wraps a PyDataset in this adapter, and Keras has no
# public access to its workers and queues.
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

from prefetch_tuning.pipelines.adapters.functions import step_model
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.source import BatchesPipeline, PipelineError
from prefetch_tuning.pipelines.step_time import StepTime

AXES = ("workers", "use_multiprocessing", "max_queue_size")


class PyDatasetPipeline(BatchesPipeline):
    """A PyDataset, with the model or step time that the target names.

    Attributes:
        own: the workers, use_multiprocessing and max_queue_size that it was made with.
    """

    axes: Sequence[str] = AXES

    def __init__(
        self,
        dataset: keras.utils.PyDataset,
        model: Callable[[], Any] | None,
        step: StepTime | None,
        class_weight: Mapping[int, float] | None = None,
    ) -> None:
        """Asks for the first batches to learn their spec.

        Raises:
            PipelineError: there is neither a model nor a step time, or Keras cannot use the
                batches, or there are none.
        """
        kind = type(dataset)
        self._dataset, self._class_weight = dataset, class_weight
        self.functions = [f for f in (kind, model) if f is not None]
        given = getattr(kind, "name", None)
        self.name = given if isinstance(given, str) else kind.__name__
        self.__doc__ = inspect.getdoc(kind) or f"The batches of {kind.__name__}."
        self.build_model_of, self.stand_in = step_model(kind.__name__, model, step)
        self.own = {name: getattr(dataset, name) for name in AXES}
        try:
            self.element_spec = self._adapter().get_tf_dataset().element_spec
            first = tf.nest.flatten(dataset[0])
        except Exception as error:
            raise PipelineError(
                f"{self.name}: Keras cannot use its batches: {type(error).__name__}: {error}"
            ) from error
        self.batch_sizes = (int(first[0].shape[0]),)

    def make_batches(self, config: PipelineConfig, seed: int) -> tf.data.Dataset:
        """The batches that `model.fit` reads, epoch after epoch.

        With more than one worker or with processes, Keras starts its queue. Otherwise this process
        makes each batch on request. The seed has no effect: the PyDataset decides what it draws.
        """
        del seed
        return self._dataset_of(config, _epochs, shuffle=False)

    def given_to_fit(
        self, config: PipelineConfig, *, shuffle: bool, endless: bool
    ) -> tf.data.Dataset:
        """The same batches as a dataset for `model.fit`, with one epoch per iterator or endless."""
        if endless:
            return self._dataset_of(config, _epochs, shuffle=shuffle)
        dataset = self._dataset_of(config, _epoch_for_fit, shuffle=shuffle)
        count = self._dataset.num_batches
        return dataset.apply(tf.data.experimental.assert_cardinality(count))

    def _dataset_of(
        self,
        config: PipelineConfig,
        batches: Callable[[PyDatasetAdapter], Iterator[Any]],
        *,
        shuffle: bool,
    ) -> tf.data.Dataset:
        for name in AXES:
            setattr(self._dataset, name, getattr(config, name))
        adapter = self._adapter(shuffle=shuffle)
        dataset = tf.data.Dataset.from_generator(
            lambda: batches(adapter), output_signature=self.element_spec
        )
        if config.is_autotune and adapter.enqueuer is not None:
            # As Keras does: its queue runs ahead, and tf.data's threads stay out of it.
            options = tf.data.Options()
            options.autotune.enabled = False
            options.threading.private_threadpool_size = 1
            return dataset.with_options(options)
        return dataset.prefetch(config.buffer_size) if config.prefetch_buffer != 0 else dataset

    def bare_batches(self, seed: int) -> Iterator[Any]:
        """Yields `__getitem__` of 0, 1, ... from this thread, without a queue or tf.data."""
        del seed
        self._dataset.workers, self._dataset.use_multiprocessing = 1, False
        return _epochs(self._adapter())

    def _adapter(self, *, shuffle: bool = False) -> PyDatasetAdapter:
        return PyDatasetAdapter(self._dataset, class_weight=self._class_weight, shuffle=shuffle)

    def build_model(self) -> keras.Model:
        return self.build_model_of()


def _epochs(adapter: PyDatasetAdapter) -> Iterator[Any]:
    """Yields epoch after epoch, with the hooks that `model.fit` calls between them."""
    while True:
        adapter.on_epoch_begin()
        yield from adapter._get_iterator()
        adapter.on_epoch_end()


def _epoch_for_fit(adapter: PyDatasetAdapter) -> Iterator[Any]:
    """One epoch that has ended when its last batch is taken, because `fit` doesn't ask for more."""
    adapter.on_epoch_begin()
    for batch, following in pairwise(chain(adapter._get_iterator(), [None])):
        if following is None:
            adapter.on_epoch_end()
        yield batch

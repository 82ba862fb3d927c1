"""Turns a function `(config) -> tf.data.Dataset` into a pipeline, for users' own chains."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from prefetch_tuning.pipelines.adapters.functions import BATCH_SIZES, step_model
from prefetch_tuning.pipelines.config import PipelineConfig
from prefetch_tuning.pipelines.source import BatchesPipeline, PipelineError
from prefetch_tuning.pipelines.step_time import StepTime

PARAMETER = "config"


def builds_dataset(function: Callable[..., Any]) -> bool:
    """Whether a function has a parameter `config`, which a plain generator function doesn't."""
    return PARAMETER in inspect.signature(function).parameters


class DatasetFunction(BatchesPipeline):
    """A function that builds the whole chain from the batch size, prefetch and map settings."""

    batch_sizes = BATCH_SIZES
    axes = ("batch_size", "map_parallelism")

    def __init__(
        self,
        function: Callable[..., Any],
        model: Callable[[], Any] | None,
        step: StepTime | None,
    ) -> None:
        """Calls the function once to learn the spec of its batches.

        Raises:
            PipelineError: there is neither a model nor a step time, or the function doesn't return
                a `tf.data.Dataset`.
        """
        self._function = function
        self.functions = [f for f in (function, model) if f is not None]
        self.name = function.__name__.lstrip("_")
        self.__doc__ = inspect.getdoc(function) or f"The dataset of {function.__name__}."
        self.build_model_of, self.stand_in = step_model(function.__name__, model, step)
        smallest = PipelineConfig.no_prefetch(min(self.batch_sizes))
        self.element_spec = self.make_batches(smallest, 0).element_spec

    def make_batches(self, config: PipelineConfig, seed: int) -> tf.data.Dataset:
        parameters = inspect.signature(self._function).parameters
        arguments = {"seed": seed} if "seed" in parameters else {}
        dataset = self._function(**{PARAMETER: config, **arguments})
        if not isinstance(dataset, tf.data.Dataset):
            raise PipelineError(
                f"{self.name}(config) must return a tf.data.Dataset of batches, "
                f"not {type(dataset).__name__}"
            )
        return dataset.repeat()  # endless, like a generator's chain

    def build_model(self) -> keras.Model:
        return self.build_model_of()

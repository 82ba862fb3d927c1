"""Steps of an emulated accelerator: they take time but no cores, and run behind the host.

The batch is taken in the graph, and the step isn't part of it: a sleep in the graph would call back
into Python and wait for the GIL.
"""

from __future__ import annotations

import time
from typing import Any

import keras
import tensorflow as tf

from prefetch_tuning.objectives.loop.steady_state import Taken
from prefetch_tuning.objectives.loop.step import count_examples, take_timed
from prefetch_tuning.objectives.loop.training import TrainingFeed
from prefetch_tuning.objectives.machine.emulated_accelerator import EmulatedAccelerator
from prefetch_tuning.objectives.stage_costs import StageCost
from prefetch_tuning.pipelines.adapters.functions import EmulatedModel
from prefetch_tuning.pipelines.step_time import StepTime


class EmulatedFeed(TrainingFeed):
    """Batches that are taken in the graph, and steps of an emulated accelerator."""

    def __init__(
        self, model: EmulatedModel, dataset: tf.data.Dataset, *, autotuned: bool = False
    ) -> None:
        super().__init__(model, dataset, autotuned=autotuned)
        self.asynchronous = True
        self._accelerator = EmulatedAccelerator(model.step_time, time.perf_counter, time.sleep)
        self._take_timed = take_timed(self._distribution)

    def trace(self, batch: Any, *, stepping: bool = False, taking: bool = False) -> None:
        """Traces taking a batch, on one that isn't from the measured iterator."""
        del stepping, taking  # nothing else is traced
        self._take_timed(iter(self._ready.delivered(batch, None)))

    def advance(self) -> Taken:
        (waited_s, examples), began_s = self.epochs.take(self._take_timed)
        self._accelerator.dispatch(int(examples))
        return Taken(float(waited_s) + began_s, int(examples))

    def take_only(self) -> int:
        (_, examples), _ = self.epochs.take(self._take_timed)
        return int(examples)

    def step(self, batch: Any) -> None:
        self._accelerator.dispatch(int(count_examples(batch, self._distribution)))

    def synchronise(self) -> None:
        self._accelerator.synchronise()

    @property
    def loss(self) -> float:
        """Always 0: an emulated step has no loss."""
        return 0.0


def step_time_of(model: keras.Model) -> StepTime | None:
    """The time of a model's emulated step; None for a real one."""
    return model.step_time if isinstance(model, EmulatedModel) else None


def known_step(model: keras.Model, examples: int) -> StageCost | None:
    """Cost per example of an emulated step, which needs no measuring; None for a real one."""
    step = step_time_of(model)
    return None if step is None else StageCost(wall_s=step.seconds(examples) / examples, cpu_s=0.0)


def feed_of(
    model: keras.Model, dataset: tf.data.Dataset, *, autotuned: bool = False
) -> TrainingFeed:
    """The feed that consumes a dataset with a model's real or emulated steps."""
    kind = EmulatedFeed if isinstance(model, EmulatedModel) else TrainingFeed
    return kind(model, dataset, autotuned=autotuned)

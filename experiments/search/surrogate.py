"""Predicts what a trial will measure, corrected by the trials so far. Pure.

The stages are measured alone, so the prediction is wrong about some kinds of configurations:
threads that the host has no room for, or processes that share a disk. A Gaussian process models the
logarithm of measured over predicted, over the axes of the space, so a trial corrects most what is
similar to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from prefetch_tuning.experiments.search.gaussian_process import Floats, Guess, fitted
from prefetch_tuning.experiments.search.prediction import examples_held
from prefetch_tuning.experiments.search.space import Axis, SearchSpace
from prefetch_tuning.objectives.objective import Objective, Reading
from prefetch_tuning.pipelines.config import UNBOUNDED, PipelineConfig

# How many doublings it counts to switch a setting on.
SWITCH = 3.0
# A doubling of these counts less: a buffer twice as large hardly changes anything.
COUNTS = {"prefetch_buffer": 0.1, "max_queue_size": 0.1}
# A trial that failed counts as the worst that was measured, and at least this much worse than
# predicted, as a logarithm. So the search turns elsewhere.
FAILED = -1.0
# The process is fitted to so many trials at most: the best ones and the latest ones, half each.
MOST_TRIALS = 60


class Tried(NamedTuple):
    """A trial; its reading is None if it failed, or if it is still running."""

    config: PipelineConfig
    reading: Reading | None
    lacked_device_memory: bool = False
    running: bool = False


class Point(NamedTuple):
    """A configuration, its place among the others in doublings, and what is predicted of it."""

    config: PipelineConfig
    place: list[float]
    predicted: Reading


class Surrogate:
    """Says how promising configurations are."""

    def __init__(
        self,
        space: SearchSpace,
        goal: Objective,
        predict: Callable[[PipelineConfig], Reading],
        memory_limit_mib: float | None = None,
    ) -> None:
        """`predict` gives what a configuration is predicted to reach, before any trial."""
        self._space, self._goal, self._predict = space, goal, predict
        self._limit_mib = memory_limit_mib
        self._sign = 1.0 if goal.direction == "maximize" else -1.0

    def point(self, config: PipelineConfig) -> Point:
        """What is known of a configuration before its trial."""
        place = [math.log2(config.batch_size)]
        place += [
            COUNTS.get(axis.name, 1.0) * _doublings(axis, getattr(config, axis.name))
            for axis in self._space.axes
        ]
        return Point(config, place, self._predict(config))

    def promises(self, trials: Sequence[Tried], points: Sequence[Point]) -> Floats:
        """How promising each configuration is after these trials; only their order means anything.

        It is the expected improvement over the best trial, times the probability that the
        configuration reaches the target and stays within the memory limit.
        """
        # One that lacked the GPU's memory says nothing of smaller batches.
        told = telling([t for t in trials if not t.lacked_device_memory], self._goal)
        if not told:
            return np.zeros(len(points))
        allowed = self._allowed(told, points)
        usable = [number for number, trial in enumerate(told) if self._is_usable(trial.reading)]
        if not usable:
            return allowed
        at_trials, at_points = self._corrected(told, points, self._log_value)
        # The best trial was partly lucky, so the bar is what the model expects of it.
        return allowed + at_points.log_gain(float(at_trials.mean[usable].max()))

    def _allowed(self, told: Sequence[Tried], points: Sequence[Point]) -> Floats:
        """Logarithm of the probability that nothing rules a configuration out."""
        found = np.zeros(len(points))
        if self._goal.target is not None:
            _, rate = self._corrected(told, points, _log_rate)
            step = [self._goal.target * point.predicted.step_examples_per_s for point in points]
            found += Guess(-rate.mean, rate.spread).log_chance_below(-np.log(step))
        if self._limit_mib is not None:
            memory = self._memory(told, points)
            found += memory.log_chance_below(np.full(len(points), math.log(self._limit_mib)))
        return found

    def _is_usable(self, reading: Reading | None) -> bool:
        if reading is None or self._goal.shortfall(reading) > 0.0:
            return False
        return self._limit_mib is None or (reading.host_peak_mib or 0.0) <= self._limit_mib

    def _corrected(
        self, told: Sequence[Tried], points: Sequence[Point], log_of: Callable[[Reading], float]
    ) -> tuple[Guess, Guess]:
        """The prediction, corrected, at the trials and at the points."""
        own = [self.point(trial.config) for trial in told]
        known = np.array([log_of(point.predicted) for point in own])
        found = np.array([log_of(t.reading) if t.reading else np.inf for t in told])
        failed = np.isinf(found)
        errors = np.where(failed, np.minimum(found.min() - known, FAILED), found - known)
        process = fitted([point.place for point in own], errors)
        at_trials = process([point.place for point in own])
        at_points = process([point.place for point in points])
        predicted = np.array([log_of(point.predicted) for point in points])
        return (
            Guess(known + at_trials.mean, at_trials.spread),
            Guess(predicted + at_points.mean, at_points.spread),
        )

    def _memory(self, told: Sequence[Tried], points: Sequence[Point]) -> Guess:
        """Peak memory in MiB, which isn't predicted, from the trials alone."""
        known = {t.config: t.reading.host_peak_mib or 0.0 for t in told if t.reading is not None}
        if not known:
            return Guess(np.zeros(len(points)), np.ones(len(points)))
        logs = np.log(np.maximum(list(known.values()), 1.0))
        own = [_by_memory(self.point(config)) for config in known]
        return fitted(own, logs)([_by_memory(point) for point in points])

    def _log_value(self, reading: Reading) -> float:
        """Logarithm of the study's objective, so that higher is better."""
        return self._sign * math.log(max(self._goal.value(reading), 1e-12))


def _log_rate(reading: Reading) -> float:
    return math.log(max(reading.examples_per_s, 1e-12))


def _by_memory(point: Point) -> list[float]:
    """The place of a configuration where buffers count: each doubling of the examples held."""
    return [*point.place, math.log2(examples_held(point.config))]


def telling(trials: Sequence[Tried], goal: Objective) -> list[Tried]:
    """The trials that the process is fitted to: at most `MOST_TRIALS`, the best and the latest."""
    if len(trials) <= MOST_TRIALS:
        return list(trials)
    earlier, latest = trials[: -MOST_TRIALS // 2], trials[-MOST_TRIALS // 2 :]
    measured = [trial for trial in earlier if trial.reading is not None]
    measured.sort(key=lambda trial: goal.order(trial.reading))  # type: ignore[arg-type]
    return [*measured[: MOST_TRIALS // 2], *latest]


def _doublings(axis: Axis, value: Any) -> float:
    if isinstance(value, bool):
        return SWITCH * value
    if value == UNBOUNDED:
        return SWITCH + math.log2(2 * max(v for v in axis.choices if isinstance(v, int)) + 1)
    switched_on = SWITCH if axis.choices and value else 0.0
    return switched_on + math.log2(float(value) + (1.0 if axis.choices else 0.0))

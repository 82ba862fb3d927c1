"""An Optuna sampler that starts from the prediction and learns from the trials."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from prefetch_tuning.experiments.search.first_trials import (
    candidates,
    is_pointless,
    switched_on,
)
from prefetch_tuning.experiments.search.space import SearchSpace
from prefetch_tuning.experiments.search.surrogate import Point, Surrogate, Tried
from prefetch_tuning.objectives.objective import Objective
from prefetch_tuning.pipelines.config import PipelineConfig

# Random configurations that are considered for a trial, beside the points of the prediction.
RANDOM = 300
# The best trials whose neighbours are considered.
NEIGHBOURS_OF = 3
# So many failed trials, and none that worked, rule a structural feature out.
BROKEN = 2


class PredictionSampler(optuna.samplers.BaseSampler):
    """Chooses the most promising configuration, and none a second time.

    Args:
        space: the study's search space.
        goal: the study's objective.
        surrogate: says how promising a configuration is.
        trials: gives the finished trials, in order, and those that are running.
        seed: for the random configurations that are considered.
    """

    def __init__(
        self,
        space: SearchSpace,
        goal: Objective,
        surrogate: Surrogate,
        trials: Callable[[], Sequence[Tried]],
        seed: int,
    ) -> None:
        self._space, self._goal = space, goal
        self._surrogate, self._trials = surrogate, trials
        self._random = random.Random(seed)  # noqa: S311 - the search needs no secrets
        self._independent = optuna.samplers.RandomSampler(seed)
        self._points = [surrogate.point(config) for config in candidates(space)]

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All settings together; one alone says little."""
        del study, trial
        return self._space.distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The parameters of the most promising configuration; none if every one was tried.

        An enqueued trial has some of them already, which are kept.
        """
        del study
        fixed: dict[str, Any] = trial.system_attrs.get("fixed_params", {})
        if fixed.keys() >= search_space.keys():
            return {}
        begun = self._trials()
        trials = [trial for trial in begun if not trial.running]
        seen = {trial.config for trial in begun}
        points = [point for point in self._considered(trials, seen) if _has(point.config, fixed)]
        if not points:
            return {}
        # In random order, the seed decides between equals.
        self._random.shuffle(points)
        best = int(np.argmax(self._surrogate.promises(trials, points))) if trials else 0
        return dict(self._space.params(points[best].config))

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """A random value, where `sample_relative` had none."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def _considered(self, trials: Sequence[Tried], seen: set[PipelineConfig]) -> Iterator[Point]:
        """The points of the prediction, random ones, and the neighbours of the best trials."""
        broken = broken_switches(trials)
        lacking = [t.config.batch_size for t in trials if t.lacked_device_memory]
        # Larger batches take more of the GPU's memory.
        largest = min(lacking, default=max(self._space.batch_sizes) + 1)

        def is_open(config: PipelineConfig) -> bool:
            if config in seen or config.batch_size >= largest:
                return False
            return not broken or broken.isdisjoint(switched_on(config))

        yield from (point for point in self._points if is_open(point.config))
        for config in dict.fromkeys(self._found(trials)):
            if is_open(config) and not is_pointless(config):
                yield self._surrogate.point(config)

    def _found(self, trials: Sequence[Tried]) -> Iterator[PipelineConfig]:
        for _ in range(RANDOM):
            yield self._space.config_of(self._space.random_params(self._random))
        measured = [trial for trial in trials if trial.reading is not None]
        measured.sort(key=lambda trial: self._goal.order(trial.reading))  # type: ignore[arg-type]
        for trial in measured[:NEIGHBOURS_OF]:
            yield from self._space.neighbours(trial.config)


def broken_switches(trials: Sequence[Tried]) -> set[str]:
    """The structural features with which at least `BROKEN` trials failed and none worked.

    If everything failed, no feature is to blame.
    """
    failed, worked = Counter[str](), set[str]()
    for trial in trials:
        if trial.reading is not None:
            worked.update(switched_on(trial.config))
        elif not trial.lacked_device_memory:
            failed.update(switched_on(trial.config))
    if all(trial.reading is None for trial in trials):
        return set()
    return {name for name, times in failed.items() if times >= BROKEN and name not in worked}


def _has(config: PipelineConfig, fixed: dict[str, Any]) -> bool:
    return all(getattr(config, name) == value for name, value in fixed.items())
